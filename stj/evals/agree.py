"""`stj agree`: how far several annotators agree, and one label a pair from theirs. Needs no model and no Ray.

The files are read by stj/sources/annotations.py, the figures are those of agreement.py, and the labels those of aggregation.py.
"""

import difflib
import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stj.errors import ConfigError, SourceError
from stj.evals.aggregation import METHODS, NO_LABEL, Aggregated, Method, Model, dawid_skene, majority
from stj.evals.agreement import Agreement, AnnotatorFigures, Figure, TwoAnnotators, Votes, agreement, annotator_figures
from stj.evals.table import NONE, interval, percent
from stj.sources.annotations import PAIRS, Annotations, LabelSet, annotation_files, label_set, pair_rows, read_annotations
from stj.text import Column, Table

_SETTINGS = ("by", "labels", "aggregate", "order")
_MOST_ROWS = 40
_MOST_TWOS = 10  # Two annotators: all of five.
_EQUAL_LABELS = "all labels are equal in more than 1% of the resamples"
_WIDTH = 80  # columns of a terminal
_LONGEST_NAME = 18  # characters, so that a row has 80 columns
_LONGEST_ANNOTATOR = 16
_TEXTS = ("id", "subset", "category", "instruction", "prompt", "response_a", "response_b")
_FIGURES = ("agreement", "alpha", "kappa")

_ALPHA, _KAPPA = Column("alpha", "[95%]"), Column("kappa", "[95%]")


@dataclass(frozen=True, kw_only=True)
class AgreeSettings:
    """What `stj agree` may be told."""

    allowed: LabelSet = PAIRS
    by: str | None = None
    """The field of the groups; None for subset or category."""
    aggregate: Method | None = None
    ordinal: bool = False
    """Whether the labels have an order, for alpha."""

    def __post_init__(self) -> None:
        if self.ordinal and not self.allowed.names:
            raise ConfigError(
                "order=ordinal: the order of labels=any is not known; list them from low to high, as in labels=1,2,3"
            )


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The annotations of some files, with what was computed of them."""

    files: Sequence[Path]
    settings: AgreeSettings
    annotations: Annotations
    overall: Agreement
    groups: Mapping[str, Agreement]
    annotators: Sequence[AnnotatorFigures]
    aggregated: Aggregated | None
    model: Model | None
    """Dawid and Skene's, if it was asked for."""

    @property
    def unsure(self) -> int:
        """Number of labels that are `unsure`."""
        return sum(annotator.unsure for annotator in self.annotators)


def agree_settings(words: Sequence[str]) -> AgreeSettings:
    """The settings in words, key=value. Raises ConfigError."""
    settings, ordinal = AgreeSettings(), False
    for word in words:
        key, _, value = word.partition("=")
        if key == "by" and value:
            settings = replace(settings, by=value)
        elif key == "labels":
            settings = replace(settings, allowed=label_set(value))
        elif key == "aggregate" and value in METHODS:
            settings = replace(settings, aggregate=value)
        elif key == "order" and value in ("nominal", "ordinal"):
            ordinal = value == "ordinal"
        elif key == "order":
            raise ConfigError(f"{word}: must be nominal or ordinal")
        elif key == "aggregate":
            raise ConfigError(f"{word}: must be {' or '.join(METHODS)}")
        else:
            close = difflib.get_close_matches(key, _SETTINGS, n=1)
            guess = f"; did you mean '{close[0]}'?" if close and close[0] != key else ""
            raise ConfigError(f"{word}: `stj agree` takes by=FIELD, labels=SET, aggregate=METHOD and order=ORDER{guess}")
    return replace(settings, ordinal=ordinal)  # checked once all words are read


def agree(locations: Sequence[str], settings: AgreeSettings) -> Labelled:
    """The agreement of the annotators of some files or directories.

    Raises SourceError if a file cannot be read, or if its labels cannot be compared.
    """
    files = annotation_files(locations)
    annotations = read_annotations(files, settings.allowed, settings.by)
    votes, size = Votes.of(annotations), len(annotations.labels)
    _check(annotations, votes, ", ".join(locations))
    aggregated, model = _aggregated(annotations, settings.aggregate)
    return Labelled(
        files=files,
        settings=settings,
        annotations=annotations,
        overall=agreement(votes, size, ordinal=settings.ordinal),
        groups={name: agreement(part, size, ordinal=settings.ordinal) for name, part in _by_group(annotations, votes)},
        annotators=annotator_figures(annotations),
        aggregated=aggregated,
        model=model,
    )


