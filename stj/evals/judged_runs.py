"""What `stj compare` compares: an evaluation by `stj eval`, or a file of results by `stj judge`. Both give judged examples."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from stj.errors import SourceError
from stj.evals.benchmarks.base import JudgedExample, SourceRecord
from stj.evals.benchmarks.evaluation import judged_examples, read_evaluation
from stj.evals.benchmarks.pairs import PAIRS
from stj.evals.benchmarks.recorded import judged_records, read_recorded
from stj.evals.benchmarks.recorded_verdicts import ReadAs
from stj.evals.benchmarks.refs import BenchmarkRef, benchmark_ref
from stj.evals.benchmarks.unread import MOST_UNREAD
from stj.evals.metrics import VerdictsByOrder
from stj.evals.score import read_judgments
from stj.rows import Row, row_from_dict
from stj.sources.dialogue import wrong_type
from stj.sources.files import kind_of
from stj.sources.ids import joined_id
from stj.sources.truth import better_response
from stj.storage.artifacts import Artifact
from stj.verdict import TIE, Label, Parser, Verdict, majority, other


class JudgedRun(Protocol):
    """The judged examples of one judge."""

    @property
    def location(self) -> str:
        """Where it lies."""

    @property
    def parser(self) -> Parser | None:
        """The parser that read the verdicts; None if it is not known."""

    @property
    def benchmarks(self) -> Mapping[str, BenchmarkRef]:
        """The benchmarks that were judged, by name."""

    def examples(self, ref: BenchmarkRef) -> Iterator[JudgedExample]:
        """The examples of a benchmark, with the verdicts that were read when they were judged."""

    def shown(self, ref: BenchmarkRef) -> Iterator[tuple[str, bytes]]:
        """The id of each example, and a digest of what is known about the example itself."""

    def rows(self, ref: BenchmarkRef) -> Iterator[Row]:
        """The judged rows of a benchmark, as far as the run holds them."""


def read_run(location: str) -> JudgedRun:
    """The evaluation in a directory, or the results in a file.

    Raises NoArtifact if a directory holds no finished evaluation. Raises SourceError if a file cannot be read, or if most
    of its judgments hold no verdict.
    """
    if kind_of(Path(location)) and Path(location).is_file():
        return _results(location)
    artifact, record = read_evaluation(location)
    refused = [name for name, scores in record["scores"].items() if "error" in scores]
    benchmarks = {ref.name: ref for ref in map(benchmark_ref, record["benchmarks"]) if ref.name not in refused}
    parser: Parser = record["parser"]
    return EvaluationRun(location=location, artifact=artifact, benchmarks=benchmarks, votes=record["votes"] > 1, parser=parser)


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """An evaluation by `stj eval`."""

    location: str
    artifact: Artifact
    benchmarks: Mapping[str, BenchmarkRef]
    votes: bool
    """Whether the sampled judgments of an example are votes."""
    parser: Parser | None

    def rows(self, ref: BenchmarkRef) -> Iterator[Row]:
        """The judged rows of a benchmark."""
        return (row for row in map(row_from_dict, self.artifact.records()) if row.task == ref.name)

    def examples(self, ref: BenchmarkRef) -> Iterator[JudgedExample]:
        """The examples of a benchmark."""
        return judged_examples(self.rows(ref), ref.benchmark, None, votes=self.votes)

    def shown(self, ref: BenchmarkRef) -> Iterator[tuple[str, bytes]]:
        """The id of each row, and a digest of its instruction and answers."""
        return ((row.id, shown_digest(row)) for row in self.rows(ref))


@dataclass(frozen=True, kw_only=True)
class ResultsRun:
    """Results by `stj judge`, or other recorded judgments of pairs."""

    location: str
    read_as: ReadAs | None
    """How the texts are read; None for results of `stj judge`, whose votes hold their verdicts."""
    parser: Parser | None = None

    @property
    def benchmarks(self) -> Mapping[str, BenchmarkRef]:
        """Only `pairs`; the results themselves hold what is right."""
        return {PAIRS.name: _PAIRS}

    def examples(self, ref: BenchmarkRef) -> Iterator[JudgedExample]:
        """The examples with a winner. A line of `stj judge` has the verdicts that its judge's parser read.

        Raises SourceError at the end if most of them hold no verdict.
        """
        orders = unread = 0
        for record, given in self._with_records(ref):
            voted = record.values.get("votes") and not given.unjudged
            example = replace(given, verdicts=_as_voted(record)) if voted else given
            orders += 0 if example.unjudged else len(example.verdicts)
            unread += 0 if example.unjudged else sum(verdicts == [None] for verdicts in example.verdicts.values())
            yield example
        if unread > MOST_UNREAD * orders:
            raise SourceError(f"{self.location}: {unread:,} of {orders:,} orders have no verdict: nothing to compare")

    def rows(self, ref: BenchmarkRef) -> Iterator[Row]:
        """Rows of ids alone: results do not hold the texts of their pairs."""
        for position, record in enumerate(read_recorded(self.location)):
            if (row_id := record.values.get("id")) is not None:
                yield Row(id=str(row_id), position=position, task=ref.name, turns=())

    def shown(self, ref: BenchmarkRef) -> Iterator[tuple[str, bytes]]:
        """The id of each example, and its winner: results do not hold the texts of their pairs."""
        for record, example in self._with_records(ref):
            yield f"{ref.name}/{joined_id(*example.id)}", (better_response(record.values, record.where) or "").encode()

    def _with_records(self, ref: BenchmarkRef) -> Iterator[tuple[SourceRecord, JudgedExample]]:
        records, again = itertools.tee(read_recorded(self.location))
        return zip(records, judged_records(again, ref.benchmark, "distinct", self.read_as), strict=True)


_TURNED: Mapping[Verdict, Verdict] = {"A": "B", "B": "A"}
_PAIRS = BenchmarkRef(name=PAIRS.name, place=None)
_REMEDY = "give a file whose judgments are all in one format"


def _results(location: str) -> ResultsRun:
    """A file of results; recorded judgments are read in the format that `stj score` reads them in."""
    if next(read_recorded(location)).values.get("votes") is not None:
        return ResultsRun(location=location, read_as=None)
    return ResultsRun(location=location, read_as=read_judgments(location, _PAIRS, ("distinct",), remedy=_REMEDY).read_as)


def _as_voted(record: SourceRecord) -> VerdictsByOrder:
    """The verdicts of a line of `stj judge`, under the label of the better response: the majority in each order.

    Raises SourceError if a vote has no verdict, not even null.
    """
    better = better_response(record.values, record.where) or "A"
    orders: dict[Label, list[Verdict | None]] = {}
    for vote in record.values["votes"]:
        verdict: Verdict | None = vote.get("verdict", "")
        if verdict not in ("A", "B", TIE, None):
            raise wrong_type(verdict, "votes[].verdict", "A, B, tie or null, as `stj judge` writes it", record.where)
        first = vote["shown_first"] == "A"
        shown = verdict if first else _TURNED.get(verdict or "", verdict)
        orders.setdefault(better if first else other(better), []).append(shown)
    return {label: [majority(verdicts)] for label, verdicts in orders.items()}


def shown_digest(row: Row) -> bytes:
    """A digest of the instruction and the answers of a row: two rows with the same one are the same example."""
    shown = [row.instruction, asdict(row.pair) if row.pair else None, asdict(row.candidates) if row.candidates else None]
    return hashlib.blake2b(json.dumps(shown).encode(), digest_size=16).digest()
