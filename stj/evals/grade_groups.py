"""The figures of all grades, of each rubric and of each subset, beside what needs no judge."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from stj.evals.grade_figures import CORRELATIONS, FIGURES, SHARES, Graded, Sample, figure, undefined
from stj.evals.grade_intervals import intervals
from stj.evals.intervals import Interval
from stj.evals.table import NONE, percent
from stj.text import Column, Table

OVERALL = "overall"
_MOST_GROUPS = 40
_WIDTH = 80  # columns of a terminal
_LONGEST_NAME = 20  # characters, so that a row has 80 columns
_NAMES = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "kendall": "Kendall's tau-b",
    "mean_absolute_error": "mean absolute error",
    "exact": "exact, %",
    "within_one": "within one, %",
    "quadratic_kappa": "quadratic kappa",
}
_COLUMNS = (
    Column("", "", word="unit of a row"),
    Column("", "rows"),
    Column("", "Pearson"),
    Column("", "Spearman"),
    Column("", "tau-b", priority=2),
    Column("", "MAE"),
    Column("", "exact"),
    Column("", "in one", priority=1),
    Column("", "kappa", priority=1, word="quadratic kappa"),
)


@dataclass(frozen=True, kw_only=True)
class ScoredGrade:
    """A row with a grade and a label."""

    graded: Graded
    groups: tuple[str, ...]
    """The groups besides "overall" that it belongs to."""
    characters: int | None
    """Length of the graded response."""


@dataclass(frozen=True, kw_only=True)
class GroupFigures:
    """The figures of some rows."""

    rows: int
    exact_rows: int
    """Number of rows whose label is a whole number: `exact` is of these."""
    values: dict[str, float | None]
    ci95: dict[str, Interval | None]
    undefined: dict[str, str]
    """Why a figure, or its interval as "ci95.NAME", is None."""
    baselines: dict[str, dict[str, float | None]]
    """What needs no judge: always the most frequent label, always the mean label, and the response's length as the score."""


def group_figures(grades: Sequence[ScoredGrade]) -> dict[str, GroupFigures]:
    """The figures of all rows as "overall", then of each group."""
    groups: dict[str, list[ScoredGrade]] = {}
    for grade in grades:
        for name in grade.groups:
            groups.setdefault(name, []).append(grade)
    return {OVERALL: _figures(grades), **{name: _figures(groups[name]) for name in sorted(groups)}}


def figures_json(group: GroupFigures) -> dict[str, Any]:
    """The figures of a group as JSON values."""
    return {
        "rows": group.rows,
        **group.values,
        "exact_rows": group.exact_rows,
        "ci95": group.ci95,
        "undefined": group.undefined,
        "baselines": group.baselines,
    }


def figures_table(title: str, group: GroupFigures) -> Table:
    """A line for each figure: the rows behind it, its value and interval, and the baselines."""
    columns = (
        *(Column("", "", word="unit of a row"), Column("", "rows"), Column("", "value"), Column("", "[95%]", word="95%")),
        *(Column("always", "majority", priority=1), Column("always", "mean", priority=1), Column("by", "length", priority=2)),
    )
    rows = [
        (
            _NAMES[name],
            f"{group.exact_rows if name == 'exact' else group.rows:,}",
            _shown(name, group.values[name]),
            _ends(name, group.ci95[name]),
            *(_shown(name, baseline[name]) for baseline in group.baselines.values()),
        )
        for name in FIGURES
    ]
    return Table(title=title, columns=columns, rows=rows, note=_reasons(group.undefined))


def groups_table(groups: Mapping[str, GroupFigures]) -> Iterator[str | Table]:
    """A line for each rubric and subset; more than 40 appear only in the JSON."""
    named = {name: group for name, group in groups.items() if name != OVERALL}
    if 0 < len(named) <= _MOST_GROUPS:
        rows = [
            (_short(name), f"{group.rows:,}", *(_shown(figure, group.values[figure]) for figure in FIGURES))
            for name, group in named.items()
        ]
        yield Table(columns=_COLUMNS, rows=rows)
    elif named:
        yield f"{len(named):,} rubrics and subsets: their figures are in the JSON, --json"


def _figures(grades: Sequence[ScoredGrade]) -> GroupFigures:
    return _figures_of(tuple(grade.graded for grade in grades), tuple(grade.characters for grade in grades))


@lru_cache(maxsize=1_000)
def _figures_of(rows: tuple[Graded, ...], characters: tuple[int | None, ...]) -> GroupFigures:
    """Mostly all parsers read the same grades: then their figures are computed once."""
    sample = Sample.of(rows)
    reasons = {name: why for name in FIGURES if (why := undefined(name, sample))}
    ci95, without = intervals(sample)
    return GroupFigures(
        rows=sample.rows,
        exact_rows=sample.used_by("exact").rows,
        values={name: figure(name, sample) for name in FIGURES},
        ci95=ci95,
        undefined=reasons | {f"ci95.{name}": why for name, why in without.items() if name not in reasons},
        baselines=_baselines(rows, characters),
    )


def _baselines(rows: Sequence[Graded], characters: Sequence[int | None]) -> dict[str, dict[str, float | None]]:
    labels = [row.label for row in rows]
    counts = Counter(labels)
    majority = min(counts, key=lambda label: (-counts[label], label))
    lengths = [Graded(float(size), label) for size, label in zip(characters, labels, strict=True) if size is not None]
    of_length = Sample.of(lengths)
    return {
        "majority": _always(majority, labels),
        "mean": _always(fmean(labels), labels),
        # A length is no grade, so it has no distance from a label.
        "length": {
            "rows": len(lengths),
            **{name: figure(name, of_length) if name in CORRELATIONS else None for name in FIGURES},
        },
    }


def _always(score: float, labels: Sequence[float]) -> dict[str, float | None]:
    sample = Sample.of(Graded(score, label) for label in labels)
    return {"score": score, **{name: figure(name, sample) for name in FIGURES}}


def _shown(name: str, value: float | None) -> str:
    return percent(value) if name in SHARES else NONE if value is None else f"{value:.3f}"


def _ends(name: str, interval: Interval | None) -> str:
    return f"[{_shown(name, interval[0])}, {_shown(name, interval[1])}]" if interval else NONE


def _short(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"


def _reasons(undefined: Mapping[str, str]) -> str:
    """A line for each reason, with the figures that have no value or no interval."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for name, why in undefined.items():
        what = "no interval of" if name.startswith("ci95.") else "no"
        by_reason.setdefault((what, why), []).append(_NAMES[name.removeprefix("ci95.")].removesuffix(", %"))
    lines = (f"{what} {', '.join(names)}: {why}" for (what, why), names in by_reason.items())
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="  ") for line in lines)
