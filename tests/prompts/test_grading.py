"""The words of a grade, of this package and of a user's file."""

from pathlib import Path

import pytest

from stj.errors import ConfigError
from stj.prompts.grading import Graded, GradePrompt, grade_prompt_of
from stj.rubrics import rubric
from stj.use_config import GradeConfig
from stj.verdict import GRADE_STYLES, parse

RUBRIC = rubric("helpfulness", "rubric")
FLOW = """\
user: |-
  # GOAL
  Grade by {criterion}

  # INPUT
  {instruction}

  # CONTEXT
  {context}

  # OUTPUT
  {response}

  {points}
point: "- Score {score}: {description}"
"""


def given(tmp_path: Path, text: str, style: str | None = "flow") -> GradePrompt:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return grade_prompt_of(GradeConfig(prompt=str(file), prompt_format=style).prompt)


def test_a_published_judge_is_asked_in_its_own_words(tmp_path: Path) -> None:
    prompt = given(tmp_path, FLOW)
    words = prompt.ask(Graded(instruction="{points}", response="{x}", context=None), RUBRIC)
    assert words.user.startswith(
        f"# GOAL\nGrade by {RUBRIC.criterion}\n\n# INPUT\n{{points}}\n\n# OUTPUT\n{{x}}\n\n- Score 1: It "
    )
    assert len(words.user.splitlines()) == 14
    assert "\n\n# CONTEXT\nc\n\n# OUTPUT" in prompt.ask(Graded(instruction="", response="", context="c"), RUBRIC).user
    assert parse("<feedback>Good.</feedback>\n<score>4</score>", prompt.wording(RUBRIC), "strict") == "4"
    assert parse("[[4]]", prompt.wording(RUBRIC), "strict") is None


@pytest.mark.parametrize("style", GRADE_STYLES)
def test_every_style_can_be_named(style: str, tmp_path: Path) -> None:
    assert given(tmp_path, FLOW, style).style == style


def test_words_with_a_reference_replace_those_without(tmp_path: Path) -> None:
    plain = "{instruction} {response} {criterion} {points}"
    text = f"user: '{plain}'\nuser_with_reference: '{{reference}} {plain}'"
    prompt = given(tmp_path, text)
    assert prompt.shows("reference")
    assert not prompt.shows("context")
    assert prompt.ask(Graded(instruction="q", response="a", reference="r"), RUBRIC).user.startswith("r q a ")
    assert prompt.ask(Graded(instruction="q", response="a"), RUBRIC).user.startswith("q a ")


@pytest.mark.parametrize(
    ("text", "style", "words"),
    [
        ("user: '{instruction} {response} {criterion}'", "flow", r"mine\.yaml: user lacks the placeholder \{points\}"),
        ("user: '{instruction} {response} {criterion} {points} {score}'", "flow", r"unknown placeholder \{score\}"),
        (FLOW.replace("{score}: ", ""), "flow", r"mine\.yaml: point lacks the placeholder \{score\}"),
        (FLOW.replace("{score}: ", "{score} {rank}: "), "flow", r"point has the unknown placeholder \{rank\}"),
        (FLOW.replace("point:", "points:"), "flow", r"unknown key 'points'; a prompt has system, user,"),
        (FLOW, None, r"name the format of its verdicts with grade\.prompt_format: prometheus, flow"),
        (FLOW, "flo", r"no such format of a grade \(did you mean 'flow'\?\)"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, style: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        given(tmp_path, text, style)
    assert "\n" not in str(error.value)


def test_a_style_without_a_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"grade\.prompt=grade has its own format; leave grade.prompt_format out"):
        GradeConfig(prompt_format="flow")
