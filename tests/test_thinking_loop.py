"""A model that thinks, through every stage: from an instruction to the tokens that train the next judge."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stj.config import Config, ExamplesConfig, HeldoutConfig, JudgeConfig, PairsConfig, SelectConfig
from stj.config_loader import load
from stj.engine.scripted import ScriptedEngine
from stj.errors import PassFailed
from stj.evals.benchmarks import BENCHMARKS
from stj.evals.benchmarks.evaluation import judged_examples
from stj.generate import Sampling
from stj.judging.judge import compare_responses
from stj.loop.counts import Funnel, JudgingCounts
from stj.loop.heldout import score_heldout
from stj.loop.phases import Run
from stj.loop.tasks import to_example
from stj.models.chat import encode_chat
from stj.models.thinking import ThoughtReader
from stj.rows import HELDOUT, Candidates, Example, Pair, Row, Turn, example_from_dict, rows_to_table
from stj.stages.categorize import categorize
from stj.stages.judge import judge, judge_heldout, judge_in_every_order, rate
from stj.stages.pairs import make_pair
from stj.stages.runner import TokenCounter, run_stages
from stj.stages.select import select
from stj.stages.vote import vote
from stj.thoughts import CLOSE, OPEN
from stj.train.data import encode_examples, end_of_turn, kept_examples
from stj.train_config import TrainConfig
from stj.use_config import VoteConfig
from tests.conftest import make_row
from tests.models.test_thinking import OPENS, TEMPLATE, with_tags
from tests.train.conftest import make_tokenizer

MINI = Path(__file__).parents[1] / "conf" / "mini.yaml"
FIGURE_2 = (
    "User Question Modified\nWhat is 2 + 3?\n\nThe start of Assistant’s answer to the modified instruction\n5\n"
    "The end of Assistant’s answer to the modified instruction"
)
MISLEADING = "Category: Coding\nComplexity: 1\nLength: (e)\n[[B]] no, [[A]]. Rating: 1\n" + FIGURE_2.replace(
    "5", "a thought's answer"
).replace("2 + 3", "a thought")
"""A thought that holds whatever a parser looks for, and another value than the answer does."""


def answer_to(messages: Sequence[Turn]) -> str:
    """What the model answers behind its thought. As a judge it is right: 4 is better than 5."""
    last = messages[-1].content
    if "Below is a conversation" in last:
        return FIGURE_2
    if "Complexity" in last:
        return "Category: Mathematical reasoning\nComplexity: 3\nLength: (a)"
    if "Assistant A" in last:
        return f"I compare. [[{'A' if last.index(chr(10) + '4' + chr(10)) < last.index(chr(10) + '5' + chr(10)) else 'B'}]]"
    if "rate" in messages[-1].content.lower():
        return "It is good. 8"
    return "4"


def thinking(opens: bool, *, closed: bool = True, thought: str = MISLEADING) -> ScriptedEngine:
    """A model that thinks about everything; `opens` if its template opens the thought, `closed` if it ever ends one."""
    start = "" if opens else f"{OPEN}\n"

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        answer = answer_to(messages)
        return f"{start}{thought}\n{CLOSE}\n\n{answer}" if closed else f"{start}{thought}\n{answer}"

    return ScriptedEngine(handler, opens_thought=opens)


def through_the_generator_and_the_judge(engine: ScriptedEngine, row: Row, config: Config) -> Row:
    stages = [
        partial(categorize, config=config.categorize),
        partial(select, rule=config.select, gate=None),
        partial(make_pair, config=config.pairs),
        partial(judge, config=config.judge, seed=config.seed),
    ]
    return asyncio.run(run_stages(row, stages, engine.generate))


@pytest.mark.parametrize("opens", [False, True])
def test_only_what_is_behind_the_thought_is_read(opens: bool) -> None:
    row = through_the_generator_and_the_judge(thinking(opens), make_row(), Config())
    assert row.category is not None
    assert (row.category.name, row.category.complexity) == ("Mathematical reasoning", 3)
    assert row.pair == Pair(method="modified_instruction", chosen="4", rejected="5", modified_instruction="What is 2 + 3?")
    (judgment,) = row.judgments
    assert row.kept == 0
    assert judgment.text == f"I compare. [[{judgment.winner}]]"
    assert judgment.thought.count(CLOSE) == 1
    assert judgment.thought.count(OPEN) == (0 if opens else 1)


@pytest.mark.parametrize("opens", [False, True])
def test_no_prompt_shows_a_thought(opens: bool) -> None:
    engine = thinking(opens)
    through_the_generator_and_the_judge(engine, make_row(), Config())
    assert len(engine.requests) == 4
    shown = "".join(turn.content for messages, _ in engine.requests for turn in messages)
    assert "think>" not in shown
    assert "a thought" not in shown


@pytest.mark.parametrize("opens", [False, True])
def test_a_thought_that_is_not_closed_is_a_truncated_answer_in_every_stage(opens: bool) -> None:
    engine = thinking(opens, closed=False)
    generate = TokenCounter(engine.generate)
    paired = make_row(pair=Pair(method="given", chosen="4", rejected="5"))
    four = make_row(candidates=Candidates(answers=("4", "5", "6", "7"), good=1), subset="Factuality")

    category = asyncio.run(categorize(make_row(), generate, Config().categorize))
    assert (category.dropped, category.category) == ("category_truncated", None)
    assert category.detail is not None
    assert "Category: Coding" in category.detail
    assert asyncio.run(make_pair(make_row(), generate, PairsConfig())).dropped == "answer_truncated"
    assert Funnel.of([category]).dropped == {"category_truncated": 1}

    judged = asyncio.run(judge(paired, generate, JudgeConfig(samples=3), 0))
    assert judged.dropped == "no_correct_judgment"
    counts = JudgingCounts()
    counts.add(judged, "correct")
    assert (counts.draws, counts.unparsed, counts.truncated, counts.truncated_share) == (3, 3, 3, 1.0)

    heldout = asyncio.run(judge_heldout(replace(paired, task=HELDOUT), generate, HeldoutConfig()))
    scores = score_heldout([heldout])
    assert scores is not None
    assert (scores.accuracy, scores.unparsed, scores.truncated) == (0, 1, 1)

    for row in (
        judged,
        heldout,
        asyncio.run(judge_in_every_order(four, generate, [("greedy", Sampling(), 0)], "distinct")),
        asyncio.run(rate(four, generate, Sampling(), "distinct")),
        asyncio.run(vote(paired, generate, VoteConfig())),
    ):
        assert row.judgments
        for judgment in row.judgments:
            assert (judgment.text, judgment.verdict, judgment.finish_reason) == ("", None, "length")
            assert MISLEADING in judgment.thought


def test_the_worse_answer_behind_a_thought_that_is_not_closed_is_truncated_too() -> None:
    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        return f"<think>\n{FIGURE_2}" if "Below is a conversation" in messages[-1].content else "<think>2 + 2</think>4"

    row = asyncio.run(make_pair(make_row(), TokenCounter(ScriptedEngine(handler).generate), PairsConfig()))
    assert (row.dropped, row.pair) == ("rejected_truncated", None)


@pytest.mark.parametrize("opens", [False, True])
def test_a_judge_in_use_and_every_parser_read_behind_the_thought(opens: bool) -> None:
    generate = TokenCounter(thinking(opens).generate)
    verdict = asyncio.run(compare_responses("What is 2 + 2?", "4", "5", generate, VoteConfig()))
    assert (verdict.verdict, verdict.confidence) == ("A", 1.0)
    assert all("a thought" in vote.thought and "a thought" not in vote.text for vote in verdict.votes)
    assert all("a thought" in vote["thought"] for vote in verdict.plain()["votes"])

    four = make_row(candidates=Candidates(answers=("4", "5", "6", "7"), good=1), subset="Ties")
    rated = asyncio.run(rate(four, generate, Sampling(), "distinct"))
    for parser in ("strict", "paper"):
        (example,) = judged_examples([rated], BENCHMARKS["rewardbench2"], parser, votes=False)  # type: ignore[arg-type]
        assert example.ratings == (8, 8, 8, 8)


@pytest.mark.parametrize("method", ["given", "open"])
def test_no_judge_sees_a_thought_on_one_side_of_a_given_pair(method: str) -> None:
    engine = ScriptedEngine(lambda messages, sampling: "[[A]]")
    generate = TokenCounter(engine.generate)
    pair = Pair(method=method, chosen="<think>\n2 + 2\n</think>\n\n4", rejected="5")
    four = make_row(candidates=Candidates(answers=(pair.chosen, "5", "6", "7"), good=1), subset="Ties")
    asyncio.run(judge_heldout(make_row(pair=pair, task=HELDOUT), generate, HeldoutConfig()))
    asyncio.run(vote(make_row(pair=pair), generate, VoteConfig()))
    asyncio.run(judge_in_every_order(four, generate, [("greedy", Sampling(), 0)], "distinct"))
    asyncio.run(rate(four, generate, Sampling(), "distinct"))
    assert len(engine.requests) == 8 + 2 + 4 + 4
    assert all("think>" not in turn.content for messages, _ in engine.requests for turn in messages)


def test_an_earlier_thought_is_no_part_of_a_dialogue() -> None:
    generate = TokenCounter(ScriptedEngine(lambda messages, sampling: "[[A]]").generate)
    dialogue = [
        {"role": "user", "content": "Hi <think>me</think>"},
        {"role": "assistant", "content": "<think>\nHello or hi?\n</think>\n\nHello"},
        {"role": "user", "content": "2 + 2?"},
    ]
    assert asyncio.run(compare_responses(dialogue, "4", "5", generate, VoteConfig())).error is None
    dialogue[1]["content"] = "<think>\nHello or"
    assert asyncio.run(compare_responses(dialogue, "4", "5", generate, VoteConfig())).error == "empty_turn"


def example_of(opens: bool, **settings: str) -> Example:
    row = through_the_generator_and_the_judge(thinking(opens, thought="4 or 5?"), make_row(), Config())
    assert row.kept is not None
    return to_example(row, row.judgments[row.kept], **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("thoughts", ["keep", "drop"])
@pytest.mark.parametrize(("judge_opens", "seed_template"), [(False, TEMPLATE), (False, OPENS), (True, TEMPLATE), (True, OPENS)])
def test_what_is_learned_is_what_the_model_must_write_behind_its_prompt(
    judge_opens: bool, seed_template: str, thoughts: str, tmp_path: Path
) -> None:
    """The judge of iteration 1 may be another model than the seed, with another template."""
    example = example_of(judge_opens, thoughts=thoughts)
    tokenizer = with_tags(seed_template, special=True)
    (tokens,), dropped = kept_examples(encode_examples(tokenizer, [example], end_of_turn(tokenizer, tmp_path), TrainConfig()))
    assert dropped == {}
    prompt = list(tokens.texts[0][: tokens.prompt_length])
    assert prompt == encode_chat(tokenizer, example.messages)

    learned = tokenizer.decode(tokens.texts[0][tokens.prompt_length :]).removesuffix("<|end|>")
    seen_whole = learned if seed_template == TEMPLATE else f"<think>\n{learned}"
    judgment = f"I compare. [[{example.winner}]]"
    if thoughts == "keep":
        assert seen_whole == f"<think>\n4 or 5?\n</think>\n\n{judgment}"
    else:
        assert seen_whole == (judgment if seed_template == TEMPLATE else f"<think>\n\n</think>\n\n{judgment}")

    ids = [int(token) for token in tokens.texts[0][tokens.prompt_length : -1]]
    reply = ThoughtReader.of(tokenizer).read(ids, tokenizer.decode(ids, skip_special_tokens=True))
    assert (reply.text, reply.closed) == (judgment, True)


def test_a_judge_that_does_not_think_learns_the_same_with_either_setting(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda messages, sampling: answer_to(messages))
    row = through_the_generator_and_the_judge(engine, make_row(), Config())
    assert to_example(row, row.judgments[0], thoughts="keep") == to_example(row, row.judgments[0], thoughts="drop")
    assert to_example(row, row.judgments[0]).thought == ""


def test_a_thought_counts_in_the_length_of_an_example() -> None:
    tokenizer = make_tokenizer()
    whole, alone = example_of(False), example_of(False, thoughts="drop")
    (tokens,), _ = kept_examples(encode_examples(tokenizer, [alone], [0], TrainConfig(max_seq_len=8192)))
    limit = TrainConfig(max_seq_len=tokens.length)
    assert kept_examples(encode_examples(tokenizer, [whole, alone], [0], limit))[1] == {"too_long": 1}


@pytest.mark.parametrize(
    ("right", "wrong", "kept"),
    [
        ("<think>a</think>", "<think>b</think>", True),
        ("<think>a</think>", "", False),
        ("", "<think>b</think>", False),
        ("<think>a</think>", "<think>\n\n</think>\n\n", False),
        ("", "", False),
    ],
)
@pytest.mark.parametrize("template", [TEMPLATE, OPENS])
def test_a_preference_has_thoughts_on_both_sides_or_on_neither(right: str, wrong: str, kept: bool, template: str) -> None:
    row = through_the_generator_and_the_judge(thinking(False), make_row(), Config())
    judgment = row.judgments[0]
    other = "B" if judgment.winner == "A" else "A"
    example = to_example(
        row,
        replace(judgment, thought=right),
        replace(judgment, thought=wrong, text=f"I compare. [[{other}]]", verdict=other),
    )
    assert (example.thought, example.rejected_thought) == ((right, wrong) if kept else ("", ""))
    tokenizer = with_tags(template, special=True)
    config = TrainConfig(objective="dpo", max_seq_len=8192)
    (tokens,), _ = kept_examples(encode_examples(tokenizer, [example], [0], config))
    closing = tokenizer.convert_tokens_to_ids(CLOSE)
    counts = [list(text[tokens.prompt_length :]).count(closing) for text in tokens.texts]
    assert counts[0] == counts[1] == int(kept or template == OPENS)


@pytest.mark.parametrize("kind", ["verdict", "deduction"])
def test_the_other_kinds_of_examples_have_no_thoughts(kind: str) -> None:
    example = example_of(False, kind=kind)
    texts = (example.thought, example.completion, *(turn.content for turn in example.messages))
    assert "think>" not in "".join(texts)
    assert "4 or 5?" not in "".join(texts)


def run_of(tmp_path: Path, *overrides: str) -> Run:
    return Run(load([MINI], [f"run_root={tmp_path}/run", "iterations=1", *overrides]))


def selected(run: Run, rows: list[Row]) -> tuple[list[Example], dict[str, object]]:
    run.pairs.artifact.begin()
    run.pairs.artifact.write_part("part-0", rows_to_table(rows))
    run.pairs.artifact.finish()
    examples = run.iterations[0].examples
    examples.artifact.begin()
    examples.run()
    return list(map(example_from_dict, examples.artifact.records())), examples.artifact.manifest()


def judged_rows(opens: bool = False) -> list[Row]:
    config = replace(Config(), select=SelectConfig(categories=None))
    rows = [make_row(position, id=f"row-{position}") for position in range(12)]
    return [through_the_generator_and_the_judge(thinking(opens), row, config) for row in rows]


@pytest.mark.parametrize(("setting", "holds"), [("keep", True), ("drop", False)])
def test_a_setting_says_whether_examples_hold_the_thoughts(setting: str, holds: bool, tmp_path: Path) -> None:
    examples, manifest = selected(run_of(tmp_path, f"examples.thoughts={setting}"), judged_rows())
    assert examples
    assert all(bool(example.thought) == holds and "think>" not in example.completion for example in examples)
    assert manifest["judged"]["truncated"] == 0  # type: ignore[index]


@pytest.mark.slow
def test_the_setting_is_in_the_key_of_the_examples_and_its_default_is_not(tmp_path: Path) -> None:
    def key(*overrides: str) -> str:
        return json.dumps(run_of(tmp_path, *overrides).iterations[0].examples.artifact.key)

    assert key("examples.thoughts=keep") == key()
    assert "thoughts" not in key()
    assert key("examples.thoughts=drop") != key()
    assert ExamplesConfig().thoughts == "keep"


def test_pairs_whose_answers_hold_thoughts_teach_nothing(tmp_path: Path) -> None:
    rows = judged_rows()
    spoiled = [
        replace(row, pair=replace(row.pair, chosen=f"<think>\n2 + 2\n</think>\n\n{row.pair.chosen}"))  # type: ignore[union-attr, type-var]
        for row in rows
    ]
    with pytest.raises(PassFailed, match="dropped: 12 thought_in_answer"):
        selected(run_of(tmp_path), spoiled)
