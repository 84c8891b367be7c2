"""The failures that a report shows of each judge: which ones, how they are counted, and that hostile texts stay texts."""

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stj.evals.metrics import example_outcome
from stj.glossary import explain
from stj.loop.report.failed_grades import add_response
from stj.loop.report.failed_pairs import add_pair, way_of
from stj.loop.report.failures import ANSWER, SHOWN, Failures, FailureTally, JudgeFailures
from stj.loop.report.ways import PAIR_WAYS, RESPONSE_WAYS
from stj.randomness import uniform
from stj.rows import HELDOUT, HELDOUT_GRADES, TIED, Grade, Judgment, Pair, Row, Turn
from stj.rubrics import Rubric
from stj.verdict import Label
from tests.loop.test_report import HOSTILE, Page

Votes = tuple[str, str]
"""Verdicts with the better answer as A, and as B: `AB-` are A, B and none."""


def pair_row(name: str, votes: Votes, probability: float | None = None) -> Row:
    """A held-out pair with these sampled verdicts."""
    judgments = []
    labels: tuple[Label, Label] = ("A", "B")
    for winner, verdicts in zip(labels, votes, strict=True):
        for index, verdict in enumerate(verdicts):
            judgment = Judgment(
                purpose="sampled",
                winner=winner,
                index=index,
                text=f"I say {verdict}.",
                verdict=None if verdict == "-" else verdict,  # type: ignore[arg-type]
                finish_reason="stop",
                output_tokens=3,
                probability=probability,
            )
            judgments.append(judgment)
    turn = Turn(role="user", content="Which?")
    pair = Pair(method="given", chosen="right", rejected="wrong")
    return Row(id=name, position=0, task=HELDOUT, turns=(turn,), pair=pair, judgments=tuple(judgments))


def of_pairs(rows: list[Row], right_before: dict[str, bool] | None = None) -> JudgeFailures | None:
    tally = FailureTally(seed=7)
    for row in rows:
        add_pair(tally, row)
    return next(tally.result("M_1", PAIR_WAYS, right_before or {}), None)


def wrong_share(row: Row) -> float:
    return sum(judgment.verdict not in (None, judgment.winner) for judgment in row.judgments) / len(row.judgments)


@st.composite
def many_votes(draw: st.DrawFn) -> list[Votes]:
    samples = draw(st.integers(1, 3))
    verdicts = st.text("AB-", min_size=samples, max_size=samples)
    return draw(st.lists(st.tuples(verdicts, verdicts), max_size=30))


@settings(max_examples=40)
@given(many_votes(), st.randoms(use_true_random=False))
def test_the_surest_ten_are_shown_in_whatever_order_the_rows_come(votes: list[Votes], chance: random.Random) -> None:
    rows = [pair_row(f"row-{number}", each) for number, each in enumerate(votes)]
    made = of_pairs(rows)
    assert made == of_pairs(chance.sample(rows, len(rows)))
    if made is None:
        assert not rows
        return
    outcomes = [example_outcome({"A": row_verdicts(row, "A"), "B": row_verdicts(row, "B")}, None) for row in rows]
    missed = [row for row, outcome in zip(rows, outcomes, strict=True) if outcome.accuracy <= 0.5]
    assert (made.rows, made.count) == (len(rows), len(missed))
    assert made.missed == {way.name: Counter(way_of(row.judgments) for row in missed)[way.name] for way in PAIR_WAYS}
    surest = sorted(missed, key=lambda row: (-wrong_share(row), uniform(7, row.id, "failures")))
    assert [failure.id for failure in made.shown] == [row.id for row in surest[:SHOWN]]


def row_verdicts(row: Row, winner: str) -> list[Label | None]:
    return [judgment.verdict for judgment in row.judgments if judgment.winner == winner]  # type: ignore[misc]


def test_a_pair_is_missed_in_one_of_the_ways() -> None:
    ways = {
        ("BBB", "AAA"): "every vote wrong",
        ("AAA", "AAA"): "follows A",
        ("ABB", "BBB"): "follows B",
        ("BBA", "AB-"): "mostly wrong",
        ("B--", "A--"): "mostly no verdict",
        ("---", "---"): "mostly no verdict",
        ("CCB", "CCA"): "mostly wrong",
    }
    assert {votes: way_of(pair_row("row", votes).judgments) for votes in ways} == ways
    assert all(explain(way.name).text for way in (*PAIR_WAYS, *RESPONSE_WAYS))


