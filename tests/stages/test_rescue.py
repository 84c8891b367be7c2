"""Rescue: the hint, the rules, the checks without the label, and what is never learned."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import JudgeConfig
from stj.engine.scripted import ScriptedEngine
from stj.errors import ConfigError, PromptTooLong, RequestFailed
from stj.generate import Sampling
from stj.glossary import explain
from stj.prompts import RESCUE_CHECK, RESCUE_HINT, fill, prompt
from stj.rescue import RescueConfig
from stj.rows import ROW_SCHEMA, Pair, Row, Turn, row_from_dict
from stj.stages.judge import judge_messages, label_of_winner
from stj.stages.rescue import (
    CUT,
    NO_REASONS,
    NOT_CONFIRMED,
    OTHER_LABEL,
    TOLD,
    TOO_LONG,
    check_messages,
    hinted_messages,
    judge_or_rescue,
    reasons_of,
)
from stj.stages.runner import TokenCounter, run_stages
from stj.storage.arrow import table_of
from stj.verdict import PAIR, Label, other, parse
from tests.conftest import make_row

PAIR_OF_SUMS = Pair(method="given", chosen="Two and two make four.", rejected="Two and two make five.")
GOOD = (
    "The question asks for a sum. One answer adds correctly and the other is off by one. So assistant {right} is better. "
    "[[{right}]]"
)


class Judge:
    """A judge that is wrong without the hint; what it writes with it, and behind its own reasons, is scripted."""

    def __init__(self, rationale: str = GOOD, checks: str = "+++") -> None:
        self.rationale, self.checks = rationale, checks
        self.asked: dict[str, list[tuple[Turn, ...]]] = {"plain": [], "hint": [], "check": []}

    def answer(self, messages: Sequence[Turn], sampling: Sampling) -> str:
        """Finds out what it is asked from the messages alone."""
        kind = "check" if len(messages) > 2 else "hint" if "[[Note to the Judge]]" in messages[-1].content else "plain"
        self.asked[kind].append(tuple(messages))
        right: Label = "A" if f"Assistant A’s Answer]\n{PAIR_OF_SUMS.chosen}" in messages[1].content else "B"
        if kind == "plain":
            return f"I choose [[{other(right)}]]"
        if kind == "hint":
            return self.rationale.format(right=right, wrong=other(right))
        sign = self.checks[(len(self.asked["check"]) - 1) % len(self.checks)]
        return {"+": f"[[{right}]]", "-": f"[[{other(right)}]]", "?": "I cannot say."}[sign]


def judged(judge: Judge, rescue: RescueConfig | None = None, row: Row | None = None, **settings: object) -> Row:
    config = JudgeConfig(samples=3, rescue=rescue or RescueConfig(), **settings)  # type: ignore[arg-type]
    generate = TokenCounter(ScriptedEngine(judge.answer).generate)
    return asyncio.run(judge_or_rescue(row or make_row(pair=PAIR_OF_SUMS), generate, config, 0))


def test_a_pair_that_is_never_right_is_rescued_by_reasons_that_lead_to_its_label() -> None:
    judge = Judge()
    row = judged(judge)
    assert (row.dropped, row.kept, len(row.judgments)) == (None, None, 3)
    assert not any(judgment.correct for judgment in row.judgments)
    assert row.rescued is not None
    assert row.rescued.text.endswith(f"[[{label_of_winner(0, row.id)}]]")
    assert [len(judge.asked[kind]) for kind in ("plain", "hint", "check")] == [3, 1, 3]
    assert [check.correct for check in row.rationales[0].checks] == [True] * 3


def test_a_pair_with_a_right_judgment_is_judged_as_before() -> None:
    judge = Judge()
    winner = label_of_winner(0, make_row().id)
    engine = ScriptedEngine(lambda messages, sampling: f"[[{winner}]]")
    config = JudgeConfig(samples=3, rescue=RescueConfig())
    row = asyncio.run(judge_or_rescue(make_row(pair=PAIR_OF_SUMS), TokenCounter(engine.generate), config, 0))
    assert (row.kept, row.rationales, row.rescued, len(engine.requests)) == (0, (), None, 1)
    assert not judge.asked["hint"]


def test_the_checks_never_see_the_label() -> None:
    """Their messages differ between the labels in nothing but the order of the answers and the reasons themselves."""
    judge = Judge()
    judged(judge)
    [messages] = set(judge.asked["check"])
    assert messages[2].content == "The question asks for a sum. One answer adds correctly and the other is off by one."
    assert messages[3].content == prompt(RESCUE_CHECK)
    pair = PAIR_OF_SUMS
    swapped = Pair(method="given", chosen=pair.rejected, rejected=pair.chosen)
    for winner in ("A", "B"):
        assert check_messages("?", pair, winner, "Reasons.") == check_messages("?", swapped, other(winner), "Reasons.")
        assert hinted_messages("?", pair, winner) != hinted_messages("?", swapped, other(winner))
        assert check_messages("?", pair, winner, "Reasons.")[:2] == judge_messages("?", pair, winner)


@pytest.mark.parametrize(
    ("rationale", "reason"),
    [
        ("One answer is off by one. [[{wrong}]]", "not_the_label"),
        ("One answer is off by one. [[{right}]], but [[{wrong}]] is possible.", "not_the_label"),
        ("[[{right}]] it is, since the other answer is off by one.", "not_the_label"),
        ("One answer is off by one.", "not_the_label"),
        ("", "not_the_label"),
        ("[[{right}]]", "no_reasons"),
        ("My final verdict is: [[{right}]]", "no_reasons"),
        ("Assistant {right} is better.\n\n**Final verdict:** [[{right}]].", "no_reasons"),
        ("I was told which one is good. It adds correctly. [[{right}]]", "says_it_was_told"),
        ("I’ve been  told so. It adds correctly. [[{right}]]", "says_it_was_told"),
        ("According to the\nnote, one answer adds correctly. [[{right}]]", "says_it_was_told"),
        ("The known label fits: it adds correctly. [[{right}]]", "says_it_was_told"),
        ("The outcome is already settled. It adds correctly. [[{right}]]", "says_it_was_told"),
        ("It adds up. The outcome of this comparison is settled, assistant {right} gave it. [[{right}]]", "says_it_was_told"),
        ("As an attentive judge would write who knows nothing, I see four. It adds. [[{right}]]", "says_it_was_told"),
    ],
)
def test_a_rationale_that_breaks_a_rule_is_not_checked_and_the_pair_is_dropped(rationale: str, reason: str) -> None:
    judge = Judge(rationale)
    row = judged(judge, RescueConfig(samples=2))
    assert [each.rejected for each in row.rationales] == [reason, reason]
    assert (row.dropped, row.rescued, judge.asked["check"]) == ("no_correct_judgment", None, [])


def test_words_of_the_pair_are_no_sign_of_the_hint() -> None:
    told = "The user asks what the note says. One answer adds correctly. [[{right}]]"
    assert judged(Judge(told)).rationales[0].rejected == "says_it_was_told"
    about = make_row(pair=PAIR_OF_SUMS, turns=(Turn(role="user", content="What does the note of the bank say?"),))
    assert judged(Judge(told), row=about).rescued is not None


def test_a_thought_that_speaks_of_the_hint_is_not_learned() -> None:
    thought = "<think>I was told that {right} is better.</think>" + GOOD
    row = judged(Judge(thought))
    assert row.rationales[0].judgment.thought
    assert row.rationales[0].rejected == "says_it_was_told"


@pytest.mark.parametrize(
    ("checks", "agree", "rescued"),
    [
        ("+--", 0.3, True),
        ("+--", 0.5, False),
        ("++-", 0.5, True),
        ("++?", 1.0, False),
        ("???", 0.01, False),
        ("+++", 1.0, True),
        ("+" * 55 + "-" * 45, 0.55, True),  # 0.55 * 100 is above 55 in floating point
    ],
)
def test_enough_verdicts_by_the_reasons_alone_must_be_the_label(checks: str, agree: float, rescued: bool) -> None:
    row = judged(Judge(checks=checks), RescueConfig(agree=agree, checks=len(checks)))
    assert (row.rescued is not None) == rescued
    assert row.rationales[0].rejected == (None if rescued else "not_confirmed")
    assert row.dropped == (None if rescued else "no_correct_judgment")


def test_the_first_rationale_that_passes_is_the_last_one() -> None:
    judge = Judge(checks="---+++")
    row = judged(judge, RescueConfig(samples=5))
    assert [each.rejected for each in row.rationales] == ["not_confirmed", None]
    assert [each.judgment.index for each in row.rationales] == [0, 1]
    assert row.rescued == row.rationales[1].judgment


def test_a_rationale_that_was_cut_is_not_learned() -> None:
    row = judged(Judge("long " * 50 + "[[{right}]]"), decoding=Sampling(max_tokens=20))
    assert row.rationales[0].rejected == "cut"


@pytest.mark.parametrize(("where", "tries", "reason"), [("hint", 0, None), ("check", 2, "check_too_long")])
def test_a_prompt_that_is_too_long_leaves_the_pair_as_it_was(where: str, tries: int, reason: str | None) -> None:
    judge = Judge()

    def answer(messages: Sequence[Turn], sampling: Sampling) -> str:
        before = len(judge.asked[where])
        written = judge.answer(messages, sampling)
        if len(judge.asked[where]) > before:
            raise PromptTooLong("4,000 tokens")
        return written

    config = JudgeConfig(samples=3, rescue=RescueConfig(samples=2))
    counter = TokenCounter(ScriptedEngine(answer).generate)
    row = asyncio.run(judge_or_rescue(make_row(pair=PAIR_OF_SUMS), counter, config, 0))
    assert (row.dropped, len(row.judgments), len(row.rationales)) == ("no_correct_judgment", 3, tries)
    assert all(each.rejected == reason for each in row.rationales)
    assert tries or "4,000 tokens" in (row.detail or "")


def test_a_request_that_fails_fails_the_row_as_any_other() -> None:
    judge = Judge()

    async def stage(row: Row, generate: TokenCounter) -> Row:
        return await judge_or_rescue(row, generate, JudgeConfig(samples=1, rescue=RescueConfig()), 0)

    def answer(messages: Sequence[Turn], sampling: Sampling) -> str:
        written = judge.answer(messages, sampling)
        if judge.asked["check"]:
            raise RequestFailed("refused")
        return written

    row = asyncio.run(run_stages(make_row(pair=PAIR_OF_SUMS), [stage], ScriptedEngine(answer).generate))  # type: ignore[list-item]
    assert (row.error, row.rescued) == ("refused", None)


def test_all_tokens_of_a_rescue_are_counted() -> None:
    judge = Judge()
    engine = ScriptedEngine(judge.answer)

    async def stage(row: Row, generate: TokenCounter) -> Row:
        return await judge_or_rescue(row, generate, JudgeConfig(samples=1, rescue=RescueConfig()), 0)

    row = asyncio.run(run_stages(make_row(pair=PAIR_OF_SUMS), [stage], engine.generate))  # type: ignore[list-item]
    assert (row.prompt_tokens, row.output_tokens) == (engine.usage.prompt_tokens, engine.usage.output_tokens)
    assert (
        row.output_tokens > sum(judgment.output_tokens for judgment in row.judgments) + row.rationales[0].judgment.output_tokens
    )


def test_rationales_come_back_from_disk_as_they_were() -> None:
    row = judged(Judge(checks="-"), RescueConfig(samples=2))
    [record] = table_of([row], ROW_SCHEMA).to_pylist()
    assert row_from_dict(record) == row
    del record["rationales"]
    assert row_from_dict(record).rationales == ()  # an older artifact


SENTENCES = st.lists(
    st.sampled_from(
        [
            "It adds up. ",
            "Assistant A is better.\n",
            "[[B]]",
            "So [[A]]. ",
            "The verdict: ",
            "\\[\\[A\\]\\] ",
            "［［B］］",
            "\n\n",
            "B's answer wins. ",
            "e.g. this: ",
            "\u200b",
        ]
    ),
    max_size=12,
).map("".join)


@given(SENTENCES | st.text(max_size=200))
def test_reasons_hold_no_verdict_that_a_parser_reads(text: str) -> None:
    reasons = reasons_of(text)
    assert not PAIR.tag.search(reasons)
    assert parse(reasons, PAIR, "distinct") is None
    assert "is better" not in reasons
    assert reasons_of(reasons) == reasons


def test_the_hint_says_the_label_and_is_in_no_other_prompt() -> None:
    assert fill(RESCUE_HINT, {"label": "A"}).count("[[A]]") == 1
    assert "[[B]]" not in fill(RESCUE_HINT, {"label": "A"})
    pair = PAIR_OF_SUMS
    assert all("Note to the Judge" not in turn.content for turn in judge_messages("?", pair, "A"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "judge.rescue.samples=0 rationales a pair: must be 1 to 100"),
        ({"samples": 101}, "judge.rescue.samples=101"),
        ({"checks": 0}, "judge.rescue.checks=0 verdicts a rationale"),
        ({"agree": 0.0}, "judge.rescue.agree=0.0: must be a share above 0"),
        ({"agree": 1.5}, "judge.rescue.agree=1.5"),
        ({"agree": float("nan")}, "judge.rescue.agree=nan"),
    ],
)
def test_settings_out_of_range_are_one_line(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        RescueConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"), [({"keep": "random"}, "judge.keep=random"), ({"task": "both"}, "judge.task=both")]
)
def test_settings_that_leave_nothing_to_rescue_are_one_line(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"judge.rescue: {message}"):
        JudgeConfig(rescue=RescueConfig(), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", [*(CUT, OTHER_LABEL, NO_REASONS, TOLD), *(NOT_CONFIRMED, TOO_LONG)])
def test_every_reason_not_to_learn_a_rationale_is_defined(reason: str) -> None:
    assert explain(reason).word == reason
