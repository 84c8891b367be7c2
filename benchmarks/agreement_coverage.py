"""How often 95% intervals of agreement hold the truth: of percentage, Krippendorff's alpha and Cohen's kappa.

The truth is that of 20,000 pairs with labels by three planted annotators. Each sample draws some of the pairs. Takes about 2
minutes.

    python benchmarks/agreement_coverage.py
"""

import numpy as np

from stj.evals.agreement import Figure, alpha, kappa, percentage
from stj.sources.annotations import Ints

SAMPLES = 1_000
SIZES = (10, 20, 50, 200)
PAIRS = 20_000
SURE = (0.85, 0.75, 0.6)
"""How often each annotator knows the label; otherwise they give any of the three."""


def main() -> None:
    """Prints a line for each size: the share of the intervals that hold the truth, and of the samples that have one."""
    chance = np.random.default_rng(0)
    labels = planted(chance)
    truth = figures(labels)
    print("pairs   " + "".join(f"{name:>12} known" for name in truth))
    for size in SIZES:
        samples = [figures(labels[:, chance.choice(PAIRS, size)]) for _ in range(SAMPLES)]
        cells = ""
        for name, whole in truth.items():
            ends = [interval for sample in samples if (interval := sample[name].ci95)]
            held = np.mean([low <= whole.value <= high for low, high in ends])
            cells += f"{held:12.3f} {len(ends) / SAMPLES:5.3f}"
        print(f"{size:5}   {cells}", flush=True)


def planted(chance: np.random.Generator) -> Ints:
    """The labels of each annotator (rows) for each pair."""
    truth = chance.choice(3, size=PAIRS, p=[0.45, 0.1, 0.45])
    return np.stack([np.where(chance.random(PAIRS) < sure, truth, chance.integers(0, 3, PAIRS)) for sure in SURE])


def figures(labels: Ints) -> dict[str, Figure]:
    """The figures of all annotators, and the kappa of the first two."""
    counts = (labels[:, :, None] == np.arange(3)).sum(axis=0)
    table = np.bincount(labels[0] * 3 + labels[1], minlength=9).reshape(3, 3)
    return {"percentage": percentage(counts), "alpha": alpha(counts), "kappa": kappa(table)}


if __name__ == "__main__":
    main()
