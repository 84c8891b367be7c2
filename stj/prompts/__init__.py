"""The prompts, one text file each, and the function that fills them in.

A judge sees judge_system.txt and judge_user.txt, which are Figure 8; variants.py lists the other judge prompts, and given.py
reads a user's own.

The files of the paper's figures hold its exact words and placeholders (`{response A}`). The paper's text has no line breaks,
so the line breaks are ours. A file's hash is part of the key of every artifact made with it, so a changed prompt makes its
steps new.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

CATEGORIZE = "categorize"  # Figure 7
MODIFIED_INSTRUCTION = "modified_instruction"  # Figure 2
WORSE_ANSWER = "worse_answer"  # Figure 10
JUDGE_SYSTEM = "judge_system"  # Figure 8, first part: up to the format of the verdict
JUDGE_USER = "judge_user"  # Figure 8, second part: from [[User Question]]
BEST_OF_FOUR_SYSTEM = "best_of_four_system"  # Figure 8 adapted to RewardBench 2's four answers; ours
BEST_OF_FOUR_USER = "best_of_four_user"  # second part of the same
RATE = "rate"  # rates one answer from 1 to 10, as RewardBench 2 does; ours
GRADE_SYSTEM = "grade_system"  # grades one response by a rubric; ours
GRADE_USER = "grade_user"  # second part of the same
WRITE_RUBRIC = "write_rubric"  # has the generator write a rubric for an instruction; ours
VERDICT_ONLY_SYSTEM = "verdict_only_system"  # replaces judge_system: asks for the verdict without reasons; ours
DEDUCTION_SYSTEM = "deduction_system"  # asks for the two responses behind a judgment; ours
DEDUCTION_USER = "deduction_user"  # second part of the same
DEDUCTION_ANSWER = "deduction_answer"  # the format of the two responses
RESCUE_HINT = "rescue_hint"  # behind judge_user: tells the label and asks for the reasons; ours
RESCUE_CHECK = "rescue_check"  # behind such reasons: asks for the verdict that follows from them; ours

_PLACEHOLDER = re.compile(r"\{\{(?P<text>[A-Za-z][\w -]*)\}\}|\{(?P<name>[A-Za-z][\w -]*)\}")
"""A placeholder, or a word in doubled braces, which stands for the word in braces as text."""


@cache
def prompt(name: str) -> str:
    """The text of a prompt file, with its placeholders."""
    return files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")


def is_prompt(name: str) -> bool:
    """Whether this version has a prompt file of this name."""
    return files(__name__).joinpath(f"{name}.txt").is_file()


def fill(name: str, values: Mapping[str, str]) -> str:
    """A prompt with its placeholders replaced."""
    return fill_text(prompt(name), values)


def fill_text(text: str, values: Mapping[str, str]) -> str:
    """A text with its placeholders replaced, in a single pass: braces inside a value stay unchanged."""
    return _PLACEHOLDER.sub(lambda match: values[match["name"]] if match["name"] else f"{{{match['text']}}}", text)


def placeholders(text: str) -> set[str]:
    """The names of the placeholders in a text."""
    return {match["name"] for match in _PLACEHOLDER.finditer(text) if match["name"]}


def prompt_hash(name: str) -> str:
    """The SHA-256 of a prompt file, in hex: part of the key of every artifact made with it."""
    return hashlib.sha256(prompt(name).encode()).hexdigest()
