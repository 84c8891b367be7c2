"""Percentage, alpha and kappa: published examples, what must hold of any labels, and figures without a meaning."""

from collections.abc import Sequence
from itertools import combinations
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.evals.agreement import Figure, Votes, agreement, alpha, annotator_figures, kappa, label_counts, percentage
from stj.sources.annotations import Annotations, Ints

Table = Sequence[Sequence[int | None]]
"""The label of each annotator (rows) for each pair (columns); None without one."""

KRIPPENDORFF: Table = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)
"""Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C."""
TWO_BY_TWO = ((20, 5), (10, 15))
"""The usual example of Cohen's kappa: two readers of 50 grant proposals."""
FLEISS = (
    *((0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1)),
    *((7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7)),
)
"""A usual example of Fleiss' kappa, 0.210: how many of 14 raters gave each of 5 labels to each of 10 subjects."""

tables = st.integers(2, 4).flatmap(
    lambda annotators: st.lists(
        st.lists(st.sampled_from([0, 1, 2, None]), min_size=annotators, max_size=annotators), min_size=1, max_size=12
    )
)
"""The labels of each pair, by annotator."""


def votes(table: Table) -> Votes:
    given = [(pair, who, label) for who, row in enumerate(table) for pair, label in enumerate(row) if label is not None]
    pair, annotator, label = np.array(sorted(given), dtype=np.int64).reshape(-1, 3).T
    return Votes(pair, annotator, label)


def counts(table: Table, labels: int) -> Ints:
    return label_counts(votes(table), labels)[1]


def by_annotator(pairs: Sequence[Sequence[int | None]]) -> Table:
    return list(zip(*pairs, strict=True))


def annotated(table: Table, labels: int = 3) -> Annotations:
    """Annotations of a table, in which -1 is `unsure`."""
    read = votes(table)
    pairs = len(table[0])
    return Annotations(
        labels=tuple("ABCDEF"[:labels]),
        annotators=tuple(f"ann{n}" for n in range(len(table))),
        groups=(),
        pairs=pairs,
        group=np.full(pairs, -1),
        place=np.arange(pairs),
        with_texts=0,
        pair=read.pair,
        annotator=read.annotator,
        label=read.label,
        replaced=0,
    )


def test_alpha_of_krippendorff_s_own_example() -> None:
    figure = alpha(counts(KRIPPENDORFF, 6))
    assert figure.value == pytest.approx(0.743, abs=5e-4)
    assert figure.ci95
    assert figure.ci95[0] < 0.743 < figure.ci95[1] < 1


def test_ordinal_alpha_of_krippendorff_s_own_example() -> None:
    """Computing Krippendorff's alpha-reliability (2011), section D: 0.743 without an order, 0.815 with it."""
    figure = alpha(counts(KRIPPENDORFF, 6), ordinal=True)
    assert figure.value == pytest.approx(0.815, abs=5e-4)
    assert figure.ci95
    assert figure.ci95[0] < 0.815 < figure.ci95[1] < 1


@given(tables)
def test_ordinal_alpha_is_that_of_its_definition(pairs: Sequence[Sequence[int | None]]) -> None:
    """The squared distance of labels c < k is (n_c / 2 + n_(c+1) + ... + n_(k-1) + n_k / 2) squared."""
    units = [[label for label in pair if label is not None] for pair in pairs]
    several = [unit for unit in units if len(unit) > 1]
    figure = alpha(counts(by_annotator(pairs), 3), ordinal=True)
    labels = [label for unit in several for label in unit]
    if len(several) < 2 or len(set(labels)) < 2:
        assert figure.value is None
        return
    totals = [labels.count(label) for label in range(3)]

    def squared(first: int, second: int) -> float:
        low, high = sorted((first, second))
        return (sum(totals[low : high + 1]) - (totals[low] + totals[high]) / 2) ** 2

    observed = sum(2 * squared(*two) / (len(unit) - 1) for unit in several for two in combinations(unit, 2))
    by_chance = sum(2 * squared(*two) for two in combinations(labels, 2)) / (len(labels) - 1)
    assert figure.value == pytest.approx(1 - observed / by_chance)
    two_labels = len(set(labels)) == 2
    if two_labels:  # with two labels there is one distance only
        assert figure.value == pytest.approx(alpha(counts(by_annotator(pairs), 3)).value)


def test_kappa_of_the_usual_example() -> None:
    figure = kappa(np.array(TWO_BY_TWO))
    assert figure.value == pytest.approx(0.4)
    # Fleiss, Cohen and Everitt's standard error is 0.126, so the normal interval is [0.153, 0.647].
    assert figure.ci95 == pytest.approx((0.153, 0.647), abs=0.02)


def test_alpha_is_fleiss_kappa_corrected_for_few_labels() -> None:
    """Alpha is Fleiss' kappa plus (1 - kappa) / n, for n labels in all."""
    figure = alpha(np.array(FLEISS))
    assert figure.value == pytest.approx(0.210 + (1 - 0.210) / 140, abs=1e-3)


@given(tables)
def test_figures_are_those_of_their_definitions(pairs: Sequence[Sequence[int | None]]) -> None:
    """Krippendorff's definition by pairs of labels: each two labels of a unit of m weigh 1 / (m - 1)."""
    table = by_annotator(pairs)
    units = [[label for label in pair if label is not None] for pair in pairs]
    several = [unit for unit in units if len(unit) > 1]
    equal = [first == second for unit in several for first, second in combinations(unit, 2)]
    share = percentage(counts(table, 3))
    assert share.value == (pytest.approx(mean(equal)) if equal else None)
    values = [label for unit in several for label in unit]
    observed = [
        (a != b) / (len(unit) - 1) for unit in several for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j
    ]
    expected = [a != b for i, a in enumerate(values) for j, b in enumerate(values) if i != j]
    figure = alpha(counts(table, 3))
    if not any(expected) or len(several) == 1:
        assert figure.value is figure.ci95 is None
        assert figure.why
    else:
        assert figure.value == pytest.approx(1 - sum(observed) / len(values) / mean(expected))


