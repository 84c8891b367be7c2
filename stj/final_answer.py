"""Whether an answer is right, by the known answer to its question: how a sampled answer is checked without a judge.

A known number is compared with the number that an answer comes to (final_number.py). Known words are compared with the words
of the answer's last \\boxed{}, else with those behind "####", "Answer:" or "answer is" in its last line, else with the whole
answer if it is one line. Case and punctuation do not count. If the known answer is one letter, it is a choice: "(B) Paris"
chooses B.

A wrong label is worse than a lost answer. So an answer is neither right nor wrong if it may be the known one in other words: it
holds the known words or is a part of them, it has digits or signs of a formula, or what it ends with is not clear. Nor are
known answers used that can be written in several ways: formulas, and words with digits.
"""

import re

from stj.final_number import as_number, final_number

_MARKED = re.compile(r".*####[ \t]*(?P<value>\S.*)")
_BOXED = re.compile(r"\\boxed\s*\{(?P<value>(?:[^{}]|\{[^{}]*\})*)\}")
_SAID = re.compile(r"\banswer\b[*_ ]*(?:is\b|:)[*_: ]*(?P<value>[^\n]+)", re.IGNORECASE)
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_PLAIN = re.compile(r"(?:[^\W\d_]|[\s.,;:!?*_\"'“”‘’()\[\]–—-])+")
"""Letters, blanks and punctuation: neither digits nor signs of a formula."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CHOICE = re.compile(r"\W*(?P<letter>[A-Za-z])(?:\W*|[.:)\]].*)")


def can_be_known(answer: str) -> bool:
    """Whether a known answer can be compared with others: a number, or words without digits and signs of a formula."""
    return as_number(answer) is not None or bool(_words(answer))


def is_right(text: str, known: str) -> bool | None:
    """Whether an answer is right; None if that is not clear."""
    if (number := as_number(known)) is not None:
        given = final_number(text)
        return None if given is None else given == number
    final, wanted = _final_words(text), _words(known)
    if final is None or wanted is None:
        return None
    if len(known.strip()) == 1:
        choice = _CHOICE.fullmatch(final)
        return choice["letter"].casefold() == known.strip().casefold() if choice else None
    words = _words(final)
    if not words:
        return None
    if words == wanted:
        return True
    return None if _holds(words, wanted) or _holds(wanted, words) else False


def _final_words(text: str) -> str | None:
    """What an answer ends with: boxed, marked or announced, or all of it if it is one line; None if that is not clear."""
    lines = text.strip().splitlines()
    for mark, place in ((_BOXED, text), (_MARKED, lines[-1] if lines else ""), (_SAID, lines[-1] if lines else "")):
        if found := list(mark.finditer(place)):  # Behind a heading ("#### Result") or "The answer is below:" comes more.
            return _TEXT.sub(r"\1", found[-1]["value"])
    return text if len(lines) == 1 else None


def _words(text: str) -> list[str] | None:
    """The words of a text, in lower case; None if it holds digits or signs of a formula."""
    return _WORD.findall(text.casefold()) if _PLAIN.fullmatch(text) else None


def _holds(words: list[str], part: list[str]) -> bool:
    """Whether words hold others, in a row."""
    return any(words[start : start + len(part)] == part for start in range(len(words) - len(part) + 1))
