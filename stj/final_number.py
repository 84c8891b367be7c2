"""The number that an answer comes to: how a sampled answer is checked without a judge (GSM8K).

A number that can be read in two ways is none: a wrong label is worse than a lost answer.
"""

import re
from decimal import Decimal

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_VALUE = rf"[-−+]?\$?(?:{_DIGITS})"
_NUMBER = re.compile(
    rf"(?<![\w.,])(?<![A-Za-z]-)(?P<value>{_VALUE})"
    r"(?!\d|[eE][-+]?\d|[.,]\d|[A-Za-z]*\d)(?!(?:st|nd|rd|th)\b)"
)
_UNCLEAR = re.compile(r"\d[ \u00a0\u202f]$|\d ?[/:^] ?$")
"""Before a number: a part of a fraction, of a time or a power, or of a number whose thousands a space separates."""
_MARKED = re.compile(rf"^.*####[\s*$]*(?P<value>{_VALUE})\**[\s%A-Za-z.°]*$", re.MULTILINE)
_BOXED = re.compile(r"\\boxed\s*\{(?P<inside>(?:[^{}]|\{[^{}]*\})*)\}")
_INSIDE = re.compile(rf"[\s\\$]*(?P<value>{_VALUE})[\s\\%!]*(?:\\?[a-z]+\s*\{{[A-Za-z\s.]*\}}|[A-Za-z.\s]*)")


def final_number(text: str) -> Decimal | None:
    """The number behind the last `####` or in the last `\\boxed{}`, else the last number of the text; None if it has none.

    Commas between thousands, a dollar sign, a unit and zeros behind the point do not count: "$1,200.00" and "1200kg" are 1200.
    A heading "#### Step 2" marks no number. A box without one number, a fraction and "282 000" have none.
    """
    if marked := list(_MARKED.finditer(text)):
        return _decimal(marked[-1]["value"])
    if boxed := list(_BOXED.finditer(text)):
        inside = _INSIDE.fullmatch(boxed[-1]["inside"])
        return _decimal(inside["value"]) if inside else None
    last = max(_NUMBER.finditer(text), key=lambda number: number.start(), default=None)
    if last is None or _UNCLEAR.search(text, max(0, last.start() - 3), last.start()):
        return None
    return _decimal(last["value"])


def as_number(text: str) -> Decimal | None:
    """The number that a text is, such as "$1,200" or "-3.50"; None if it is anything else."""
    return _decimal(text.strip()) if re.fullmatch(_VALUE, text.strip()) else None


def _decimal(value: str) -> Decimal:
    return Decimal(value.replace(",", "").replace("$", "").replace("−", "-")).normalize()
