"""Simple features of an answer that may give away which of two answers is better, without reading what they say."""

import re
from collections.abc import Callable, Mapping

from stj.evals.text_language import text_language
from stj.thoughts import shown_response

Feature = Callable[[str, str], float]
"""From an instruction and an answer to a number."""

_MARKDOWN = re.compile(
    r"^ {0,3}#{1,6} \S"  # a heading
    r"|^[^\S\n]*(?:[-*+]|\d{1,3}[.)]) +\S"  # an item of a list
    r"|^[^\S\n]*```"  # a fence
    r"|^[^\S\n]*\|.*\|[^\S\n]*$"  # a line of a table
    r"|\*\*\S(?:[^*\n]{0,200}\S)?\*\*"  # bold words
    r"|`[^`\n]+`"  # code in a line
    r"|\[[^\]\n]{1,200}\]\([^)\s]{1,500}\)",  # a link
    re.MULTILINE,
)
_REFUSAL = re.compile(
    r"\b(?:i\s?['’]?\s?a?m sorry|i apologi[sz]e|my apologies|sorry, (?:but )?i|unfortunately, i (?:can|am)"
    r"|i (?:can\s?not|can['’]?t|could not|won['’]?t|will not|must decline|do not feel comfortable|don['’]?t feel comfortable)"
    r"|i(?:['’]?m| am) (?:unable|not able|not comfortable|only an ai|an ai)|as an ai\b|as a language model)",
    re.IGNORECASE,
)
_BEGINNING = 400  # Characters in which a refusal shows; later ones may be part of an answer.
_OPENING_WORDS = 3  # "sure here is", "as an ai": fewer words say little, more are seldom shared.
_WORD = re.compile(r"\w+(?:['’]\w+)?")


def _length(instruction: str, answer: str) -> float:
    return float(len(answer))


def _markdown(instruction: str, answer: str) -> float:
    return float(sum(1 for _ in _MARKDOWN.finditer(answer)))


def _refusals(instruction: str, answer: str) -> float:
    return float(_REFUSAL.search(answer[:_BEGINNING]) is not None)


def _language(instruction: str, answer: str) -> float:
    """1 if the answer is in another language than the instruction; 0 if that is not known."""
    asked, given = text_language(instruction), text_language(answer)
    return float(asked is not None and given is not None and asked != given)


def _unfinished(instruction: str, answer: str) -> float:
    """1 if the answer ends inside a sentence or a block of code, as one does that max_tokens cut."""
    end = answer.rstrip()
    return float(bool(end) and (end[-1].isalpha() or end[-1] in ",;:-(" or end.count("```") % 2 == 1))


FEATURES: Mapping[str, Feature] = {
    "length": _length,
    "markdown": _markdown,
    "refusals": _refusals,
    "language": _language,
    "unfinished": _unfinished,
}
"""The number of characters, the number of marks of Markdown, whether it begins with a refusal, whether it is in another
language than the instruction, and whether it ends inside a sentence."""
RULES: Mapping[str, str] = {
    "length": "the longer answer",
    "markdown": "the answer with more Markdown",
    "refusals": "the answer that refuses",
    "language": "the answer in another language",
    "unfinished": "the answer that ends inside a sentence",
}
"""What a feature alone would choose."""


def feature_sign(name: str, instruction: str, chosen: str, rejected: str) -> int:
    """1 if the feature alone chooses the better answer, -1 if it chooses the worse one, 0 if both have the same value.

    What a thinking model thought before an answer does not count, because no judge sees it.
    """
    better, worse = (FEATURES[name](instruction, shown_response(answer)) for answer in (chosen, rejected))
    return (better > worse) - (better < worse)


def opening(answer: str) -> str:
    """The first words of an answer in lower case, without signs."""
    found = _WORD.finditer(answer[:_BEGINNING].lower())
    return " ".join(match.group() for match, _ in zip(found, range(_OPENING_WORDS), strict=False))
