"""One label a pair from those of several annotators: by majority, or by Dawid and Skene's model (1979).

    majority      the label that most annotators gave. If two labels come first together, there is none: annotators who split
                  are not annotators who call it a tie. The probability is the share of the labels that are this one
    dawid_skene   each annotator has a confusion matrix: how often they give each label if another one is true. The matrices
                  and the true labels are estimated together, by expectation and maximisation from the shares of the labels on.
                  Good annotators then count more, one who always says A counts nothing, and one who swaps A and B counts in
                  reverse. The probability is that of the label, given all labels; two equal ones give none

Both are the same for the same labels in any order. `unsure` is no label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from stj.evals.agreement import Votes
from stj.evals.bootstrap import Array
from stj.sources.annotations import Annotations, Ints

Method = Literal["majority", "dawid_skene"]
METHODS: tuple[Method, ...] = ("majority", "dawid_skene")
NO_LABEL = -1
"""The label of a pair without one."""
MOST_STEPS = 200
"""Steps after which the estimate ends; most files need fewer than 50."""
_ENOUGH = 1e-9  # Gain of the log-likelihood in a step, as a share of it, at which the labels no longer change.
_EQUAL = 1e-6  # Difference of two probabilities below which neither label comes first.


@dataclass(frozen=True, kw_only=True)
class Aggregated:
    """One label for each pair."""

    label: Ints
    """By its place among the labels; NO_LABEL if the pair has none."""
    probability: Array
    """NaN if the pair has no label."""
    split: int
    """Number of pairs with labels of which two come first together."""
    empty: int
    """Number of pairs without labels."""


class Model(NamedTuple):
    """What Dawid and Skene's model estimates."""

    posterior: Array
    """The probability of each label of each pair that has labels."""
    prior: Array
    """The share of each label among the true ones."""
    confusion: Array
    """For each annotator the probability of each label (columns) where a label is true (rows); NaN if they met no such pair."""
    log_likelihood: Sequence[float]
    """After each step."""
    converged: bool
    """Whether the likelihood stopped growing before MOST_STEPS."""

    def accuracy(self, annotator: int) -> float:
        """The probability that an annotator gives the true label of a pair like these."""
        right = np.diagonal(self.confusion[annotator])
        known = np.isfinite(right)
        return float(right[known] @ self.prior[known] / self.prior[known].sum())


def majority(annotations: Annotations) -> Aggregated:
    """The label of each pair that most annotators gave."""
    pairs, shares = _shares(annotations)
    return _aggregated(annotations.pairs, pairs, shares)


def dawid_skene(annotations: Annotations) -> tuple[Aggregated, Model]:
    """The most probable label of each pair, and the model behind it."""
    pairs, shares = _shares(annotations)
    votes = Votes.of(annotations)
    row = np.searchsorted(pairs, votes.pair)
    model = estimate(row, votes.annotator, votes.label, shares, len(annotations.annotators))
    return _aggregated(annotations.pairs, pairs, model.posterior), model


def estimate(row: Ints, annotator: Ints, label: Ints, shares: Array, annotators: int) -> Model:
    """Dawid and Skene's model by expectation and maximisation; it begins with these shares of the labels of each pair.

    No step lowers the likelihood of the labels.
    """
    posterior, history = shares, list[float]()
    while True:
        prior = posterior.mean(axis=0)
        confusion = _confusion(row, annotator, label, posterior, annotators)
        with np.errstate(divide="ignore"):
            log_joint = np.log(prior) + _log_given(row, np.log(confusion), annotator, label, len(shares))
        most = log_joint.max(axis=1, keepdims=True)
        joint = np.exp(log_joint - most)
        history.append(float((np.log(joint.sum(axis=1)) + most[:, 0]).sum()))
        posterior = joint / joint.sum(axis=1, keepdims=True)
        converged = len(history) > 1 and history[-1] - history[-2] <= _ENOUGH * abs(history[-1])
        if converged or len(history) == MOST_STEPS:
            return Model(posterior, prior, confusion, history, converged)


def _confusion(row: Ints, annotator: Ints, label: Ints, posterior: Array, annotators: int) -> Array:
    """The shares of the labels that each annotator gave, for each true label; NaN where there are none."""
    labels = posterior.shape[1]
    cells = annotator * labels + label
    counts = np.stack(
        [
            np.bincount(cells, weights=posterior[row, true], minlength=annotators * labels).reshape(annotators, labels)
            for true in range(labels)
        ],
        axis=1,
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(counts / counts.sum(axis=2, keepdims=True))


def _log_given(row: Ints, log_confusion: Array, annotator: Ints, label: Ints, pairs: int) -> Array:
    """The log-probability of the labels of each pair, for each true label."""
    # Where an annotator met no pair with this true label, the label's probability is 0 in all their pairs, and stays so.
    known = np.where(np.isnan(log_confusion), -np.inf, log_confusion)
    given = [np.bincount(row, weights=known[annotator, true, label], minlength=pairs) for true in range(known.shape[1])]
    return np.stack(given, axis=1)


def _shares(annotations: Annotations) -> tuple[Ints, Array]:
    """The pairs with labels, and the share of each label among those of the pair."""
    votes, labels = Votes.of(annotations), len(annotations.labels)
    pairs, row = np.unique(votes.pair, return_inverse=True)
    counts = np.bincount(row * labels + votes.label, minlength=len(pairs) * labels).reshape(len(pairs), labels)
    return pairs, counts / counts.sum(axis=1, keepdims=True)


def _aggregated(total: int, pairs: Ints, probabilities: Array) -> Aggregated:
    best = probabilities.max(axis=1)
    alone = (probabilities > best[:, None] - _EQUAL).sum(axis=1) == 1
    label, probability = np.full(total, NO_LABEL, dtype=np.int64), np.full(total, np.nan)
    label[pairs[alone]] = probabilities.argmax(axis=1)[alone]
    probability[pairs[alone]] = best[alone]
    return Aggregated(label=label, probability=probability, split=int((~alone).sum()), empty=total - len(pairs))