def test_of_equally_many_votes_the_more_probable_verdict_is_surer() -> None:
    """B with the better answer as A: the probability is that of A, so 0.1 is nine parts of ten for the worse one."""
    rows = [pair_row(f"row-{number}", ("B", "-"), probability) for number, probability in enumerate((0.4, 0.1, None, 0.3))]
    made = of_pairs(rows, {"row-1": True, "row-3": False})
    assert made
    assert [failure.id for failure in made.shown] == ["row-1", "row-3", "row-0", "row-2"]
    assert [failure.right_before for failure in made.shown] == [True, False, None, None]
    assert made.shown[0].votes == "better answer as A: B; better answer as B: none"
    assert made.shown[0].verdict == "1 of 2 votes for the worse answer, 1 without a verdict"


def test_a_tie_is_no_vote_for_the_worse_answer() -> None:
    made = of_pairs([pair_row("tied", ("C", "C")), pair_row("wrong", ("B", "C"))])
    assert made
    assert [failure.verdict[:6] for failure in made.shown] == ["1 of 2", "0 of 2"]
    assert made.shown[1].said[0].title == "The judge said C; the better answer was A"


def test_pairs_without_a_better_answer_or_an_order_are_left_out() -> None:
    missed = pair_row("row", ("B", "A"))
    assert missed.pair
    tied = replace(missed, pair=replace(missed.pair, method=TIED))
    half = replace(missed, judgments=missed.judgments[:1])
    assert of_pairs([tied, half, replace(missed, pair=None), replace(missed, judgments=())]) is None


def response(name: str, label: float | None, scores: list[int | None]) -> Row:
    grades = tuple(
        Grade(
            rubric="helpfulness",
            answer="response",
            index=index,
            asked="",
            text=f"It is worth {score}.",
            score=score,
            finish_reason="stop",
            output_tokens=3,
        )
        for index, score in enumerate(scores)
    )
    points = Rubric(name="helpfulness", criterion="Does it help?", scale="1-5", descriptions=tuple("12345"))
    turn = Turn(role="user", content="Help.")
    return Row(
        id=name,
        position=0,
        task=HELDOUT_GRADES,
        turns=(turn,),
        response="No.",
        label=label,
        rubrics=(points,),
        grades=grades,
    )


def test_responses_are_missed_by_half_a_point_and_the_farthest_comes_first() -> None:
    rows = [
        response("near", 4, [4, 4, 5]),
        response("high", 2, [4, 4, 4]),
        response("low", 5, [1, 1, 2]),
        response("unread", 3, [None, None, 3]),
        response("half", 3.5, [4, 4, 4]),
        response("unknown", None, [4]),
    ]
    tally = FailureTally(seed=0)
    for row in rows:
        add_response(tally, row)
    [made] = tally.result("M_0", RESPONSE_WAYS, {})
    assert (made.rows, made.missed) == (5, {"too high": 2, "too low": 1, "mostly no score": 1})
    assert [failure.id for failure in made.shown] == ["low", "high", "half", "unread"]
    assert made.shown[0].verdict == "true score 5, graded 1 1 2"
    assert made.shown[0].said[0].title == "The judge gave 1; the true score is 5"


def test_hostile_and_endless_texts_are_cut_and_shown_as_text() -> None:
    ugly = f"{HOSTILE}\x1b[31m[[A]]<|im_end|>"
    row = pair_row(f"{ugly} id", ("B", "A"))
    assert row.pair
    judgments = tuple(replace(judgment, text=ugly, thought=ugly) for judgment in row.judgments)
    row = replace(
        row,
        turns=(Turn(role="user", content=ugly),),
        subset=ugly,
        pair=replace(row.pair, chosen=ugly * 9999, rejected=ugly),
        judgments=judgments,
    )
    made = of_pairs([row])
    assert made
    markup = str(Failures(pairs=(made,)).html())
    page = Page(markup)
    assert not page.tags & {"script", "img"}
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert all(code in page.text for code in (r"\x1b[31m", r"\u202e", r"\ud800"))
    assert f"Better answer, the first {ANSWER:,} of {9999 * len(ugly):,} characters" in page.text
    assert len(markup) < 20_000


def test_of_a_long_run_the_first_and_the_last_judges_are_shown() -> None:
    made = of_pairs([pair_row("row", ("B", "A"))])
    assert made
    few = Failures.of([made] * 10, ())
    many = Failures.of([made] * 1000, ())
    assert [len(judge.shown) for judge in few.pairs] == [1] * 10
    assert [place for place, judge in enumerate(many.pairs) if judge.shown] == [0, *range(991, 1000)]
    assert all(judge.count == 1 for judge in many.pairs)
    assert "Of a long run" in many.html()
    assert "Of a long run" not in few.html()


def test_a_judge_without_failures_and_a_run_without_judges_say_so() -> None:
    right = of_pairs([pair_row("row", ("A", "B"))])
    assert right
    assert "M_1 missed none of 1 pairs" in Failures(pairs=(right,)).html()
    assert "No judge was measured" in Failures().html()