@given(tables, st.permutations(range(3)), st.randoms())
def test_neither_names_nor_order_matter(pairs: list[list[int | None]], names: Sequence[int], chance: object) -> None:
    table = by_annotator(pairs)
    renamed = [[None if label is None else names[label] for label in row] for row in reversed(table)]
    whole, other = (agreement(votes(rows), 3) for rows in (table, renamed))
    assert (other.pairs, other.labels) == (whole.pairs, whole.labels)
    assert other.percentage == whole.percentage
    assert other.alpha.value == pytest.approx(whole.alpha.value)
    kappas = [sorted(two.kappa.value or 0.0 for two in part.twos) for part in (whole, other)]
    assert kappas[0] == pytest.approx(kappas[1])
    shuffled = sorted(pairs, key=lambda _: chance.random())  # type: ignore[attr-defined]
    again = agreement(votes(by_annotator(shuffled)), 3)
    assert (again.alpha, again.percentage) == (whole.alpha, whole.percentage)


@given(tables)
def test_an_interval_holds_its_value(pairs: Sequence[Sequence[int | None]]) -> None:
    repeated = by_annotator(pairs * 4)
    whole = agreement(votes(repeated), 3)
    for figure in (whole.percentage, whole.alpha, *(two.kappa for two in whole.twos)):
        assert figure.value is None or -1 <= figure.value <= 1
        if figure.ci95:
            assert figure.value is not None
            assert figure.ci95[0] <= figure.value <= figure.ci95[1]
        else:
            assert figure.why


@pytest.mark.parametrize(
    ("table", "agreed", "reason"),
    [
        (((0,) * 20, (0,) * 20), 1.0, "all labels are equal"),
        (((0, None), (None, 1)), None, "no pair has labels by two annotators"),
        (((0, None), (1, None), (0, 2)), 1 / 3, "a single pair"),
        (((0, 1, 2), (0, 1, 1)), 2 / 3, "fewer than 10 pairs"),
        (((0, 1) * 10, (0, 1) * 10), 1.0, "all resamples give 1"),
    ],
)
def test_a_figure_without_a_meaning_is_none_and_never_zero(table: Table, agreed: float | None, reason: str) -> None:
    whole = agreement(votes(table), 3)
    assert whole.percentage.value == (None if agreed is None else pytest.approx(agreed))
    assert whole.alpha.ci95 is None
    assert whole.alpha.why == reason
    assert (whole.alpha.value is None) == (reason not in ("fewer than 10 pairs", "all resamples give 1"))


def test_five_of_five_are_not_all_for_sure() -> None:
    assert percentage(counts(((0,) * 5, (0,) * 5), 2)) == Figure(1.0, pytest.approx((0.478, 1.0), abs=1e-3))


def test_two_who_never_agree_are_below_chance() -> None:
    table = ((0, 1) * 10, (1, 0) * 10)
    whole = agreement(votes(table), 2)
    assert whole.percentage.value == 0
    assert whole.alpha.value == pytest.approx(-0.95)  # not -1: no label is dealt out twice
    assert whole.twos[0].kappa.value == -1


def test_kappas_are_of_those_with_the_most_pairs_in_common_first() -> None:
    table = ((0, 1, 0, 1, None, None), (0, 1, 1, 1, 0, 0), (None, None, None, 1, 0, 1), (None,) * 6, (None,) * 5 + (2,))
    twos = agreement(votes(table), 3).twos
    assert [(two.first, two.second, two.pairs) for two in twos] == [(0, 1, 4), (1, 2, 3), (0, 2, 1), (1, 4, 1), (2, 4, 1)]
    assert twos[0].percentage.value == 0.75
    assert twos[0].kappa.value == pytest.approx(0.5)


def test_each_annotator_meets_the_majority_of_the_others() -> None:
    """Where the others are split, as on the third pair, or are silent, nothing is compared."""
    table = ((0, 1, 2, 0, -1), (0, 1, 2, 1, 0), (0, 1, 0, None, 0), (0, 0, None, None, None))
    figures = annotator_figures(annotated(table))
    assert [(whose.labels, whose.unsure, whose.compared) for whose in figures] == [(4, 1, 3), (5, 0, 4), (4, 0, 4), (2, 0, 2)]
    assert [whose.percentage.value for whose in figures] == pytest.approx([2 / 3, 3 / 4, 3 / 4, 1 / 2])
    assert figures[0].shares == pytest.approx([0.5, 0.25, 0.25])
    assert figures[3].kappa == Figure(0.0, None, "fewer than 10 pairs")


def test_an_annotator_without_labels_has_no_figures() -> None:
    [_, unsure] = annotator_figures(annotated(((0, 1), (-1, -1))))
    assert (unsure.labels, unsure.unsure, unsure.compared, unsure.shares) == (0, 2, 0, [None] * 3)
    assert unsure.percentage == unsure.kappa == Figure(None, None, "no pair has both labels")


def test_three_thousand_annotators_of_one_label_each() -> None:
    rows = 3_000
    pair, annotator = np.arange(rows) // 30, np.arange(rows)
    label = (np.arange(rows) % 7 == 0).astype(np.int64)
    whole = agreement(Votes(pair, annotator, label), 2)
    assert (whole.pairs, whole.labels, len(whole.twos)) == (100, 3_000, 200)
    assert whole.alpha.ci95
    assert {two.pairs for two in whole.twos} == {1}
    assert {two.kappa for two in whole.twos} == {Figure(None, None, "a single pair")}
