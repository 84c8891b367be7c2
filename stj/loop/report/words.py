"""Numbers of a report as a reader meets them. A dash stands for a number that has no meaning, or that nobody recorded."""

import json

from stj.evals.table import points
from stj.loop.dashboard import Lengths
from stj.loop.measures import JudgeComparison

NONE = "–"


def number(value: float | None) -> str:
    """A count without decimals, any other number with two."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def whole(value: float | None) -> str:
    """A number without decimals."""
    return NONE if value is None else f"{value:,.0f}"


def difference_words(compared: JudgeComparison) -> str:
    """The paired difference and its interval, in points."""
    low, high = compared.ci95
    return f"{points(compared.difference)} [{points(low)}, {points(high)}]"


def p_words(compared: JudgeComparison) -> str:
    """McNemar's exact p."""
    return f"{compared.mcnemar_p:.2g}"


def length_words(lengths: Lengths | None) -> str:
    """A mean length, and the lengths between which the middle half lies."""
    if lengths is None:
        return NONE
    low, _, high = lengths.quartiles
    return f"{lengths.mean:,.0f} [{low:,}, {high:,}]"


def correlation(value: float | None) -> str:
    """A correlation with three decimals."""
    return NONE if value is None else f"{value:.3f}"


def ends(limits: tuple[float, float] | None) -> str:
    """The ends of an interval of correlations; empty without one."""
    return "" if limits is None else f"[{limits[0]:.2f}, {limits[1]:.2f}]"


def written(value: object) -> str:
    """A setting or a fact: text as it is, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
