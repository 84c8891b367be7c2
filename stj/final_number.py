"""The number that an answer comes to: how a sampled answer is checked without a judge (GSM8K)."""

import re
from decimal import Decimal

_NUMBER = re.compile(r"(?<![\w.])[-−+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)|(?<![\w.])[-−+]?\$?\.\d+")
_MARKED = re.compile(r"####(.*)|\\boxed\{([^{}]*)\}")


def final_number(text: str) -> Decimal | None:
    """The number behind the last `####` or in the last `\\boxed{}`, else the last number of the text; None if it has none.

    Commas between thousands, a dollar sign and zeros behind the point do not count: "$1,200.00" is 1200.
    """
    marked = list(_MARKED.finditer(text))
    numbers = _numbers(marked[-1][1] or marked[-1][2] or "")[:1] if marked else _numbers(text)[-1:]
    return numbers[0] if numbers else None


def _numbers(text: str) -> list[Decimal]:
    plain = (match[0].replace(",", "").replace("$", "").replace("−", "-") for match in _NUMBER.finditer(text))
    return [Decimal(number).normalize() for number in plain]
