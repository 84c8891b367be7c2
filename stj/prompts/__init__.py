"""The paper's prompts, one text file each, and the one way to fill them in.

The files hold the words of the paper's figures exactly, with its own placeholders (`{response A}`); the paper's text reaches
us without line breaks, so where a line ends is ours. A file's hash goes into the manifest of every artifact made with it.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

CATEGORIZE = "categorize"  # Figure 7
MODIFIED_INSTRUCTION = "modified_instruction"  # Figure 2
WORSE_ANSWER = "worse_answer"  # Figure 10
JUDGE_SYSTEM = "judge_system"  # Figure 8, down to the verdict's format
JUDGE_USER = "judge_user"  # Figure 8, from [[User Question]] on
BEST_OF_FOUR_SYSTEM = "best_of_four_system"  # Figure 8 for RewardBench 2's four answers; ours
BEST_OF_FOUR_USER = "best_of_four_user"
RATE = "rate"  # one answer from 1 to 10, as RewardBench 2 asks; ours
VERDICT_ONLY_SYSTEM = "verdict_only_system"  # before Figure 8's [[User Question]]: the verdict without its reasons; ours
DEDUCTION_SYSTEM = "deduction_system"  # from a judgment back to the two responses; ours
DEDUCTION_USER = "deduction_user"
DEDUCTION_ANSWER = "deduction_answer"  # how the two responses are written down

_PLACEHOLDER = re.compile(r"\{([A-Za-z ]+)\}")


@cache
def prompt(name: str) -> str:
    """The text of one prompt file, placeholders included."""
    return files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")


def fill(name: str, values: Mapping[str, str]) -> str:
    """One prompt with its placeholders replaced, in a single pass: braces inside a value stay as they are."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], prompt(name))


def prompt_hash(name: str) -> str:
    """SHA-256 of the prompt file, in hex: part of the key of every artifact made with it."""
    return hashlib.sha256(prompt(name).encode()).hexdigest()