def aggregated_rows(labelled: Labelled) -> Iterator[dict[str, Any]]:
    """One row a pair: its texts, its label and probability, and the label of each annotator.

    Raises SourceError if a file has changed since it was read.
    """
    annotations, aggregated = labelled.annotations, labelled.aggregated
    assert aggregated is not None, "no labels were aggregated"
    field = "winner" if labelled.settings.allowed.is_of_pairs else "label"
    for pair, values in pair_rows(labelled.files, annotations):
        label, probability = int(aggregated.label[pair]), float(aggregated.probability[pair])
        yield {
            **{name: values[name] for name in _TEXTS if values.get(name) is not None},
            field: None if label == NO_LABEL else annotations.labels[label],
            "probability": None if math.isnan(probability) else probability,
            "annotators": annotations.labels_of(pair),
        }


def written_words(labelled: Labelled) -> str:
    """How many rows `aggregated_rows` makes, how many of them have no label, and how many are no pairs to judge."""
    annotations, aggregated = labelled.annotations, labelled.aggregated
    assert aggregated is not None
    what = "winner" if labelled.settings.allowed.is_of_pairs else "label"
    words = f"{annotations.pairs:,} pairs, {aggregated.split + aggregated.empty:,} of them without a {what}"
    textless = annotations.pairs - annotations.with_texts
    return words + (f"; {textless:,} have no response_a and response_b, so no judge can read them" if textless else "")


def agreement_json(labelled: Labelled) -> dict[str, Any]:
    """All figures as JSON values."""
    annotations = labelled.annotations
    named = zip(annotations.annotators, labelled.annotators, strict=True)
    return {
        "files": [str(file) for file in labelled.files],
        "labels": list(annotations.labels),
        "by": labelled.settings.by,
        "order": "ordinal" if labelled.settings.ordinal else "nominal",
        "pairs": annotations.pairs,
        "unsure": labelled.unsure,
        "replaced": annotations.replaced,
        "overall": _group_json(labelled.overall, annotations),
        "groups": {name: _group_json(group, annotations) for name, group in labelled.groups.items()},
        "annotators": {name: _annotator_json(figures, annotations) for name, figures in named},
        **({"aggregation": _aggregation_json(labelled)} if labelled.aggregated else {}),
    }


def agreement_tables(labelled: Labelled) -> Iterator[str | Table]:
    """The figures for a reader; more than 40 groups or annotators appear only in the JSON."""
    annotations = labelled.annotations
    shown = labelled.groups if len(labelled.groups) <= _MOST_ROWS else {}
    rows = [("overall", labelled.overall), *shown.items()]
    yield _with_reasons(
        Table(
            columns=[
                Column("", "", word="unit of a row"),
                Column("", "pairs", word="pairs in common"),
                Column("", "labels"),
                *_columns(_ALPHA),
            ],
            rows=[(_short(name), f"{group.pairs:,}", f"{group.labels:,}", *_cells(group)) for name, group in rows],
        ),
        [figure for _, group in rows for figure in (group.percentage, group.alpha)],
    )
    if len(labelled.groups) > _MOST_ROWS:
        yield f"{len(labelled.groups):,} groups: their figures are in the JSON, --json"
    if len(annotations.annotators) > _MOST_ROWS:
        yield f"{len(annotations.annotators):,} annotators: their figures are in the JSON, --json"
    else:
        yield from _annotator_tables(labelled)
    if len(annotations.annotators) > 2:
        yield from ("", _twos_table(labelled))
        if len(labelled.overall.twos) > _MOST_TWOS:
            yield "More of two annotators each, with fewer pairs in common, are in the JSON, --json"
    yield from ("", _counts_line(labelled))
    if labelled.aggregated:
        yield from _aggregation_lines(labelled)


