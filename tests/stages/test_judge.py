"""Judging: the first right sample in index order, both orders of a held-out pair, the order from the seed."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from stj.config import HeldoutConfig, JudgeConfig
from stj.engine.scripted import ScriptedEngine
from stj.generate import Sampling
from stj.rows import HELDOUT, Pair, Row
from stj.stages.judge import judge, judge_heldout, label_of_winner
from stj.stages.runner import TokenCounter
from stj.verdict import Parser
from tests.conftest import make_row

PAIR = Pair(method="given", chosen="four", rejected="five")


def judged(verdicts: Sequence[str], config: JudgeConfig | None = None, row: Row | None = None) -> Row:
    script = iter(verdicts)
    engine = ScriptedEngine(lambda messages, sampling: next(script))
    return asyncio.run(
        judge(row or make_row(pair=PAIR), TokenCounter(engine.generate), config or JudgeConfig(samples=4), seed=0)
    )


def right_and_wrong(row: Row) -> tuple[str, str]:
    winner = label_of_winner(0, row.id)
    return f"[[{winner}]]", "[[B]]" if winner == "A" else "[[A]]"


def test_stops_at_the_first_right_judgment() -> None:
    right, wrong = right_and_wrong(make_row())
    row = judged([wrong, "who knows", right, right])
    assert (row.kept, len(row.judgments), row.dropped) == (2, 3, None)
    assert [judgment.verdict is None for judgment in row.judgments] == [False, True, False]


def test_none_right_of_n_is_a_drop_that_keeps_its_judgments() -> None:
    _, wrong = right_and_wrong(make_row())
    row = judged([wrong] * 4)
    assert (row.kept, len(row.judgments), row.dropped) == (None, 4, "no_correct_judgment")


def test_a_judgment_that_was_cut_has_no_verdict() -> None:
    right, _ = right_and_wrong(make_row())
    row = judged([f"{right} and more", right], JudgeConfig(samples=2, decoding=Sampling(max_tokens=1)))
    assert (row.judgments[0].finish_reason, row.judgments[0].verdict, row.kept) == ("length", None, 1)


def test_the_control_keeps_any_judgment_with_a_verdict() -> None:
    _, wrong = right_and_wrong(make_row())
    row = judged(["who knows", wrong], JudgeConfig(samples=4, keep="random"))
    assert (row.kept, row.judgments[1].correct) == (1, False)


def test_the_better_answer_stands_under_its_label() -> None:
    for position in range(20):
        row = make_row(position, pair=PAIR)
        engine = ScriptedEngine(lambda messages, sampling: "[[A]]")
        asyncio.run(judge(row, TokenCounter(engine.generate), JudgeConfig(samples=1), seed=0))
        system, user = engine.requests[0][0]
        assert system.role == "system"
        label = label_of_winner(0, row.id)
        assert f"[The Start of Assistant {label}’s Answer]\nfour" in user.content


def test_the_order_is_the_seeds_and_the_ids_and_balanced() -> None:
    labels = [label_of_winner(0, f"row-{i}") for i in range(10_000)]
    assert labels == [label_of_winner(0, f"row-{i}") for i in range(10_000)]
    assert labels != [label_of_winner(1, f"row-{i}") for i in range(10_000)]
    assert 4_800 < labels.count("A") < 5_200


def test_held_out_pairs_are_judged_in_both_orders_sampled_and_greedily() -> None:
    engine = ScriptedEngine(lambda messages, sampling: "[[A]]" if sampling.temperature else "[[B]]")
    row = make_row(pair=PAIR, task=HELDOUT)
    row = asyncio.run(judge_heldout(row, TokenCounter(engine.generate), HeldoutConfig(samples=3)))
    sampled = [j for j in row.judgments if j.purpose == "sampled"]
    greedy = [j for j in row.judgments if j.purpose == "greedy"]
    assert [(j.index, j.winner) for j in sampled] == [(i, w) for i in range(3) for w in "AB"]
    assert sum(j.correct for j in sampled) == 3
    assert [j.winner for j in greedy] == ["A", "B"]
    assert {sampling.temperature for _, sampling in engine.requests} == {0.0, 0.7}


@pytest.mark.parametrize(("parser", "kept"), [("strict", 2), ("distinct", 0), ("paper", 0)])
def test_the_parser_decides_which_judgment_is_kept(parser: Parser, kept: int) -> None:
    """The paper's own judgments give their reasons behind the verdict (Figure 9)."""
    right, _ = right_and_wrong(make_row())
    row = judged([f"I choose {right}, because it is right.", "who knows", right], JudgeConfig(samples=3, parser=parser))
    assert (row.kept, len(row.judgments)) == (kept, kept + 1)


@pytest.mark.parametrize(("parser", "verdict"), [("strict", None), ("distinct", "B"), ("paper", "B")])
def test_held_out_pairs_are_read_by_the_same_parser(parser: Parser, verdict: str | None) -> None:
    engine = ScriptedEngine(lambda messages, sampling: "It is [[B]], since it is right.")
    row = make_row(pair=PAIR, task=HELDOUT)
    row = asyncio.run(judge_heldout(row, TokenCounter(engine.generate), HeldoutConfig(samples=1), parser))
    assert {judgment.verdict for judgment in row.judgments} == {verdict}


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_draws_follow_the_theory(p: float) -> None:
    """Kept share 1 - (1-p)^N and draws (1 - (1-p)^N) / p, within 4 standard errors."""
    rng, samples, rows = random.Random(0), 15, 1_500
    draws = kept = 0
    for position in range(rows):
        right, wrong = right_and_wrong(make_row(position))
        script = (right if rng.random() < p else wrong for _ in range(samples))
        row = judged(list(script), JudgeConfig(samples=samples), make_row(position, pair=PAIR))
        draws += len(row.judgments)
        kept += row.kept is not None
    share = 1 - (1 - p) ** samples
    assert abs(kept / rows - share) <= 4 * (share * (1 - share) / rows) ** 0.5 + 1e-9
    assert abs(draws / rows - share / p) <= 4 * ((1 - p) / p**2 / rows) ** 0.5
