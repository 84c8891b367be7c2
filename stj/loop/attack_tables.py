"""The attack card of a run: what each attack does to the first judge and to the last one, side by side."""

from collections.abc import Mapping, Sequence

from stj.evals.attack_card import AttackCard, flips
from stj.evals.table import percent
from stj.loop.report import IterationReport, attack_cards
from stj.text import Column, Table

_NONE = "–"


def attack_table(iterations: Sequence[IterationReport]) -> Table:
    """The cards before and after training: of the first judge that has one, and of the last. Without any it has no rows."""
    cards = attack_cards(iterations)
    shown = {judge: cards[judge] for judge in (list(cards)[:1] + list(cards)[1:][-1:])}
    columns = [Column("", "attack")]
    for judge in shown:
        columns += [
            Column("right", "before", f"{judge}, %"),
            Column("of these", "flipped [95%]", word="flipped"),
            Column("accuracy", "after"),
        ]
    names = next(iter(shown.values()), {})
    return Table(columns=columns, rows=[[name, *_cells(name, shown)] for name in names])


def _cells(attack: str, cards: Mapping[str, AttackCard]) -> list[str]:
    cells: list[str] = []
    for card in cards.values():
        result = card.get(attack)
        cells += [_NONE] * 3 if result is None else [f"{result.right:,}", flips(result), percent(result.accuracy_after)]
    return cells
