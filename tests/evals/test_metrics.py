"""Scores of a judge on held-out pairs: small cases by hand, and properties on any judgments."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.evals.metrics import Tallies, example_outcome, overall_only, score_tallies
from stj.loop.heldout import score_heldout
from stj.rows import HELDOUT, TIED, TIED_HALF, TRAINING, Judgment, Pair, Purpose, Row, Turn
from stj.verdict import Label, other

LABELS: tuple[Label, Label] = ("A", "B")
Verdicts = Sequence[tuple[Label | None, Label | None]]
"""For each sample, the verdict with the better answer shown as A, and the verdict with it shown as B."""


def judgments(verdicts: Verdicts, purpose: Purpose = "sampled") -> tuple[Judgment, ...]:
    return tuple(
        Judgment(purpose=purpose, winner=winner, index=index, text="", verdict=verdict, finish_reason="stop", output_tokens=1)
        for index, orders in enumerate(verdicts)
        for winner, verdict in zip(LABELS, orders, strict=True)
    )


def heldout(
    verdicts: Verdicts, greedy: Verdicts = (), *, chosen: str = "right", rejected: str = "wrong", number: int = 0
) -> Row:
    return Row(
        id=f"h{number}",
        position=number,
        task=HELDOUT,
        turns=(Turn(role="user", content=f"2 + {number}?"),),
        pair=Pair(method="given", chosen=chosen, rejected=rejected),
        judgments=judgments(verdicts) + judgments(greedy, "greedy"),
    )


def test_a_judge_that_always_says_a() -> None:
    scores = score_heldout([heldout([("A", "A")] * 3, number=number) for number in range(4)])
    assert scores is not None
    assert (scores.accuracy_winner_first, scores.accuracy_winner_second, scores.accuracy) == (1.0, 0.0, 0.5)
    assert scores.position_consistent == 0.0
    assert scores.always_a == scores.accuracy
    assert scores.ci95[0] < 0.5 < scores.ci95[1]


def test_a_case_by_hand() -> None:
    """Pair 0: 3 of 4 right, 1 of 2 samples right in both orders. Pair 1: 1 of 4, none, two without verdict."""
    rows = [
        heldout([("A", "B"), ("A", "A")], [("A", "B")], chosen="long", rejected="s"),
        heldout([("A", None), (None, "A")], [("A", "A")], chosen="s", rejected="long", number=1),
    ]
    scores = score_heldout(rows)
    assert scores is not None
    assert scores.pairs == 2
    assert scores.accuracy == (0.75 + 0.25) / 2
    assert scores.accuracy_winner_first == (1.0 + 0.5) / 2
    assert scores.accuracy_winner_second == (0.5 + 0.0) / 2
    assert scores.position_consistent == (0.5 + 0.0) / 2
    assert scores.unparsed == 2 / 8
    assert scores.greedy_accuracy == 0.75
    assert scores.greedy_position_consistent == 0.5
    assert scores.ci95[0] < 0.25 < 0.75 < scores.ci95[1]
    assert scores.greedy_ci95 is not None
    assert scores.greedy_ci95[0] < 0.5 < scores.greedy_ci95[1]


def test_pairs_of_the_same_instruction_are_drawn_together() -> None:
    """Two pairs of one instruction carry as much information as one: the interval is as wide as for half the pairs."""

    def width(of_each: int) -> float:
        verdicts = [[("A", "B")], [("B", "A")]]
        rows = [heldout(verdicts[number % 2], number=number) for number in range(20)]
        scores = score_heldout(replace(row, id=f"{row.id}/{copy}") for row in rows for copy in range(of_each))
        assert scores is not None
        return scores.ci95[1] - scores.ci95[0]

    assert width(2) == pytest.approx(width(1), abs=0.03)


@pytest.mark.parametrize(("chosen", "rejected", "longest"), [("abc", "a", 1.0), ("a", "abc", 0.0), ("ab", "cd", 0.5)])
def test_content_blind_baselines(chosen: str, rejected: str, longest: float) -> None:
    scores = score_heldout([heldout([("A", "B")], chosen=chosen, rejected=rejected)])
    assert scores is not None
    assert (scores.longest, scores.shortest) == (longest, 1 - longest)


def test_nothing_judged_is_no_score() -> None:
    assert score_heldout([]) is None
    assert score_heldout([heldout([])]) is None


def test_training_rows_and_training_judgments_do_not_count() -> None:
    row = heldout([("A", "B")])
    wrong = judgments([("B", "A")], "training")
    assert score_heldout([replace(row, task=TRAINING)]) is None
    assert score_heldout([replace(row, judgments=row.judgments + wrong)]) == score_heldout([row])


def test_a_row_whose_request_failed_is_counted() -> None:
    failed = replace(heldout([], number=1), error="timeout")
    one_order = replace(heldout([], number=2), judgments=judgments([("A", "B")])[:1])
    scores = score_heldout([heldout([("A", "B")]), failed, one_order])
    assert scores is not None
    assert (scores.pairs, scores.unjudged, scores.accuracy) == (1, 2, 1.0)


def test_without_greedy_judgments_their_scores_are_none() -> None:
    scores = score_heldout([heldout([("A", "B")])])
    assert scores is not None
    assert (scores.greedy_accuracy, scores.greedy_position_consistent, scores.greedy_ci95) == (None, None, None)


def test_scores_are_json() -> None:
    scores = score_heldout([heldout([("A", "B")])])
    assert scores is not None
    record = json.loads(json.dumps(asdict(scores)))
    assert record["ci95"] == [pytest.approx(0.025), 1.0]


def tied(verdicts: Verdicts, method: str, number: int = 0) -> Row:
    return replace(heldout(verdicts, number=number), pair=Pair(method=method, chosen="first", rejected="second"))


@pytest.mark.parametrize(
    ("verdicts", "counted", "half"),
    [
        ([("A", "A")], 1.0, 0.5),  # Another response in each order: no preference.
        ([("tie", "tie")], 1.0, 0.5),
        ([("A", "B")], 0.0, 0.5),  # The same response in both orders.
        ([("A", "tie")], 0.0, 0.5),
        ([("A", None)], 0.0, 0.25),  # A missing verdict is wrong here too.
        ([(None, None)], 0.0, 0.0),
        ([("A", "A"), ("B", "A"), ("B", "B"), ("A", "B")], 0.5, 0.5),
    ],
)
def test_a_tie_counts_by_the_rule(verdicts: Verdicts, counted: float, half: float) -> None:
    for method, accuracy in ((TIED, counted), (TIED_HALF, half)):
        scores = score_heldout([tied(verdicts, method)])
        assert scores is not None
        assert (scores.accuracy, scores.position_consistent, scores.tied) == (accuracy, accuracy, 1)
        assert (scores.longest, scores.always_a) == ((0.0, 1.0) if method == TIED else (0.5, 0.5))


def test_ties_and_other_pairs_are_one_mean() -> None:
    rows = [
        tied([("A", "B")], TIED, 0),
        tied([("B", "B")], TIED, 1),
        heldout([("A", "B")], number=2),
        heldout([("A", "A")], number=3),
    ]
    scores = score_heldout(rows)
    assert scores is not None
    assert (scores.pairs, scores.tied, scores.accuracy) == (4, 2, (0 + 1 + 1 + 0.5) / 4)


def test_subsets_have_scores_of_their_own_and_change_none() -> None:
    rows = [heldout([("A", "B")], number=0), heldout([("A", "A")], number=1), heldout([("B", "A")], number=2).drop("human_tie")]
    parts = [
        replace(row, subset=subset, judgments=() if row.dropped else row.judgments)
        for row, subset in zip(rows, "xyx", strict=True)
    ]
    alone, divided = score_heldout([rows[0], rows[1], parts[2]]), score_heldout(parts)
    assert alone is not None
    assert divided is not None
    assert {name: (part.pairs, part.accuracy) for name, part in divided.subsets.items()} == {"x": (1, 1.0), "y": (1, 0.5)}
    assert alone == replace(divided, subsets={})
    assert (divided.unjudged, divided.unjudged_by_reason) == (1, {"human_tie": 1})


def test_clusters_span_the_subsets_of_a_group() -> None:
    """Each cluster is right in one subset and wrong in the other: its mean never moves, so the group's interval is narrower."""
    tallies = Tallies()
    for number in range(50):
        for subset in ("hard", "easy"):
            right = (subset == "easy") == (number % 2 == 0)
            tallies.add(
                subset, example_outcome({"A": ["A" if right else "B"], "B": ["B" if right else "A"]}, None), str(number)
            )
    subsets, groups = score_tallies(tallies, overall_only)
    low, high = groups["overall"].ci95
    assert subsets["hard"].ci95[0] < 0.4
    assert 0.4 < low < 0.5 < high < 0.6


