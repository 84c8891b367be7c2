"""One label from several: by majority, and by Dawid and Skene's model on their own data and on planted annotators."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given

from stj.evals.aggregation import MOST_STEPS, NO_LABEL, Aggregated, dawid_skene, estimate, majority
from tests.evals.test_agreement import Table, annotated, by_annotator, tables

ANAESTHETISTS = """
111/1111 333/4334 112/2122 222/3121 222/3222 222/3322 122/2111 333/3433 222/2223 232/2223 444/4444 222/3343 111/1111 222/3212
121/1111 111/2111 111/1111 111/1111 222/2221 222/1322 222/2222 222/2221 222/3222 221/2222 111/1111 111/1111 232/2222 111/1111
111/1111 112/1121 111/1111 333/3233 111/1111 222/2222 222/3232 433/4343 221/2232 232/3233 333/3432 111/1111 111/1111 121/2111
232/2222 121/1111 222/2222
"""
"""Dawid and Skene (1979), Table 1: fitness of 45 patients for anaesthesia, judged thrice by observer 1, once by four others."""


def test_dawid_and_skene_s_own_data() -> None:
    """Their estimates, to two decimals: the shares of the four grades, and the errors of observer 1."""
    patients = [patient.split("/") for patient in ANAESTHETISTS.split()]
    given = [
        (patient, observer, int(grade) - 1)
        for patient, (first, others) in enumerate(patients)
        for observer, grade in [*((0, grade) for grade in first), *enumerate(others, start=1)]
    ]
    row, observer, grade = np.array(given).T
    shares = np.stack([np.bincount(row, weights=grade == true, minlength=45) for true in range(4)], axis=1) / 7
    model = estimate(row, observer, grade, shares, 5)
    assert len(patients) == 45
    assert model.converged
    assert model.prior == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.005)
    errors = [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]
    assert model.confusion[0] == pytest.approx(np.array(errors), abs=0.005)


def random_labels(chance: np.random.Generator, truth: np.ndarray, right: float) -> list[int]:
    """Labels that are right this often, and else one of the two others."""
    wrong = (truth + chance.integers(1, 3, size=len(truth))) % 3
    return np.where(chance.random(len(truth)) < right, truth, wrong).tolist()  # type: ignore[no-any-return]


def share_right(aggregated: Aggregated, truth: np.ndarray) -> float:
    return float((aggregated.label == truth).mean())


@pytest.mark.parametrize("seed", range(5))
def test_planted_annotators_are_found_out(seed: int) -> None:
    """Two good annotators, a poor one, two who always say A and one who swaps A and B, on 400 pairs."""
    chance = np.random.default_rng(seed)
    truth = chance.choice(3, size=400, p=[0.45, 0.1, 0.45])
    answer = partial(random_labels, chance, truth)
    inverted = [2 - label for label in answer(0.9)]
    table: Table = [answer(0.9), answer(0.9), answer(0.5), [0] * 400, [0] * 400, inverted]
    annotations = annotated(table)
    voted, (estimated, model) = majority(annotations), dawid_skene(annotations)
    assert share_right(voted, truth) < 0.75
    assert share_right(estimated, truth) > 0.9
    assert model.converged
    accuracy = [model.accuracy(annotator) for annotator in range(6)]
    of_each = [(np.array(given) == truth).mean() for given in table]
    assert accuracy == pytest.approx(of_each, abs=0.08)
    for always_a in (3, 4):
        assert model.confusion[always_a] == pytest.approx(np.array([[1, 0, 0]] * 3))
    assert model.confusion[5][0][2] > 0.75  # The one who swaps says B where A is true.


@given(tables)
def test_no_step_lowers_the_likelihood(pairs: Sequence[Sequence[int | None]]) -> None:
    if all(label is None for pair in pairs for label in pair):
        return
    annotations = annotated(by_annotator(pairs))
    aggregated, model = dawid_skene(annotations)
    steps = np.diff(model.log_likelihood)
    assert (steps >= -1e-9 * np.abs(model.log_likelihood[-1]) - 1e-12).all()
    assert len(model.log_likelihood) <= MOST_STEPS
    assert model.posterior.sum(axis=1) == pytest.approx(1)
    assert model.prior.sum() == pytest.approx(1)
    known = model.confusion[np.isfinite(model.confusion).all(axis=2)]
    assert known.sum(axis=1) == pytest.approx(1)
    labelled = [any(label is not None for label in pair) for pair in pairs]
    assert aggregated.empty == labelled.count(False)
    assert np.isfinite(aggregated.probability).tolist() == (aggregated.label != NO_LABEL).tolist()


@given(tables)
def test_the_order_of_the_pairs_changes_no_label(pairs: Sequence[Sequence[int | None]]) -> None:
    if all(label is None for pair in pairs for label in pair):
        return
    forward, back = (annotated(by_annotator(rows)) for rows in (pairs, pairs[::-1]))
    assert (majority(forward).label == majority(back).label[::-1]).all()
    assert dawid_skene(forward)[1].posterior == pytest.approx(dawid_skene(back)[1].posterior[::-1], abs=1e-4)


@given(tables)
def test_annotators_who_all_agree_are_believed(pairs: Sequence[Sequence[int | None]]) -> None:
    agreed = [[next((label for label in pair if label is not None), None)] * len(pair) for pair in pairs]
    annotations = annotated(by_annotator(agreed))
    if not len(annotations.label):
        return
    expected = [NO_LABEL if pair[0] is None else pair[0] for pair in agreed]
    for aggregated in (majority(annotations), dawid_skene(annotations)[0]):
        assert aggregated.label.tolist() == expected
        assert set(aggregated.probability[aggregated.label != NO_LABEL].round(9)) == {1.0}


def test_a_split_is_no_tie_and_unsure_is_no_label() -> None:
    # Of five pairs: most say B; all say tie (1); A against B; A and unsure; nobody can tell.
    table = ((2, 1, 0, 0, -1), (2, 1, 2, -1, -1), (0, 1, None, -1, -1))
    aggregated = majority(annotated(table))
    assert aggregated.label.tolist() == [2, 1, NO_LABEL, 0, NO_LABEL]
    assert aggregated.probability.tolist() == pytest.approx([2 / 3, 1, np.nan, 1, np.nan], nan_ok=True)
    assert (aggregated.split, aggregated.empty) == (1, 1)


def test_two_annotators_alone_cannot_be_told_apart() -> None:
    table = ((0, 2) * 5 + (0, 2), (0, 2) * 5 + (2, 0))
    aggregated, _ = dawid_skene(annotated(table))
    assert aggregated.label.tolist() == [0, 2] * 5 + [NO_LABEL] * 2
    assert aggregated.split == 2


def test_one_label_of_an_annotator_says_nothing() -> None:
    """Someone's only label agrees with itself, whatever is true, so it moves no probability."""
    table: Table = ((0, 0, 2, 2, 0), (0, 0, 2, 2, 2), (0, 2, 2, 2, 2))
    alone: Table = (*table, (2, None, None, None, None))
    without, with_it = (dawid_skene(annotated(rows))[1] for rows in (table, alone))
    assert with_it.posterior[1:] == pytest.approx(without.posterior[1:], abs=0.1)
    assert with_it.posterior[0].argmax() == 0
