"""What a thinking model writes: a thought, then its answer. Everything that separates the two is here.

    <think>                  the model opens its thought, unless the chat template did
    First I compare ...
    </think>                 the thought is closed
                             from here on it is the answer
    Assistant A is right. [[A]]

The answer is the text behind the last `</think>`, without the white space before it. Only the answer is read: for categories,
for the two answers of a pair, and for verdicts. An output without tags is all answer.

A thought is open if the template opened it, or if `<think>` begins a line behind the last `</think>`. If the output ends in an
open thought, there is no answer, whatever the thought says about one. A `<think>` inside a line is only a word: a judge may
quote it.
"""

import re
from dataclasses import dataclass
from typing import Literal

OPEN, CLOSE = "<think>", "</think>"

_TAG_END = "think>"  # Both tags end so; a text without it has no thought, and most have none.
PromptThought = Literal["none", "opened", "closed"]
"""What the end of a prompt says about a thought: nothing, that the output begins inside one, or that there is none."""

_NO_THOUGHT = f"\n{CLOSE}\n\n"  # Behind an opened thought. This is how thinking models write an empty one.
_OPENED = re.compile(rf"^[ \t]*{OPEN}", re.MULTILINE)
_CLOSING = re.compile(rf"^[ \t]*{CLOSE}|{CLOSE}[ \t]*$", re.MULTILINE)
_OPENING = re.compile(rf"\s*{OPEN}\n*")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An output in two parts: `thought + text` is the output, character by character."""

    thought: str = ""
    """The output up to the answer, with its tags and the white space before the answer; "" if the model did not think."""
    text: str
    """The answer; "" if the thought is not closed."""
    closed: bool = True
    """Whether the output ends outside a thought."""


def split_thought(output: str, *, opened: bool = False) -> Reply:
    """The two parts of an output; `opened` if the prompt ends inside a thought."""
    _, tag, tail = output.rpartition(CLOSE)
    answer = tail.lstrip()
    if _OPENED.search(answer) or (opened and not tag):
        return Reply(thought=output, text="", closed=False)
    return Reply(thought=output[: len(output) - len(answer)], text=answer) if tag else Reply(text=output)


def join_thought(thought: str | None, text: str | None) -> Reply:
    """The reply of a server that returns the thought apart, without its tags. A thought without an answer is not closed."""
    if not thought:
        return split_thought(text or "")
    opening = f"{OPEN}\n{thought.strip()}\n"
    if not text:
        return Reply(thought=opening, text="", closed=False)
    answer = split_thought(text)
    return Reply(thought=f"{opening}{CLOSE}\n\n{answer.thought}", text=answer.text, closed=answer.closed)


def answer_of(output: str) -> str:
    """The answer of an output whose prompt is not known, such as a recorded judgment."""
    return split_thought(output).text if _TAG_END in output else output


def shown_response(response: str) -> str:
    """A response as a judge sees it: the answer behind its thought, if it begins with one.

    A pair from a file or a caller may hold what a thinking model wrote, on one side or on both. A response that only mentions
    the tags is shown whole: a `</think>` without a `<think>` closes a thought only if it begins or ends a line.
    """
    closing = _CLOSING.search(response)
    opened_before = closing is not None and OPEN not in response[: closing.start()]
    return answer_of(response) if response.lstrip().startswith(OPEN) or opened_before else response


def comparable_thoughts(first: str, second: str) -> bool:
    """Whether two outputs may stand side by side: both have a thought that says something, or their thoughts are the same."""
    return first == second or bool(_words(first) and _words(second))


def thought_behind(prompt: PromptThought, thought: str) -> str:
    """A thought as a model must write it behind such a prompt: `<think>` comes once, from the prompt or from the model.

    If the prompt opened a thought and there is none, the model must close it. If the prompt closed it, there is no thought.
    """
    if prompt == "closed":
        return ""
    opening = _OPENING.match(thought)
    if prompt == "opened":
        return thought[opening.end() :] if opening else thought or _NO_THOUGHT
    return thought if opening or not thought else f"{OPEN}\n{thought}"


def _words(thought: str) -> str:
    """A thought without its tags."""
    return thought.replace(OPEN, "").replace(CLOSE, "").strip()
