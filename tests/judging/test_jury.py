"""Agreement among judges: worked examples from the literature, properties, and a slow second computation."""

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stj.judging.jury import (
    Opinion,
    Verdicts,
    agreement,
    cohens_kappa,
    krippendorffs_alpha,
    outcomes_of,
    splits,
    strict_majority,
)
from stj.verdict import Label

VERDICT = st.sampled_from(["A", "B", None])
PAIRS = st.lists(st.tuples(VERDICT, VERDICT), max_size=30)
TABLE = st.integers(2, 5).flatmap(lambda jurors: st.lists(st.lists(VERDICT, min_size=jurors, max_size=jurors), max_size=20))


def sure(verdict: Label | None) -> Opinion:
    return Opinion(for_a=float(verdict == "A"), for_b=float(verdict == "B"))


def test_accuracy_counts_the_votes_that_every_pair_has() -> None:
    """Where votes stop once they are settled, the share of right ones among those asked is too far from one half."""
    opinion = Opinion(for_a=0.9, for_b=0.1, first=(0.75, 0.25))
    scores = agreement(["judge"], {"x": [opinion], "y": [opinion]}, {"x": "A", "y": "B"}).accuracy["judge"]
    assert (opinion.right("A"), opinion.right("B"), opinion.verdict) == (0.75, 0.25, "A")
    assert (scores.accuracy, scores.right_verdicts) == (0.5, 0.5)


def swapped(verdicts: Verdicts) -> list[Label | None]:
    names: dict[Label | None, Label | None] = {"A": "B", "B": "A", None: None}
    return [names[verdict] for verdict in verdicts]


def test_cohens_own_example() -> None:
    """Two readers of 50 grant proposals: 20 both yes, 15 both no, 5 and 10 apart; observed 0.7, chance 0.5."""
    first: list[Label] = ["A"] * 25 + ["B"] * 25
    second: list[Label] = ["A"] * 20 + ["B"] * 5 + ["A"] * 10 + ["B"] * 15
    assert cohens_kappa(first, second) == pytest.approx(0.4)


def test_krippendorffs_binary_example() -> None:
    """Two observers, ten units, four of them apart: alpha 0.095 (Krippendorff, Computing Alpha-Reliability, part A)."""
    meg: list[Label] = list("BAAAAAAABA")  # type: ignore[arg-type]
    owen: list[Label] = list("BBBAABAAAA")  # type: ignore[arg-type]
    assert krippendorffs_alpha(list(zip(meg, owen, strict=True))) == pytest.approx(0.095, abs=5e-4)


@given(TABLE)
def test_alpha_is_what_its_definition_says(rows: list[list[Label | None]]) -> None:
    """One minus observed over expected disagreement, computed over every pair of values."""
    kept = [[verdict for verdict in row if verdict] for row in rows]
    kept = [row for row in kept if len(row) > 1]
    values = [verdict for row in kept for verdict in row]
    assume(len(set(values)) == 2)
    observed = sum(
        sum(first != second for first, second in itertools.permutations(row, 2)) / (len(row) - 1) for row in kept
    ) / len(values)
    expected = sum(first != second for first, second in itertools.permutations(values, 2)) / (len(values) * (len(values) - 1))
    alpha = krippendorffs_alpha(rows)
    assert alpha is not None
    assert math.isclose(alpha, 1 - observed / expected, abs_tol=1e-9)


@given(PAIRS)
def test_kappa_is_symmetric_and_blind_to_names(pairs: list[tuple[Label | None, Label | None]]) -> None:
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    kappa = cohens_kappa(first, second)
    assert kappa == cohens_kappa(second, first)
    turned = cohens_kappa(swapped(first), swapped(second))
    assert (kappa is None) == (turned is None)
    if kappa is not None and turned is not None:
        assert math.isclose(kappa, turned, abs_tol=1e-9)
        assert -1 - 1e-9 <= kappa <= 1
    same = cohens_kappa(first, first)
    assert same is None or same == 1


@given(TABLE)
def test_alpha_is_1_exactly_if_nobody_disagrees(rows: list[list[Label | None]]) -> None:
    alpha = krippendorffs_alpha(rows)
    opinions = {str(i): [sure(verdict) for verdict in row] for i, row in enumerate(rows)}
    assert alpha is None or (alpha == 1) == (not splits(opinions))
    assert alpha is None or alpha <= 1
    assert alpha == krippendorffs_alpha([list(reversed(row)) for row in rows])


@given(st.lists(VERDICT, max_size=9))
def test_a_majority_is_strict_and_of_all_jurors(verdicts: Sequence[Label | None]) -> None:
    verdict = strict_majority(verdicts)
    assert verdict is None or sum(vote == verdict for vote in verdicts) > len(verdicts) / 2
    assert strict_majority(swapped(verdicts)) == swapped([verdict])[0]
    if verdict is None:
        assert all(2 * list(verdicts).count(label) <= len(verdicts) for label in ("A", "B"))


def test_agreement_without_anything_to_agree_on_is_unknown() -> None:
    assert cohens_kappa(["A", None], [None, "A"]) is None
    assert cohens_kappa(["A", "A"], ["A", "A"]) is None
    assert krippendorffs_alpha([]) is None
    assert krippendorffs_alpha([["A", "A"], ["A", None]]) is None
    assert strict_majority(["A", None]) is None