def _check(annotations: Annotations, votes: Votes, where: str) -> None:
    """Raises SourceError if the labels cannot be compared."""
    count = f"{len(votes.label):,}"
    if not len(votes.label):
        raise SourceError(f"{where}: of {annotations.pairs:,} pairs none has a label other than 'unsure': nothing to compare")
    annotators, labels = np.unique(votes.annotator), np.unique(votes.label)
    if len(annotators) == 1:
        raise SourceError(
            f"{where}: all {count} labels are by one annotator, {annotations.annotators[annotators[0]][:60]!r}; agreement "
            "needs two or more: give the files of the others too"
        )
    if len(np.unique(votes.pair)) == len(votes.pair):
        raise SourceError(
            f"{where}: no pair has labels by two annotators, so none can be compared; a pair has the same id, and the same "
            "subset, in the rows of all its annotators"
        )
    if len(labels) == 1:
        raise SourceError(
            f"{where}: all {count} labels are {annotations.labels[labels[0]][:60]!r}; if all are equal, agreement beyond "
            "chance has no meaning: check how they were asked for, and that the order of the responses was random"
        )


def _aggregated(annotations: Annotations, method: Method | None) -> tuple[Aggregated | None, Model | None]:
    if method == "dawid_skene":
        return dawid_skene(annotations)
    return (majority(annotations) if method else None), None


def _by_group(annotations: Annotations, votes: Votes) -> Iterator[tuple[str, Votes]]:
    """The labels of each group."""
    group = annotations.group[votes.pair]
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], np.arange(len(annotations.groups) + 1))
    for number, name in enumerate(annotations.groups):
        members = order[ends[number] : ends[number + 1]]
        if len(members):
            yield name, votes.at(members)


def _group_json(group: Agreement, annotations: Annotations) -> dict[str, Any]:
    return {
        "pairs": group.pairs,
        "labels": group.labels,
        **_figures_json(agreement=group.percentage, alpha=group.alpha),
        "kappas": [_two_json(two, annotations) for two in group.twos],
    }


def _two_json(two: TwoAnnotators, annotations: Annotations) -> dict[str, Any]:
    names = [annotations.annotators[two.first], annotations.annotators[two.second]]
    return {"annotators": names, "pairs": two.pairs, **_figures_json(agreement=two.percentage, kappa=two.kappa)}


def _annotator_json(figures: AnnotatorFigures, annotations: Annotations) -> dict[str, Any]:
    return {
        "labels": figures.labels,
        "unsure": figures.unsure,
        "shares": dict(zip(annotations.labels, figures.shares, strict=True)),
        "compared": figures.compared,
        **_figures_json(agreement=figures.percentage, kappa=figures.kappa),
    }


def _figures_json(**figures: Figure) -> dict[str, Any]:
    """Values, their intervals, and why a value, or an interval as "ci95.NAME", is None."""
    reasons = {name if figure.value is None else f"ci95.{name}": figure.why for name, figure in figures.items() if figure.why}
    return {
        **{name: figure.value for name, figure in figures.items()},
        "ci95": {name: figure.ci95 for name, figure in figures.items()},
        "undefined": reasons,
    }


def _aggregation_json(labelled: Labelled) -> dict[str, Any]:
    annotations, aggregated, model = labelled.annotations, labelled.aggregated, labelled.model
    assert aggregated is not None
    record = {
        "method": labelled.settings.aggregate,
        "labels": _label_counts(labelled),
        "split": aggregated.split,
        "empty": aggregated.empty,
    }
    if model is None:
        return record
    return {
        **record,
        "prior": dict(zip(annotations.labels, model.prior.tolist(), strict=True)),
        "log_likelihood": model.log_likelihood[-1],
        "steps": len(model.log_likelihood),
        "converged": model.converged,
        "annotators": {
            name: {"accuracy": _known(model.accuracy(number)), "confusion": _confusion_json(model, number, annotations.labels)}
            for number, name in enumerate(annotations.annotators)
        },
    }


