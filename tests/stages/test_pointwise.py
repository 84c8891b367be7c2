"""Pairs that are decided by a grade of each response: votes, ties, probabilities, and the file of results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.errors import ConfigError
from stj.generate import Sampling
from stj.rows import Grade, Pair, Row, Turn
from stj.stages.vote import pair_verdict
from stj.use_config import VoteConfig
from tests.judging.in_process import in_this_process
from tests.judging.test_judge import scripted
from tests.judging.test_judge_file import SEED_MODEL, lines, pair, write

POINTWISE = VoteConfig(mode="pointwise", rubric="helpfulness")


def length(messages: Sequence[Turn], sampling: Sampling) -> str:
    """Grades by the number of x, up to 5; gives no score to a response that says so."""
    shown = messages[-1].content.partition("[The Start of the Assistant")[2].partition("[The End of")[0]
    return "It is fine." if "no score" in shown else f"Hm. [[{min(5, 1 + shown.count('x'))}]]"


def test_the_response_with_the_higher_grade_wins_whatever_its_place() -> None:
    with scripted(length, mode="pointwise", rubric="helpfulness") as judge:
        result = judge.compare("Write x.", "x", "xxx")
        assert (result.verdict, result.reward, len(result.votes), result.most_votes) == ("B", -1.0, 1, 1)
        assert (result.votes[0].scores, result.votes[0].verdict) == ((2, 4), "B")
        assert result.votes[0].text == "Response A: Hm. [[2]]\n\nResponse B: Hm. [[4]]"
        assert judge.compare("Write x.", "xxx", "x").verdict == "A"
        tie = judge.compare("Write x.", "x", "x")
        assert (tie.verdict, tie.confidence, tie.reward) == (None, 0.0, 0.0)
        unread = judge.compare("Write x.", "no score", "x")
        assert (unread.verdict, unread.votes[0].scores) == (None, (None, 2))
        empty = judge.compare("Write x.", "", "x")
        assert (empty.verdict, empty.votes, empty.error) == (None, (), "empty_response: the response to grade is empty")
        assert [response.place for response in judge.rank("Write x.", ["x", "xxx", "xx"])] == [1, 2, 0]


def grades(answer: str, scores: Sequence[int | None], shares: Sequence[Sequence[float]] = ()) -> tuple[Grade, ...]:
    return tuple(
        Grade(
            rubric="helpfulness",
            answer=answer,  # type: ignore[arg-type]
            index=index,
            asked="",
            text="",
            score=score,
            finish_reason="stop",
            output_tokens=1,
            shares=tuple(shares[index]) if shares else (),
        )
        for index, score in enumerate(scores)
    )


def row(*votes: Grade) -> Row:
    turns = (Turn(role="user", content="?"),)
    return Row(id="r", position=0, turns=turns, pair=Pair(method="open", chosen="a", rejected="b"), grades=votes)


SCORES = st.lists(st.tuples(st.none() | st.integers(1, 5), st.none() | st.integers(1, 5)), min_size=1, max_size=7)


@given(SCORES)
def test_votes_are_counted_and_exchanging_the_responses_turns_the_verdict(scores: list[tuple[int | None, int | None]]) -> None:
    config = VoteConfig(mode="pointwise", rubric="helpfulness", votes=len(scores))
    first, second = zip(*scores, strict=True)
    result = pair_verdict(row(*grades("chosen", first), *grades("rejected", second)), config)
    turned = pair_verdict(row(*grades("chosen", second), *grades("rejected", first)), config)
    wins = sum(a is not None and b is not None and a > b for a, b in scores)
    losses = sum(a is not None and b is not None and a < b for a, b in scores)
    assert result.reward == pytest.approx((wins - losses) / len(scores))
    assert result.verdict == ("A" if wins > losses else "B" if losses > wins else None)
    assert turned.reward == pytest.approx(-result.reward)


def test_a_distribution_takes_the_probability_that_one_score_is_higher() -> None:
    config = VoteConfig(mode="pointwise", rubric="safety", aggregate="distribution")
    result = pair_verdict(row(*grades("chosen", [1], [(0.2, 0.8)]), *grades("rejected", [1], [(0.6, 0.4)])), config)
    assert result.distribution == pytest.approx(0.8 * 0.6 + (0.8 * 0.4 + 0.2 * 0.6) / 2)
    assert result.verdict == "A"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "pointwise"}, "vote.mode=pointwise: name the rubric to grade by with vote.rubric=NAME"),
        ({"rubric": "helpfulness"}, "vote.rubric=helpfulness: only vote.mode=pointwise grades by a rubric"),
        ({"mode": "pointwise", "rubric": "correctness"}, "vote.rubric=correctness: needs a reference, which pairs do not have"),
        ({"mode": "pointwise", "rubric": "nothing"}, "vote.rubric=nothing: no such rubric or file"),
        ({"mode": "pointwise", "rubric": "safety", "prompt": "arena"}, "vote.prompt=arena: no such prompt or file"),
        ({"mode": "both", "rubric": "safety"}, "vote.mode=both: must be one of 'pairwise', 'pointwise'"),
    ],
)
def test_what_is_wrong_is_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        VoteConfig(**settings)
    assert words in str(error.value)


def test_a_file_of_pairs_is_judged_by_grades(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_this_process(monkeypatch, tmp_path, {SEED_MODEL: length})
    file = write(tmp_path / "pairs.jsonl", pair("?", "x", "xx", winner="B"), pair("?", "x", "x"), pair("?", "x", "no score"))
    words = ["judge", file, f"model={SEED_MODEL}", "vote.mode=pointwise", "vote.rubric=helpfulness"]
    assert main(words) == 0
    output = capsys.readouterr()
    results = lines(output.out)
    assert [line["verdict"] for line in results] == ["B", None, None]
    assert [line["votes"][0]["scores"] for line in results] == [[2, 3], [2, 2], [2, None]]
    assert {line["prompt"] for line in results} == {"grade"}
    assert "grade: accuracy 100.0%" in output.err
    assert main(["judge", file, f"model={SEED_MODEL}", "vote.mode=pointwise", "vote.rubric=coherence"]) == 1
    assert "rubric" in capsys.readouterr().err
    saved = VoteConfig(**json.loads(json.dumps({"mode": "pointwise", "rubric": POINTWISE.rubric, "prompt": POINTWISE.prompt})))
    assert saved == POINTWISE


@pytest.mark.slow
def test_the_results_are_scored_and_counted_by_their_scores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three right, one wrong, one tie, and one without a score."""
    in_this_process(monkeypatch, tmp_path, {SEED_MODEL: length})
    answers = [("x", "xx"), ("xx", "xxx"), ("x", "xxx"), ("xx", "x"), ("xxxx", "xxxxx"), ("x", "no score")]
    rows = [pair("?", *both, winner="B", id=str(number)) for number, both in enumerate(answers)]
    file = write(tmp_path / "pairs.jsonl", *rows)
    settings = ["vote.mode=pointwise", "vote.rubric=helpfulness", "--out", "results.jsonl"]
    assert main(["judge", file, f"model={SEED_MODEL}", *settings]) == 0
    capsys.readouterr()
    assert main(["score", "results.jsonl", "--benchmark", "pairs", "--parser", "strict", "--json"]) == 0
    overall = json.loads(capsys.readouterr().out)["strict"]["groups"]["overall"]
    assert (overall["examples"], overall["accuracy"], overall["by_order"]) == (6, pytest.approx(3 / 6), [])
    assert (overall["position_consistent"], overall["unparsed"]) == (None, pytest.approx(1 / 6))
    assert main(["winrate", "results.jsonl", "--json"]) == 0
    rate = json.loads(capsys.readouterr().out)
    assert (rate["pairs"], rate["wins"], rate["ties"]) == (6, 1, 2)
