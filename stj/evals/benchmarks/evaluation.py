"""An evaluation on disk, as `stj eval` writes it: from the rows of its pass to the examples that the benchmarks score."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from stj.errors import NoArtifact
from stj.evals.benchmarks.base import NOT_APPLICABLE, Benchmark, JudgedExample
from stj.evals.benchmarks.unread import Unread
from stj.evals.metrics import VerdictsByOrder, lengths
from stj.rows import TIED, TIED_HALF, Judgment, Row
from stj.sources.ids import id_in_task
from stj.sources.pairs import HUMAN_TIE, NO_WINNER
from stj.storage.artifacts import Artifact, read_artifact
from stj.storage.folder import Folder
from stj.storage.sealed import read_sealed
from stj.verdict import BEST_OF_FOUR, PAIR, RATING, Format, Label, Parser, Verdict, majority, rating

SCORES = "scores.json"
"""The file beside the rows: the model, the benchmarks and every score."""
NO_BETTER = ("same_answers", "equal_scores", HUMAN_TIE, NO_WINNER, NOT_APPLICABLE)
"""Reasons for dropping a row without anything to judge, by its benchmark's own data."""


def read_evaluation(location: str) -> tuple[Artifact, dict[str, Any]]:
    """The rows of a finished evaluation, and the content of its scores.json.

    Raises NoArtifact if the location holds no finished evaluation, and ArtifactError if it holds a damaged one.
    """
    artifact = read_artifact(Folder.at(location))
    if not artifact.folder.exists(SCORES):
        raise NoArtifact(f"{location}: no finished evaluation (no {SCORES}); give the directory that `stj eval` names")
    return artifact, read_scores(artifact.folder)


def read_scores(folder: Folder) -> dict[str, Any]:
    """The content of scores.json. Raises ArtifactError if it is damaged."""
    remedy = "delete it and run the same command again, which writes it from the judgments"
    return read_sealed(folder, SCORES, remedy, fields=("benchmarks", "votes", "parser", "scores"))


def judged_examples(
    rows: Iterable[Row], benchmark: Benchmark, parser: Parser | None, *, votes: bool, wording: Format = PAIR
) -> Iterator[JudgedExample]:
    """The verdicts on each row. If sampled judgments are `votes`, their majority is the verdict.

    The parser reads the texts, and those of pairs in the `wording` in which they were judged. None takes the verdicts that were
    read when the rows were judged. An unjudged row gives its reason and counts as judged without a verdict. An unjudged row
    without a better answer has no verdicts at all.
    """
    for row in rows:
        if not row.judgments:
            yield _unjudged(row, benchmark)
        elif row.judgments[0].purpose == "rating":
            yield _rated(row, benchmark, parser)
        else:
            yield _judged(row, benchmark, parser, wording if row.candidates is None else BEST_OF_FOUR, votes=votes)


def _unjudged(row: Row, benchmark: Benchmark) -> JudgedExample:
    reason = "failed" if row.error else row.dropped or "not judged"
    example = JudgedExample(id=benchmark.row_parts(id_in_task(row)), subset=row.subset or "", verdicts={}, unjudged=reason)
    if reason in NO_BETTER:
        return example
    if row.candidates is None:
        return replace(example, verdicts={"A": [None], "B": [None]})
    if benchmark.rated(row):
        return replace(example, ratings=(None,) * len(row.candidates.answers), good=row.candidates.good)
    return replace(example, verdicts={"A": [None], "B": [None], "C": [None], "D": [None]})


def _judged(row: Row, benchmark: Benchmark, parser: Parser | None, wording: Format, *, votes: bool) -> JudgedExample:
    samples: dict[Label, list[Verdict | None]] = {}
    read = _read(row, wording, parser)
    for judgment, verdict in read:
        samples.setdefault(judgment.winner, []).append(verdict)
    verdicts: VerdictsByOrder = {label: [majority(cast)] for label, cast in samples.items()} if votes else samples
    tied = row.pair.method if row.pair and row.pair.method in (TIED, TIED_HALF) else None
    return replace(_example(row, benchmark, wording, read), verdicts=verdicts, tied=tied)


def _rated(row: Row, benchmark: Benchmark, parser: Parser | None) -> JudgedExample:
    assert row.candidates is not None, f"row {row.id} was rated without candidates"
    read = _read(row, RATING, parser)
    ratings = tuple(rating(verdict) for _, verdict in read)
    return replace(_example(row, benchmark, RATING, read), ratings=ratings, good=row.candidates.good)


_Read = list[tuple[Judgment, Verdict | None]]


def _read(row: Row, wording: Format, parser: Parser | None) -> _Read:
    """The judgments of a row in their order, each with its verdict."""
    ordered = sorted(row.judgments, key=lambda judgment: judgment.index)
    return [(judgment, _verdict(judgment, wording, parser)) for judgment in ordered]


def _example(row: Row, benchmark: Benchmark, wording: Format, read: _Read) -> JudgedExample:
    """The row as an example, still without verdicts or ratings."""
    return JudgedExample(
        id=benchmark.row_parts(id_in_task(row)),
        subset=row.subset or "",
        verdicts={},
        sizes=_sizes(row),
        judgments=len(read),
        unread=tuple(
            Unread(judgment.text, wording, cut=judgment.finish_reason != "stop")
            for judgment, verdict in read
            if verdict is None
        ),
    )


def _verdict(judgment: Judgment, wording: Format, parser: Parser | None) -> Verdict | None:
    return judgment.verdict if parser is None else judgment.read(wording, parser)


def _sizes(row: Row) -> tuple[int, ...]:
    if row.candidates is not None:
        return tuple(len(answer) for answer in row.candidates.answers)
    assert row.pair is not None, f"row {row.id} was judged without a pair"
    return lengths(row.pair)