def _confusion_json(model: Model, annotator: int, labels: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """The probability of each given label, by the true one."""
    return {
        true: dict(zip(labels, map(_known, row), strict=True))
        for true, row in zip(labels, model.confusion[annotator].tolist(), strict=True)
    }


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _label_counts(labelled: Labelled) -> dict[str, int]:
    assert labelled.aggregated is not None
    counts = Counter(labelled.aggregated.label.tolist())
    return {name: counts[number] for number, name in enumerate(labelled.annotations.labels)}


def _annotator_tables(labelled: Labelled) -> Iterator[str | Table]:
    names = [_short(name, _LONGEST_ANNOTATOR) for name in labelled.annotations.annotators]
    yield from ("", _given_table(names, labelled), "")
    columns = [Column("with the others'", "majority"), Column("", "pairs", word="pairs in common"), *_columns(_KAPPA)]
    rows = [
        [name, f"{figures.compared:,}", _percent(figures.percentage), _number(figures.kappa)]
        for name, figures in zip(names, labelled.annotators, strict=True)
    ]
    if labelled.model:
        columns.append(Column("estimated", "right, %"))
        for number, row in enumerate(rows):
            row.append(percent(_known(labelled.model.accuracy(number))))
    figures = [figure for annotator in labelled.annotators for figure in (annotator.percentage, annotator.kappa)]
    yield _with_reasons(Table(columns=columns, rows=rows), figures)


def _given_table(names: Sequence[str], labelled: Labelled) -> Table:
    """What each annotator gave; the shares of labels only for pairs, whose labels have short names."""
    of_pairs = labelled.settings.allowed.is_of_pairs
    shares = [Column(name, "%", word="share of a label") for name in labelled.annotations.labels] if of_pairs else []
    rows = [
        (
            name,
            f"{figures.labels:,}",
            *(percent(share) for share in (figures.shares if of_pairs else ())),
            f"{figures.unsure:,}",
            percent(figures.unsure / (figures.labels + figures.unsure)),
        )
        for name, figures in zip(names, labelled.annotators, strict=True)
    ]
    columns = [Column("annotator", ""), Column("", "labels"), *shares, Column("", "unsure"), Column("unsure", "%")]
    return Table(columns=columns, rows=rows)


def _twos_table(labelled: Labelled) -> Table:
    """The two annotators with the most pairs in common, then the next two."""
    names, twos = labelled.annotations.annotators, labelled.overall.twos[:_MOST_TWOS]
    rows = [
        (
            f"{_short(names[two.first], 10)}, {_short(names[two.second], 10)}",
            f"{two.pairs:,}",
            _percent(two.percentage),
            _number(two.kappa),
        )
        for two in twos
    ]
    table = Table(
        columns=[Column("two annotators", ""), Column("", "pairs", word="pairs in common"), *_columns(_KAPPA)], rows=rows
    )
    return _with_reasons(table, [figure for two in twos for figure in (two.percentage, two.kappa)])


def _counts_line(labelled: Labelled) -> str:
    annotations = labelled.annotations
    line = f"{annotations.pairs:,} pairs, {len(annotations.annotators):,} annotators, {labelled.overall.labels:,} labels"
    line += f", {labelled.unsure:,} unsure" if labelled.unsure else ""
    return line + (f"; {annotations.replaced:,} replaced by later ones" if annotations.replaced else "")


def _aggregation_lines(labelled: Labelled) -> Iterator[str]:
    aggregated, model = labelled.aggregated, labelled.model
    assert aggregated is not None
    counts = ", ".join(f"{name} {count:,}" for name, count in _label_counts(labelled).items())
    none = f"; no label {aggregated.split + aggregated.empty:,}: split {aggregated.split:,}, not labelled {aggregated.empty:,}"
    yield f"{labelled.settings.aggregate}: {counts}{none if aggregated.split + aggregated.empty else ''}"
    if model and not model.converged:
        yield f"dawid_skene: the likelihood still grew after {len(model.log_likelihood)} steps; few pairs have several labels"


def _columns(figure: Column) -> list[Column]:
    return [Column("agree, %", "[95%]"), figure]


def _cells(group: Agreement) -> tuple[str, str]:
    return _percent(group.percentage), _number(group.alpha)


def _percent(figure: Figure) -> str:
    return percent(figure.value) + (f" {interval(figure.ci95)}" if figure.ci95 else "")


def _number(figure: Figure) -> str:
    if figure.value is None:
        return NONE
    ends = "[{:.3f}, {:.3f}]".format(*figure.ci95) if figure.ci95 else NONE
    return f"{figure.value:.3f} {ends}"


def _with_reasons(table: Table, figures: Sequence[Figure]) -> Table:
    """The table with a line that says what its dashes stand for."""
    known = (figure.why for figure in figures if figure.why)
    reasons = dict.fromkeys(_EQUAL_LABELS if "resamples have none" in why else why for why in known)
    note = textwrap.fill(f"{NONE}: {'; '.join(reasons)}", _WIDTH, subsequent_indent="  ") if reasons else ""
    return replace(table, note=note)


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    """The name on one line; of a longer one the start and the end, in which similar names differ."""
    line, half = " ".join(name.split()), longest // 2
    return line if len(line) <= longest else f"{line[:half]}…{line[half + 1 - longest :]}"