def test_what_divides_most_comes_first_and_the_surest_before_the_unsure() -> None:
    def row(*rewards: float) -> list[Opinion]:
        return [Opinion(for_a=(1 + reward) / 2, for_b=(1 - reward) / 2) for reward in rewards]

    divided = splits(
        {"3-1": row(1, 1, 1, -1), "unsure": row(0.5, 0.5, -0.5, -0.5), "sure": row(1, 1, -1, -1), "one": row(1, 1, 0, 1)}
    )
    assert [split.id for split in divided] == ["sure", "unsure", "3-1"]
    assert [split.disagreement for split in divided] == pytest.approx([4 / 6, 4 / 6, 3 / 6])
    assert divided[0].verdicts == ("A", "A", "B", "B")


def test_jurors_are_scored_with_their_spread_and_the_majority() -> None:
    """Three jurors on four pairs that A wins, and on one without a known winner."""
    first, second = ["A", "A", "A", "B", "B"], ["A", "A", "B", "B", "B"]
    rows = {f"{i}": [sure(first[i]), sure(second[i]), Opinion(for_a=0.5, for_b=0.5)] for i in range(5)}  # type: ignore[arg-type]
    jury = agreement(["one", "other", "unsure"], rows, {str(i): "A" for i in range(4)})
    assert {name: (s.accuracy, s.right_verdicts, s.undecided) for name, s in jury.accuracy.items()} == {
        "one": (0.75, 0.75, 0.0),
        "other": (0.5, 0.5, 0.0),
        "unsure": (0.5, 0.0, 1.0),
        "majority": (None, 0.5, 0.25),
    }
    assert jury.spread == 0.25
    assert jury.majorities == {"0": "A", "1": "A", "2": None, "3": "B", "4": "B"}
    assert [split.id for split in jury.splits] == ["2"]
    assert jury.kappa["one and other"] == cohens_kappa(first, second)  # type: ignore[arg-type]
    assert jury.kappa["one and unsure"] is None
    lines = "\n".join(map(str, jury.summary())).splitlines()
    assert any(line.startswith("accuracy: share of right judgments") for line in lines)
    assert sum(line.endswith(", of 4 labelled pairs") for line in lines) == len(jury.accuracy)
    assert [line for line in lines if "differ" in line] == [
        "one and other: 1 of 5 differ: 1 opposed, 0 one abstains",
        "one and unsure: 5 of 5 differ: 0 opposed, 5 one abstains",
        "other and unsure: 5 of 5 differ: 0 opposed, 5 one abstains",
    ]
    assert [line.partition(", ")[2] for line in lines if "Cohen's kappa" in line] == [
        f"on the {pairs} pairs on which both have a verdict" for pairs in (5, 0, 0)
    ]
    assert any("of 3 jurors" in line and "on the 5 of 5 pairs" in line for line in lines)
    assert agreement(["one"], {}, {}).accuracy == {}


TIES = {"x": [Opinion(for_a=0.5, for_b=0.5)], "y": [Opinion(for_a=1, for_b=0)], "z": [Opinion(for_a=0, for_b=0)]}


@pytest.mark.parametrize(("half", "accuracy", "right"), [(False, 1 / 3, 1 / 3), (True, 1 / 3, 1 / 3)])
def test_a_tie_is_right_if_the_votes_are_equal_or_counts_one_half(half: bool, accuracy: float, right: float) -> None:
    """Three ties: equal votes, all votes for A, no votes at all. By halves the second is one half too, and the first."""
    scores = agreement(["judge"], TIES, dict.fromkeys(TIES, "tie"), half_ties=half).accuracy["judge"]
    assert (scores.accuracy, scores.right_verdicts) == (pytest.approx(accuracy), pytest.approx(right))
    assert [opinion.right("tie", half_ties=half) for [opinion] in TIES.values()] == ([0.5, 0.5, 0] if half else [1, 0, 0])


def test_a_jury_calls_a_tie_if_most_jurors_do() -> None:
    tied, gone, said = Opinion(for_a=0.5, for_b=0.5), Opinion(for_a=0, for_b=0), Opinion(for_a=0, for_b=0, for_tie=1)
    assert [opinion.right("tie") for opinion in (tied, gone, said)] == [1, 0, 1]
    assert [opinion.right("tie", half_ties=True) for opinion in (tied, gone, said)] == [0.5, 0, 0.5]
    rows = {"t": [tied, said, sure("A")], "a": [tied, gone, sure("A")], "b": [sure("B"), sure("B"), tied]}
    scores = agreement(["p", "q", "r"], rows, dict.fromkeys(rows, "tie")).accuracy
    assert (scores["majority"].right_verdicts, scores["majority"].undecided) == pytest.approx((1 / 3, 1 / 3))
    assert (scores["p"].right_verdicts, scores["p"].undecided) == pytest.approx((2 / 3, 0))


def test_jurors_are_scored_on_each_subset() -> None:
    opinions = {name: [sure("A"), sure("B")] for name in "wxyz"}
    compared = agreement(["p", "q"], opinions, {"w": "A", "x": "A", "y": "B"}, {"w": "one", "x": "one", "y": "two", "z": "two"})
    assert {name: part["p"].accuracy for name, part in compared.subsets.items()} == {"one": 1.0, "two": 0.0}
    assert compared.accuracy["p"].accuracy == pytest.approx(2 / 3)
    assert not agreement(["p", "q"], opinions, {"w": "A"}, dict.fromkeys("wxyz", "one")).subsets


@given(PAIRS)
def test_every_pair_of_two_jurors_is_the_same_opposed_or_one_abstains(pairs: list[tuple[Label | None, Label | None]]) -> None:
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    outcomes = outcomes_of(first, second)
    assert outcomes.opposed + outcomes.one_abstains == sum(a != b for a, b in pairs)
    assert outcomes.with_verdicts - outcomes.opposed == sum(a == b is not None for a, b in pairs)
    assert outcomes == outcomes_of(second, swapped(swapped(first)))
