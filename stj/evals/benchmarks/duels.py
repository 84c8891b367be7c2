"""Wins, losses and ties of two models, as a judge sees them: FastChat's pairwise comparison of models.

FastChat counts a comparison whose two orders differ as a tie. Here it is apart, as inconsistent, because it says more about the
judge than about the models.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from stj.text import Column, Table

DuelResult = Literal["win", "loss", "tie", "inconsistent", "no_verdict"]
"""The result of one comparison for the first model; without a verdict in one of its orders it has none."""
Models = tuple[str, str]
_MOST_PAIRS = 40  # rows of a table that a person reads


@dataclass(frozen=True, kw_only=True)
class Duel:
    """The comparisons of two models."""

    model_1: str
    model_2: str
    win: int
    """Comparisons that model_1 wins in all orders."""
    loss: int
    """Comparisons that model_2 wins in all orders."""
    tie: int
    """Comparisons in which all orders say tie."""
    inconsistent: int
    """Comparisons whose orders differ."""
    no_verdict: int
    """Comparisons without a verdict in at least one order."""


def duels_of(results: Mapping[tuple[Models, DuelResult], int]) -> tuple[Duel, ...]:
    """The duels of each pair of models, from counted results."""
    by_pair: dict[Models, Counter[str]] = {}
    for (models, result), count in results.items():
        by_pair.setdefault(models, Counter())[result] += count
    return tuple(
        Duel(
            model_1=models[0],
            model_2=models[1],
            win=counts["win"],
            loss=counts["loss"],
            tie=counts["tie"],
            inconsistent=counts["inconsistent"],
            no_verdict=counts["no_verdict"],
        )
        for models, counts in sorted(by_pair.items())
    )


def duels_json(duels: tuple[Duel, ...]) -> dict[str, Any]:
    """The duels as a member of JSON scores; none without duels."""
    return {"pairs_of_models": [asdict(duel) for duel in duels]} if duels else {}


def duels_table(duels: tuple[Duel, ...]) -> Iterator[Table]:
    """A table with a row for each pair of models; more than 40 pairs appear only in the JSON."""
    if not 0 < len(duels) <= _MOST_PAIRS:
        return
    columns = (
        *(Column("", "first model against second"), Column("", "win"), Column("", "loss"), Column("", "tie")),
        *(Column("", "inconsistent"), Column("no", "verdict", priority=1)),
    )
    rows = [
        (
            f"{duel.model_1} against {duel.model_2}",
            *(f"{count:,}" for count in (duel.win, duel.loss, duel.tie, duel.inconsistent, duel.no_verdict)),
        )
        for duel in duels
    ]
    yield Table(columns=columns, rows=rows)
