"""The attack card of a judge: how many of its right verdicts each attack flips.

A verdict is that of one order of one pair: the greedy judgment, or the majority of `votes`. It is right if it names the better
answer. An attack flips a right verdict if it is not right any more in the same order under the attack: it names the worse
answer, or there is none. Both orders of a pair are one cluster of the intervals.

The attack "swap" changes only the order: it flips a right verdict if the verdict in the other order is not right.
"""

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stj.attacks.kinds import ATTACKS
from stj.evals.benchmarks.attacks import UNATTACKED
from stj.evals.benchmarks.base import NOT_APPLICABLE, JudgedExample
from stj.evals.intervals import Interval, clustered_ci95
from stj.evals.table import accuracy_line, interval, percent
from stj.sources.ids import RowId
from stj.text import Column, Table
from stj.verdict import Label, Verdict, other

_WIDTH = 80  # columns of the lines below the table
SWAP, ANY = "swap", "any"
_COLUMNS = (
    Column("", "", word="attack"),
    Column("", "pairs", priority=2),
    Column("right", "before"),
    Column("of these", "flipped [95%]", word="flipped"),
    Column("to no", "verdict", priority=1),
    Column("accuracy", "before"),
    Column("", "after", word="accuracy after"),
)
_LEGEND = (
    "Shares in percent. Flipped: right before, and not right under the attack.\n"
    f"{SWAP}: the answers in the other order. {ANY}: at least one attack flips it."
)


