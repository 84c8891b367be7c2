"""The panel of further judges (`judge.panel`): each against the labels of the training pairs, and each two of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stj.evals.table import percent
from stj.loop.panel_figures import MemberFigures, PanelFigures, TwoFigures
from stj.loop.report.cells import Cell, table_of, without_repeats
from stj.loop.report.iteration import IterationReport
from stj.loop.report.words import NONE, number
from stj.text import Column, Table


class _Member(NamedTuple):
    judge: str
    figures: MemberFigures


class _Two(NamedTuple):
    judge: str
    figures: TwoFigures


_MEMBERS = (
    Cell[_Member](Column("", "judge"), lambda row: row.judge),
    Cell[_Member](Column("", "member"), lambda row: row.figures.name or "the judge"),
    Cell[_Member](Column("", "pairs", "training pairs by the judge and the panel"), lambda row: number(row.figures.pairs)),
    Cell[_Member](Column("accuracy", "%", word="accuracy"), lambda row: percent(row.figures.accuracy)),
)
_TWOS = (
    Cell[_Two](Column("", "judge"), lambda row: row.judge),
    Cell[_Two](Column("", "member"), lambda row: row.figures.first or "the judge"),
    Cell[_Two](Column("", "and", "agreement on the training pairs"), lambda row: row.figures.second),
    Cell[_Two](Column("", "pairs"), lambda row: number(row.figures.pairs)),
    Cell[_Two](Column("same", "verdict, %"), lambda row: percent(row.figures.agree)),
    Cell[_Two](Column("", "kappa"), lambda row: _kappa(row.figures)),
)


def panel_table(iterations: Sequence[IterationReport]) -> Table:
    """A row for each judge of the training pairs, if there is a panel."""
    rows = [_Member(judge, member) for judge, panel in _panels(iterations) for member in panel.members]
    return without_repeats(table_of(_MEMBERS, rows, keys=2))


def panel_agreement_table(iterations: Sequence[IterationReport]) -> Table:
    """A row for each two of them."""
    rows = [_Two(judge, two) for judge, panel in _panels(iterations) for two in panel.twos]
    return without_repeats(table_of(_TWOS, rows, keys=3))


def _panels(iterations: Sequence[IterationReport]) -> Iterator[tuple[str, PanelFigures]]:
    return ((iteration.judge, iteration.panel) for iteration in iterations if iteration.panel)


def _kappa(figures: TwoFigures) -> str:
    if figures.kappa is None:
        return NONE
    interval = figures.kappa_ci95
    return f"{figures.kappa:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
