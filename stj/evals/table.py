"""The scores of a benchmark as a table: groups first, then subsets, the content-blind baselines beside them."""

import textwrap
from collections.abc import Mapping

from stj.evals.intervals import Interval
from stj.evals.metrics import Scores
from stj.glossary import explain
from stj.text import WIDTH, Column, Table, visible_line

_FIRST = (Column("", "", word="unit of a row"), Column("", "n"), Column("accuracy, mean of", "orders [95%]"))
_ORDERS = (
    Column("better", "as A", priority=2),
    Column("shown", "as B", priority=2),
    Column("", "as C", priority=2),
    Column("", "as D", priority=2),
)
_LAST = (
    Column("all orders", "right"),
    Column("same answer", "preferred", priority=3),
    Column("no", "verdict", priority=1),
    Column("official", "rule", "official score, and content-blind baselines"),
    Column("", "always A"),
    Column("", "longest"),
    Column("", "shortest"),
)
NONE = "–"
"""What stands for a number that has no meaning."""
_MOST_SUBSETS = 40
_DIGITS = 9  # Far more than a reader sees, and fewer than a float has.


def scores_table(title: str, groups: Mapping[str, Scores], subsets: Mapping[str, Scores]) -> Table:
    """All scores in percent; a dash marks a number that has no meaning. More than 40 subsets appear only in the JSON."""
    shown = subsets if len(subsets) <= _MOST_SUBSETS else {}
    orders = max(2, *(len(scores.by_order) for scores in (*groups.values(), *shown.values())))
    rows = [_cells(name, scores, orders) for name, scores in groups.items()]
    rows += [_cells(f"  {name}", scores, orders) for name, scores in shown.items()]
    return Table(title=title, columns=(*_FIRST, *_ORDERS[:orders], *_LAST), rows=rows)


def accuracy_line() -> str:
    """What every accuracy is, for below its table."""
    return textwrap.fill(f"accuracy: {explain('accuracy').text}", WIDTH, subsequent_indent="  ")


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal, without the percent sign."""
    return NONE if share is None else f"{100 * share:.1f}"


def points(difference: float) -> str:
    """A difference of two shares in points, with its sign and one decimal.

    The same difference, computed in two ways, may end a bit above and a bit below a half: it is rounded once before.
    """
    return f"{round(100 * difference, _DIGITS) + 0.0:+.1f}"


def interval(ends: Interval | None) -> str:
    """An interval of shares as percentages."""
    return f"[{percent(ends[0])}, {percent(ends[1])}]" if ends else NONE


def _cells(name: str, scores: Scores, orders: int) -> list[str]:
    by_order = [*scores.by_order, *[None] * orders][:orders]
    return [
        visible_line(name),
        f"{scores.examples:,}",
        f"{percent(scores.accuracy)} {interval(scores.ci95)}",
        *(percent(order) for order in by_order),
        *(percent(share) for share in (scores.position_consistent, scores.agreement, scores.unparsed, scores.official)),
        *(percent(share) for share in (scores.always_a, scores.longest, scores.shortest)),
    ]
