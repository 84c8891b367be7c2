"""Two turns of a dialogue in one text: MT-Bench's second turn, as the prompts show it that have words for one turn only."""

from typing import NamedTuple

SECOND_QUESTION = "\n\n[[Second User Question]]\n"
SECOND_ANSWER = "\n\n[[Answer to the Second User Question]]\n"
SECOND_REFERENCE = "\n\n[[Reference Answer to the Second User Question]]\n"


class TwoTurns(NamedTuple):
    """What was said in the first turn, and in the second."""

    first: str
    second: str


def split_turns(text: str, mark: str) -> TwoTurns | None:
    """The turns of a text that the mark joins; None if it holds one turn."""
    first, joint, second = text.partition(mark)
    return TwoTurns(first, second) if joint else None