def test_a_subset_without_judged_examples_counts_in_the_official_score() -> None:
    tallies = Tallies()
    right, none = (example_outcome({"A": [verdict], "B": [verdict and "B"]}, None) for verdict in ("A", None))
    tallies.add("short", right)
    for _ in range(3):
        tallies.add_unjudged("long", none)
    subsets, groups = score_tallies(tallies, overall_only)
    assert set(subsets) == {"short"}
    overall = groups["overall"]
    assert (overall.examples, overall.accuracy, overall.official) == (1, 1.0, 0.25)


SAID = st.sampled_from(["A", "B", None])
ROWS = st.lists(
    st.builds(
        heldout,
        st.lists(st.tuples(SAID, SAID), min_size=1, max_size=4),
        st.lists(st.tuples(SAID, SAID), max_size=1),
        chosen=st.text(max_size=5),
        rejected=st.text(max_size=5),
    ),
    min_size=1,
    max_size=8,
)


def mirrored(row: Row) -> Row:
    """The same judgments with A and B exchanged everywhere."""
    swapped = (replace(j, winner=other(j.winner), verdict=other(j.verdict) if j.verdict else None) for j in row.judgments)
    return replace(row, judgments=tuple(swapped))


@given(ROWS)
def test_exchanging_the_orders_exchanges_only_their_names(rows: list[Row]) -> None:
    scores, swapped = score_heldout(rows), score_heldout(map(mirrored, rows))
    assert scores is not None
    assert swapped is not None
    first, second = scores.accuracy_winner_first, scores.accuracy_winner_second
    shares = (scores.verdict_a, swapped.verdict_a)
    assert shares == (None, None) or sum(filter(None, shares)) == pytest.approx(1)
    swapped = replace(swapped, verdict_a=scores.verdict_a)
    assert swapped == replace(scores, accuracy_winner_first=second, accuracy_winner_second=first, always_a=1 - scores.always_a)


@given(ROWS, st.randoms())
def test_the_order_of_arrival_does_not_matter(rows: list[Row], shuffler: random.Random) -> None:
    assert score_heldout(shuffler.sample(rows, len(rows))) == score_heldout(rows)


@given(ROWS)
def test_bounds(rows: list[Row]) -> None:
    scores = score_heldout(rows)
    assert scores is not None
    assert scores.accuracy == pytest.approx((scores.accuracy_winner_first + scores.accuracy_winner_second) / 2)
    assert 0 <= scores.ci95[0] <= scores.accuracy + 1e-9
    assert scores.accuracy - 1e-9 <= scores.ci95[1] <= 1
    assert scores.position_consistent <= min(scores.accuracy_winner_first, scores.accuracy_winner_second) + 1e-9
    assert scores.accuracy <= 1 - scores.unparsed + 1e-9
    assert scores.always_a == 0.5
    assert scores.longest + scores.shortest == 1
