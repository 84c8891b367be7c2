"""Cycles among preferences."""

from dataclasses import replace
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from stj.evals.consistency import consistency_by_task, consistency_line
from stj.evals.cycles import Cycles, Preferences
from stj.rows import TRAINING, Row, Turn
from tests.viewing.conftest import judged, pair_row


def prefer(better: str, worse: str, *, swapped: bool = False, name: str = "", question: str = "q") -> Row:
    """A pair of which the judge prefers `better`; swapped: the row's first answer is the other one."""
    chosen, rejected = (worse, better) if swapped else (better, worse)
    verdict = "B" if swapped else "A"
    row = pair_row(name or f"{better}{worse}", judged(verdict), chosen=chosen, rejected=rejected)
    return replace(row, turns=(Turn(role="user", content=question),))


def cycles(*rows: Row) -> Cycles:
    preferences = Preferences()
    for row in rows:
        preferences.add(row)
    return preferences.cycles()


def test_a_cycle_and_its_rows() -> None:
    counted = cycles(prefer("a", "b"), prefer("b", "c", swapped=True), prefer("c", "a"))
    assert (counted.triples, counted.count) == (1, 1)
    assert sorted(counted.rows[0]) == ["heldout/ab", "heldout/bc", "heldout/ca"]


def test_what_is_no_cycle() -> None:
    assert cycles(prefer("a", "b"), prefer("b", "c"), prefer("a", "c")) == Cycles(triples=1, count=0, rows=())
    assert cycles(prefer("a", "b"), prefer("b", "c")) == Cycles(triples=0, count=0, rows=())
    other_question = prefer("c", "a", question="another")
    assert cycles(prefer("a", "b"), prefer("b", "c"), other_question).triples == 0
    undecided = pair_row("ca", judged("A"), judged("A", "B"), chosen="c", rejected="a")
    assert cycles(prefer("a", "b"), prefer("b", "c"), replace(undecided, turns=prefer("a", "b").turns)).triples == 0


def test_training_pairs_and_unjudged_ones_are_left_out() -> None:
    rows = [prefer("a", "b"), prefer("b", "c"), prefer("c", "a")]
    assert cycles(*(replace(row, task=TRAINING) for row in rows)).triples == 0
    assert cycles(*(replace(row, judgments=()) for row in rows)).triples == 0


def test_both_are_counted_by_task() -> None:
    against = pair_row("x", judged("A", text="So Assistant B is better."))
    counted = consistency_by_task([prefer("a", "b"), prefer("b", "c"), prefer("c", "a"), against])
    line = consistency_line("heldout", counted["heldout"])
    assert line.startswith("heldout: 1 of 1 judgments that end with a preference have another verdict, as in heldout/x; 1 of 1")
    assert consistency_line("heldout", consistency_by_task([prefer("a", "b")])["heldout"]) == ""


@given(st.permutations("abcde"), st.lists(st.booleans(), min_size=10, max_size=10))
def test_a_judge_with_a_ranking_has_none(ranking: list[str], swapped: list[bool]) -> None:
    pairs = list(combinations(ranking, 2))
    counted = cycles(*(prefer(better, worse, swapped=swap) for (better, worse), swap in zip(pairs, swapped, strict=True)))
    assert (counted.triples, counted.count) == (10, 0)
