"""How probable it is that the label of a pair is wrong, given the verdicts of several judges (after Dawid and Skene, 1979).

The label is one more annotator. How many of a judge's samples agree with the label, in five classes from none to all, has one
distribution for right labels. For wrong labels it is the same distribution turned around: a judge does not know the label. The
distribution of each judge and the share of wrong labels are estimated together, by expectation and maximisation.

With one judge, its errors and wrong labels look the same: two are the fewest. Judges are taken to err independently. Those
that err together on hard pairs make such pairs look wrongly labelled, and `planted_auroc` does not show that.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stj.randomness import uniform

Floats = NDArray[np.float64]
FEWEST_JUDGES = 2
PLANTED = 0.1
"""Share of the labels that are turned around to check the flag: few, so that most of the others are as they were."""
_FEWEST_PLANTED = 10  # With fewer, the AUROC is one of a few numbers, and often 1 by luck.
_CLASSES = 5  # Odd, so that as many samples for as against the label have a class of their own, which says nothing.
_SEEN = np.array([0.8, 0.4, 0.4, 0.8, 1.6])  # Pairs of each class before any is seen: a few pairs make no perfect judge.
_WRONG = (1.0, 9.0)  # Wrong and right labels before any is seen: most labels are right, or nothing could be learned.
_STEPS = 500
_ENOUGH = 1e-9  # Change of the greatest probability in a step at which the estimate ends.


@dataclass(frozen=True, kw_only=True)
class NoiseEstimate:
    """What the verdicts say about the labels."""

    wrong: Floats
    """Probability that the label of each pair is wrong; that of any pair for one without verdicts."""
    share: float
    """Share of wrong labels."""
    accuracy: tuple[float, ...]
    """Of each judge."""


def estimate_noise(agreeing: Floats) -> NoiseEstimate:
    """The labels' probabilities from the share of each judge's samples that agree with them, (pairs, judges); NaN for none."""
    seen = _classes(agreeing)  # (pairs, judges, classes), 1 in the class of each pair
    turned = seen[:, :, ::-1]
    share = _WRONG[0] / sum(_WRONG)
    of_right = np.tile(_SEEN / _SEEN.sum(), (agreeing.shape[1], 1))  # (judges, classes)
    wrong = np.full(len(agreeing), share)
    for _ in range(_STEPS):
        evidence = np.einsum("pjc,jc->p", seen, np.log(of_right) - np.log(of_right[:, ::-1]))
        before, wrong = wrong, 1 / (1 + np.exp(np.clip(evidence - np.log(share / (1 - share)), -500, 500)))
        if len(wrong) == 0 or np.abs(wrong - before).max() < _ENOUGH:
            break
        share = float((wrong.sum() + _WRONG[0]) / (len(wrong) + sum(_WRONG)))
        counts = np.einsum("p,pjc->jc", 1 - wrong, seen) + np.einsum("p,pjc->jc", wrong, turned) + _SEEN
        of_right = np.array([_better_than_chance(judge) for judge in counts / counts.sum(axis=1, keepdims=True)])
    return NoiseEstimate(wrong=wrong, share=share, accuracy=tuple(float(_accuracy(judge)) for judge in of_right))


def _classes(agreeing: Floats) -> Floats:
    """1 in the class of each pair for each judge, 0 in the others; all 0 for a pair that the judge has not judged."""
    known = np.isfinite(agreeing)
    of = np.floor(np.where(known, agreeing, 0.5) * _CLASSES).clip(0, _CLASSES - 1)
    high = np.ceil(np.where(known, agreeing, 0.5) * _CLASSES) - 1
    of = np.where(agreeing > 0.5, of, high.clip(0, _CLASSES - 1))  # a share on an edge turns around to the mirrored class
    return np.asarray((np.arange(_CLASSES) == of[:, :, None]) & known[:, :, None], dtype=np.float64)


def _accuracy(judge: Floats) -> float:
    """The share of pairs whose samples are mostly right; as many right as wrong ones count one half."""
    return float(judge[_CLASSES // 2 + 1 :].sum() + judge[_CLASSES // 2] / 2)


def _better_than_chance(judge: Floats) -> Floats:
    """The distribution of a judge; one below chance says nothing, or the labels' meaning would turn around."""
    return judge if _accuracy(judge) >= 0.5 else (judge + judge[::-1]) / 2


def planted_auroc(agreeing: Floats, seed: int) -> float | None:
    """How well the flag finds labels that were turned around on purpose; None with too few verdicts to plant and find them.

    It is the probability that one of them has a higher probability of being wrong than one of the others, which hold what was
    wrong before: so it is a lower bound.
    """
    agreeing = agreeing[np.isfinite(agreeing).any(axis=1)]  # Turning the label of a pair without verdicts changes nothing.
    planted = np.array([uniform(seed, str(place), "planted") < PLANTED for place in range(len(agreeing))], dtype=bool)
    if min(planted.sum(), (~planted).sum()) < _FEWEST_PLANTED:
        return None
    turned = np.where(planted[:, None], 1 - agreeing, agreeing)
    return auroc(estimate_noise(turned).wrong, planted)


def auroc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The probability that a positive has a higher score than a negative; equal scores count one half."""
    from scipy.stats import rankdata

    positives = int(positive.sum())
    negatives = len(scores) - positives
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))