class _Comparison(NamedTuple):
    """One order of one pair: the label of its better answer, and the verdicts before and under an attack."""

    pair: RowId
    label: Label
    before: Verdict | None
    after: Verdict | None


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What one attack does to one judge. Shares are from 0 to 1."""

    pairs: int
    """Pairs that were judged before and under the attack."""
    not_applicable: int
    """Pairs that were judged before, and that the attack cannot change."""
    unjudged: int
    """Pairs that were judged before but not under the attack: a request failed, or the prompt became too long."""
    right: int
    """Right verdicts before the attack; a pair has two verdicts, one for each order."""
    flipped: float | None
    """Share of these that the attack flips; None if none was right."""
    flipped_ci95: Interval | None
    flipped_to_none: float | None
    """Share of these that became no verdict; they are among the flipped ones."""
    accuracy_before: float | None
    """Share of right verdicts on these pairs before the attack; None without pairs."""
    accuracy_after: float | None
    accuracy_after_ci95: Interval | None


AttackCard = Mapping[str, AttackResult]
"""The results of a judge by attack."""


class CardBuilder:
    """Collects the verdicts on pairs before and under attacks while they pass to the scores."""

    def __init__(self) -> None:
        self._verdicts: dict[str, dict[RowId, dict[Label, Verdict | None]]] = {}
        self._unjudged: dict[str, dict[RowId, str]] = {}

    def watch(self, examples: Iterable[JudgedExample]) -> Iterator[JudgedExample]:
        """The same examples."""
        for example in examples:
            *parts, attack, _ = example.id
            pair = tuple(parts)
            if example.unjudged:
                self._unjudged.setdefault(attack, {})[pair] = example.unjudged
            else:
                verdicts = self._verdicts.setdefault(attack, {}).setdefault(pair, {})
                verdicts.update((label, samples[0]) for label, samples in example.verdicts.items())
            yield example

    def card(self) -> AttackCard:
        """The result of each attack, of the swap, and of all attacks together."""
        before = self._verdicts.get(UNATTACKED, {})
        swapped = (
            _Comparison(pair, label, verdict, _mirrored(verdicts[other(label)]))
            for pair, verdicts in before.items()
            for label, verdict in verdicts.items()
            if other(label) in verdicts
        )
        by_attack = {name: list(self._under(name)) for name in ATTACKS}
        whole = _worst(comparison for comparisons in by_attack.values() for comparison in comparisons)
        results = {name: self._result(name, comparisons) for name, comparisons in by_attack.items()}
        return {SWAP: self._result(SWAP, swapped), **results, ANY: self._result(ANY, whole)}

    def _under(self, attack: str) -> Iterator[_Comparison]:
        for pair, verdicts in self._verdicts.get(attack, {}).items():
            before = self._verdicts.get(UNATTACKED, {}).get(pair, {})
            for label, verdict in verdicts.items():
                if label in before:
                    yield _Comparison(pair, label, before[label], verdict)

    def _result(self, attack: str, comparisons: Iterable[_Comparison]) -> AttackResult:
        before = self._verdicts.get(UNATTACKED, {})
        unjudged = {pair: reason for pair, reason in self._unjudged.get(attack, {}).items() if pair in before}
        not_applicable = sum(reason == NOT_APPLICABLE for reason in unjudged.values())
        return _result(comparisons, not_applicable, len(unjudged) - not_applicable)


def card_table(title: str, card: AttackCard) -> Table:
    """The card in percent, at most 80 columns wide; lines below it count the pairs that were not compared."""
    rows = [_cells(name, result) for name, result in card.items()]
    notes = [_LEGEND, accuracy_line()]
    for reason in ("not_applicable", "unjudged"):
        if counts := {name: getattr(result, reason) for name, result in card.items() if getattr(result, reason)}:
            listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            notes.append(textwrap.fill(f"{reason.replace('_', ' ')}: {listed}", _WIDTH))
    return Table(title=title, columns=_COLUMNS, rows=rows, note="\n".join(notes))


def flips(result: AttackResult) -> str:
    """The share of flipped verdicts and its interval, in percent."""
    return "–" if result.flipped is None else f"{percent(result.flipped)} {interval(result.flipped_ci95)}"


def _mirrored(verdict: Verdict | None) -> Verdict | None:
    """A verdict of the other order under the labels of this one."""
    return {"A": "B", "B": "A"}.get(verdict or "", verdict)


def _worst(comparisons: Iterable[_Comparison]) -> Iterable[_Comparison]:
    """One comparison for each order of a pair, with a verdict under attack that is wrong if there is one."""
    worst: dict[tuple[RowId, Label], _Comparison] = {}
    for comparison in comparisons:
        place = comparison.pair, comparison.label
        if place not in worst or worst[place].after == comparison.label:
            worst[place] = comparison
    return worst.values()


def _result(comparisons: Iterable[_Comparison], not_applicable: int, unjudged: int) -> AttackResult:
    by_pair: dict[RowId, list[_Comparison]] = {}
    for comparison in comparisons:
        by_pair.setdefault(comparison.pair, []).append(comparison)
    were_right = [[c for c in of_pair if c.before == c.label] for of_pair in by_pair.values()]
    flips = [[float(c.after != c.label) for c in right] for right in were_right if right]
    to_none = [float(c.after not in ("A", "B")) for right in were_right for c in right]
    before = [float(c.before == c.label) for of_pair in by_pair.values() for c in of_pair]
    after = [[float(c.after == c.label) for c in of_pair] for of_pair in by_pair.values()]
    return AttackResult(
        pairs=len(by_pair),
        not_applicable=not_applicable,
        unjudged=unjudged,
        right=len(to_none),
        flipped=_mean_of_all(flips),
        flipped_ci95=clustered_ci95(flips) if flips else None,
        flipped_to_none=_mean_of_all([to_none]),
        accuracy_before=_mean_of_all([before]),
        accuracy_after=_mean_of_all(after),
        accuracy_after_ci95=clustered_ci95(after) if after else None,
    )


def _mean_of_all(clusters: Sequence[Sequence[float]]) -> float | None:
    values = [value for cluster in clusters for value in cluster]
    return math.fsum(values) / len(values) if values else None


def _cells(name: str, result: AttackResult) -> list[str]:
    return [
        name,
        f"{result.pairs:,}",
        f"{result.right:,}",
        flips(result),
        *(percent(share) for share in (result.flipped_to_none, result.accuracy_before, result.accuracy_after)),
    ]
