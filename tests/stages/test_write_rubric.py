"""Rubrics that a model writes: read whole or not at all, and kept only if they grade the better answer higher."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import GradingConfig, JudgeConfig
from stj.generate import Completion, Generate, Sampling
from stj.rows import Pair, Row, Turn
from stj.rubrics import SCALES
from stj.stages.runner import run_stages
from stj.stages.write_rubric import parse_rubric, write_rubric
from tests.conftest import make_row
from tests.cpu_time import in_proportion

WHOLE = "Criterion: Is the sum right?\nScore 1: No sum.\nScore 2: A wrong sum.\nScore 3: The right sum."
WORDS = st.text(st.characters(blacklist_categories=("C", "Z"), blacklist_characters="*_`#>${}-"), min_size=1, max_size=20)


def written(text: str, better: str, worse: str, finish_reason: str = "stop") -> Row:
    """The row after a generator that writes this rubric, and these grades by it."""

    async def ask(messages: Sequence[Turn], sampling: Sampling) -> Completion:
        shown = messages[-1].content
        if "Write a rubric" in shown:
            return Completion(text=text, finish_reason=finish_reason, prompt_tokens=1, output_tokens=1)
        return Completion(text=better if "\nfour\n" in shown else worse, finish_reason="stop", prompt_tokens=1, output_tokens=1)

    async def stage(row: Row, generate: Generate) -> Row:
        return await write_rubric(row, generate, GradingConfig(rubric="written", scale="1-3"), JudgeConfig())

    return asyncio.run(run_stages(make_row(pair=Pair(method="given", chosen="four", rejected="five")), [stage], ask))


def test_a_rubric_that_grades_the_better_answer_higher_is_kept() -> None:
    row = written(WHOLE, "[[3]]", "[[2]]")
    [rubric] = row.rubrics
    assert (rubric.criterion, rubric.scale, rubric.descriptions[2]) == ("Is the sum right?", "1-3", "The right sum.")
    assert (row.ungraded, row.dropped) == (None, None)


@pytest.mark.parametrize(
    ("text", "better", "worse", "finish_reason", "reason"),
    [
        (WHOLE, "[[2]]", "[[2]]", "stop", "rubric_not_higher"),
        (WHOLE, "[[1]]", "[[3]]", "stop", "rubric_not_higher"),
        (WHOLE, "no idea", "[[1]]", "stop", "rubric_not_higher"),
        (WHOLE, "[[3]]", "[[2]]", "length", "rubric_truncated"),
        ("A good answer is right.", "[[3]]", "[[2]]", "stop", "rubric_unparsed"),
    ],
)
def test_another_rubric_is_dropped_and_the_pair_stays(
    text: str, better: str, worse: str, finish_reason: str, reason: str
) -> None:
    row = written(text, better, worse, finish_reason)
    assert (row.rubrics, row.ungraded, row.dropped) == ((), reason, None)
    assert row.pair


@pytest.mark.slow
@given(scale=st.sampled_from(sorted(SCALES)), data=st.data(), markup=st.sampled_from(["", "**", "- ", "> ", "# "]))
def test_a_whole_rubric_is_read_as_it_was_written(scale: str, data: st.DataObject, markup: str) -> None:
    points = SCALES[scale]
    criterion, *texts = data.draw(st.lists(WORDS, min_size=len(points) + 1, max_size=len(points) + 1, unique_by=str.casefold))
    lines = [f"Score {point}: {text}" for point, text in zip(points, texts, strict=True)]
    rubric = parse_rubric("\n".join(f"{markup}{line}" for line in [f"Criterion: {criterion}", *lines]), scale)
    assert rubric is not None
    assert (rubric.criterion, rubric.descriptions) == (criterion, tuple(texts))


@given(
    st.text(max_size=300) | st.lists(st.sampled_from([*WHOLE.splitlines(), "Score 4: More.", ""]), max_size=8).map("\n".join)
)
def test_any_text_is_a_whole_rubric_or_none(text: str) -> None:
    rubric = parse_rubric(text, "1-3")
    lines = [line for line in text.splitlines() if line.strip()]
    wanted = sorted(WHOLE.splitlines())
    if sorted(lines) != wanted:
        assert rubric is None or sum("score" in line.casefold() for line in lines) == 3
    else:
        scores = [line for line in lines if line.startswith("Score")]
        assert (rubric is not None) == (scores in (sorted(scores), sorted(scores)[::-1]))


@pytest.mark.parametrize(
    "text",
    [
        "Criterion: <one question>\nScore 1: <one sentence>\nScore 2: <one sentence>\nScore 3: <one sentence>",
        "Criterion: Is it right?\nScore 1: ...\nScore 2: ...\nScore 3: ...",
        WHOLE.replace("A wrong sum.", "no SUM."),
        WHOLE.replace("Is the sum right?", "The response should\n- be right\n- be short"),
        WHOLE.replace("A wrong sum.", "A wrong sum,\n  or two."),
        WHOLE + "\n" + WHOLE,
        WHOLE.replace("Score 2: A wrong sum.\n", ""),
        WHOLE.replace("Score 1: No sum.\nScore 2", "Score 1-2"),
        WHOLE.replace("Score", "Punktzahl"),
        "| Score | Meaning |\n|---|---|\n| 1 | No sum. |\n| 2 | A wrong sum. |\n| 3 | The right sum. |",
        WHOLE.replace("No sum.", "No sum ${x}."),
        WHOLE.replace("No sum.", "\u200b"),
    ],
)
def test_a_rubric_that_says_less_than_it_seems_is_none(text: str) -> None:
    assert parse_rubric(text, "1-3") is None


@pytest.mark.parametrize(
    "text",
    [
        f"Sure, here it is:\n\n{WHOLE}\n\nI hope this helps!",
        f"```\n{WHOLE}\n```",
        WHOLE.replace("\n", "\n\n---\n\n"),
        WHOLE.replace("\n", "\r\n"),
        "\n".join(reversed(WHOLE.splitlines())),
    ],
)
def test_words_around_a_rubric_and_lines_without_words_are_left_out(text: str) -> None:
    rubric = parse_rubric(text, "1-3")
    assert rubric is not None
    assert (rubric.criterion, rubric.descriptions) == ("Is the sum right?", ("No sum.", "A wrong sum.", "The right sum."))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["Criterion: x\n", "Score 1: y\n", "*******\n", "Score 1", " ", "\n", "######Score 1******\n"])
def test_reading_takes_linear_time(part: str) -> None:
    short, long = (WHOLE + "\n" + part * size for size in (5_000, 80_000))
    assert in_proportion(lambda text: parse_rubric(text, "1-3"), short, long, times=16)
