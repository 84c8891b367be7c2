"""How much longer the better answer of a pair is than the worse one, in classes: judges prefer long answers."""

from bisect import bisect_left

_ENDS = (-1001, -201, -1, 0, 200, 1000)
LENGTH_BINS = (
    "over 1,000 characters shorter",
    "201 to 1,000 shorter",
    "1 to 200 shorter",
    "equal",
    "1 to 200 longer",
    "201 to 1,000 longer",
    "over 1,000 longer",
)
"""What the better answer is; equal lengths have a class of their own."""


def length_bin(difference: int) -> int:
    """The class of a difference in characters, better answer minus worse one."""
    return bisect_left(_ENDS, difference)


def length_bounds() -> list[tuple[int | None, int | None]]:
    """The least and the greatest difference of each class; None for no bound."""
    return list(zip((None, *(end + 1 for end in _ENDS)), (*_ENDS, None), strict=True))
