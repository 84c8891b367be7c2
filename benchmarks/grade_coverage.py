"""How often 95% intervals of the figures of grades hold the truth: BCa's, and those of percentiles.

The truth is the figure of all 320 grades of Prometheus's Vicuna set: GPT-4's first run, against the mean of the other two. Each
sample draws some of them with replacement. Needs STJ_TEST_DATA, and takes about 3 minutes.

    python benchmarks/grade_coverage.py
"""

import json
import os
import random
from pathlib import Path

import numpy as np

from stj.evals import grade_intervals
from stj.evals.bootstrap import resamples
from stj.evals.grade_figures import FIGURES, SHARES, Graded, Sample, figure, weighted

SAMPLES = 500
SIZES = (10, 20, 50, 200)


def main() -> None:
    """Prints a line for each size and figure."""
    data = Path(os.environ["STJ_TEST_DATA"]) / "prometheus_vicuna" / "vicuna_eval.json"
    runs = [row["gpt4_score"] for row in json.loads(data.read_text())]
    rows = [Graded(float(first), (second + third) / 2) for first, second, third in runs]
    names = [name for name in FIGURES if name not in SHARES]
    truth = {name: figure(name, Sample.of(rows)) for name in names}
    chance = random.Random(0)
    print("rows  figure                 BCa  percentiles  without interval")
    for size in SIZES:
        held = {name: [0, 0, 0] for name in names}
        for _ in range(SAMPLES):
            sample = Sample.of(chance.choices(rows, k=size))
            found, _ = grade_intervals.intervals(sample)
            drawn = np.concatenate(list(resamples(sample.counts)))
            for name in names:
                if (bca := found[name]) is None:
                    held[name][2] += 1
                    continue
                low, high = np.nanquantile(weighted(name, sample, drawn), [0.025, 0.975])
                held[name][0] += bca[0] <= truth[name] <= bca[1]
                held[name][1] += low <= truth[name] <= high
        for name, (bca, percentiles, without) in held.items():
            known = SAMPLES - without
            print(f"{size:4}  {name:20}  {bca / known:.3f}  {percentiles / known:11.3f}  {without / SAMPLES:16.3f}", flush=True)


if __name__ == "__main__":
    main()
