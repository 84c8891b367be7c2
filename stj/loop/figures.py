"""Figures 3 to 6 of the paper: the instructions that were selected, beside all of them.

Figure 3    lengths of the instructions; here in characters, because a run's rows hold no counts of their tokens
Figure 4    complexity, as the categorizing model infers it, from 1 to 10
Figure 5    expected length of an answer, from "a" (1 sentence) to "e" (3 or more paragraphs)
Figure 6    category
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from stj.rows import CATEGORIES, TRAINING, Row
from stj.stages.select import passed_rule

_CHARACTERS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_FIGURES: Mapping[str, tuple[str, ...]] = {
    "characters of the instruction": (*(f"up to {end:,}" for end in _CHARACTERS), f"over {_CHARACTERS[-1]:,}"),
    "complexity": tuple(map(str, range(1, 11))),
    "expected length of an answer": ("a", "b", "c", "d", "e"),
    "category": CATEGORIES,
}
_PAPER = dict(zip(_FIGURES, range(3, 7), strict=True))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One distribution, of all instructions and of the selected ones."""

    number: int
    """Number of the paper's figure."""
    title: str
    labels: tuple[str, ...]
    all: tuple[int, ...]
    """Instructions in each class; those that were not categorized count only by their length."""
    selected: tuple[int, ...]
    """Those of them that passed the rule of `select`."""


def figures(rows: Iterable[Row]) -> list[Figure]:
    """The figures of the training rows among these rows; none if there are no such rows."""
    everything: dict[str, Counter[str]] = {title: Counter() for title in _FIGURES}
    selected: dict[str, Counter[str]] = {title: Counter() for title in _FIGURES}
    for row in rows:
        if row.task != TRAINING:
            continue
        kept = passed_rule(row.category, row.dropped)
        for title, label in _classes(row):
            everything[title][label] += 1
            selected[title][label] += kept
    return [_figure(title, everything[title], selected[title]) for title in _FIGURES if everything[title]]


def _classes(row: Row) -> Iterator[tuple[str, str]]:
    length, complexity, answer, category = _FIGURES
    yield length, _FIGURES[length][bisect_left(_CHARACTERS, len(row.instruction))]
    if row.category:
        yield complexity, str(row.category.complexity)
        yield answer, row.category.length
        yield category, row.category.name


def _figure(title: str, everything: Counter[str], selected: Counter[str]) -> Figure:
    others = sorted(everything.keys() - set(_FIGURES[title]))  # a category that a later stj, or a custom prompt, names
    labels = (*_FIGURES[title], *others)
    return Figure(
        number=_PAPER[title],
        title=title,
        labels=labels,
        all=tuple(everything[label] for label in labels),
        selected=tuple(selected[label] for label in labels),
    )
