"""The name of a benchmark on the command line, and where its records lie: on the hub, or in local files.

The form is NAME or NAME:PLACE. PLACE is a .jsonl, .jsonl.gz, .json, .csv or .parquet file, a directory of them, or the id of a
data set on the hub. Its records have the benchmark's published schema.
"""

import difflib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath

from stj.config import SourceConfig
from stj.errors import ConfigError
from stj.evals.benchmarks import BENCHMARK_GROUPS, BENCHMARKS
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, read_records, record_files
from stj.pair_fields import OWN_FIELDS, PairFields, Ties, key_without_defaults
from stj.rows import Row
from stj.sources.directory import DataFiles, files_at
from stj.sources.files import not_empty, read_files
from stj.sources.hub import check_reachable, is_hub_dataset, read_hub
from stj.storage.location import is_uri


@dataclass(frozen=True, kw_only=True)
class BenchmarkRef:
    """A benchmark as the command line names it."""

    name: str
    place: str | None
    fields: PairFields = OWN_FIELDS
    """The names of the fields in a file of pairs."""
    ties: Ties = "skip"
    """What ties count in a file of pairs."""

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark itself."""
        benchmark = BENCHMARKS[self.name]
        return benchmark.read_as(self.fields, self.ties) if benchmark.read_as else benchmark

    @property
    def word(self) -> str:
        """NAME or NAME:PLACE, the argument of `benchmark_ref`."""
        return f"{self.name}:{self.place}" if self.place else self.name

    @property
    def is_local(self) -> bool:
        """Whether its records lie in local files."""
        return self.place is not None and not is_hub_dataset(self.place)

    @property
    def identity(self) -> str:
        """Its content for keys: a hash of its files, or the names of its data sets on the hub.

        Raises ConfigError if it is not on the hub and no file is given. Raises SourceError if a file is missing.
        """
        if self.is_local:
            references = self._reference_files()
            answers = f", references {references.identity()}" if references and references.files else ""
            files = record_files(self.place or "", self.name, self._select_files)
            return files.identity() + answers + self.benchmark.edition() + self._reading()
        self.require_place()
        return ", ".join(f"{part.path}@{part.revision or 'main'}/{part.split}/{part.files or ''}" for part in self._parts())

    def _reading(self) -> str:
        """How a file of pairs is read, for keys; empty for stj's own fields without ties, and for other benchmarks."""
        how = key_without_defaults({"fields": asdict(self.fields), "ties": self.ties})
        return f", {json.dumps(how, sort_keys=True)}" if how and self.benchmark.read_as else ""

    def require_place(self) -> None:
        """Raises ConfigError if it is not on the hub and no file is given."""
        if not self.is_local and not self._parts():
            raise ConfigError(f"'{self.name}' is not on the hub: give its file, as in {self.name}:my_{self.name}.jsonl")

    def records(self) -> Iterator[SourceRecord]:
        """Its records, in order. Raises SourceError if they cannot be read, or if there are none."""
        records = self._in_files() if self.is_local else self._on_the_hub()
        return not_empty(records, f"{self.name}:{self.place or 'the hub'}: holds no records")

    def rows(self, limit: int | None) -> Iterator[Row]:
        """The rows to judge, at most `limit` of them."""
        if self.benchmark.limit_records:
            return self.benchmark.rows(itertools.islice(self.records(), limit))
        rows = itertools.islice(self.benchmark.rows(self.records()), limit)
        answers = self.benchmark.reference_answers
        return answers.shown(rows, self._references()) if answers else rows

    def size(self) -> int | None:
        """Number of all its rows. A local file is read as a whole; None if the hub's size is not known."""
        if self.is_local:
            return sum(1 for _ in self.rows(None))
        return self.benchmark.size if self.place is None else None

    def _in_files(self) -> Iterator[SourceRecord]:
        return read_records(self.place or "", self.name, self.benchmark.fields, self._select_files)

    def _references(self) -> Iterator[SourceRecord]:
        """The records of the reference answers that lie beside the benchmark's own files."""
        files, answers = self._reference_files(), self.benchmark.reference_answers
        if files and answers:
            for where, values in read_files(files.files, answers.fields):
                yield SourceRecord(where, self.place or "", values)

    def _reference_files(self) -> DataFiles | None:
        answers = self.benchmark.reference_answers
        if not answers or not self.is_local:
            return None
        data = files_at(self.place or "", self.name)
        names = answers.select_files(data.names()) if data.files != (data.root,) else ()
        return DataFiles(root=data.root, files=tuple(data.root / name for name in names))

    def _select_files(self, paths: Sequence[PurePath]) -> Sequence[PurePath]:
        """The files of the benchmark's own splits, if the directory is a copy of its data set on the hub.

        Such a copy may hold filtered-00000-of-00001.parquet beside raw-00000-of-00001.parquet.
        """
        if answers := self.benchmark.reference_answers:
            beside = set(answers.select_files(paths))
            paths = [path for path in paths if path not in beside]
        splits = {part.split for part in self.benchmark.hub if part.files is None}
        in_splits = [path for path in paths if re.split("[-._]", path.name)[0] in splits]
        return self.benchmark.select_files(in_splits or paths)

    def check_reachable(self) -> None:
        """Raises SourceError if the hub lacks a data set of the benchmark, or does not answer now."""
        for path, revision in dict.fromkeys((part.path, part.revision) for part in self._parts() if part.files is None):
            check_reachable(SourceConfig(path=path, revision=revision), self.name)

    def _on_the_hub(self) -> Iterator[SourceRecord]:
        for part in self._parts():
            source = SourceConfig(path=part.path, split=part.split, revision=part.revision)
            for where, values in read_hub(source, self.benchmark.fields, key=self.name, files=part.files):
                yield SourceRecord(where, part.files or part.split, values)

    def _parts(self) -> Sequence[HubPart]:
        """The published data sets, or the same splits of the data set that PLACE names."""
        if self.place is None:
            return self.benchmark.hub
        splits = dict.fromkeys(part.split for part in self.benchmark.hub) or ("train",)
        return [HubPart(self.place, split) for split in splits]


def part_of(rows: int, size: int | None, limit: int | None) -> str:
    """Which rows of a benchmark were read, as in "first 100 of 2,985"; empty if all were.

    If the size is not known, as many rows as the limit may be all, but are called a part.
    """
    if limit is None or rows < limit or rows == size:
        return ""
    return f"first {rows:,}" if size is None else f"first {rows:,} of {size:,}"


def is_benchmark_ref(word: str) -> bool:
    """Whether a word of the command line is NAME or NAME:PLACE of a known benchmark or group of benchmarks."""
    name = word.partition(":")[0]
    return name in BENCHMARKS or name in BENCHMARK_GROUPS


def is_benchmark(word: str) -> bool:
    """Whether a word names a benchmark, by NAME, by NAME:PLACE or by its data set on the hub."""
    return is_benchmark_ref(word) or any(part.path == word for benchmark in BENCHMARKS.values() for part in benchmark.hub)


def benchmark_refs(words: Sequence[str], fields: PairFields = OWN_FIELDS, ties: Ties = "skip") -> list[BenchmarkRef]:
    """The benchmarks that words name. A group stands for its members that no other word names: these may have a place.

    `fields` and `ties` say how files of pairs are read. Raises ConfigError if a word is unknown, or if a benchmark is named
    twice.
    """
    single = [benchmark_ref(word) for word in words if word not in BENCHMARK_GROUPS]
    if twice := [name for name, count in Counter(ref.name for ref in single).items() if count > 1]:
        raise ConfigError(f"{', '.join(twice)}: named twice; an evaluation takes each benchmark once")
    by_name = {ref.name: ref for ref in single}
    members = {name: benchmark_ref(name) for word in words for name in BENCHMARK_GROUPS.get(word, ())}
    return [replace(ref, fields=fields, ties=ties) for ref in (members | by_name).values()]


def benchmark_ref(word: str) -> BenchmarkRef:
    """The benchmark of NAME or NAME:PLACE. Raises ConfigError if NAME is unknown, or a group."""
    name, _, place = word.partition(":")
    if name in BENCHMARK_GROUPS:
        members = BENCHMARK_GROUPS[name]
        remedy = f"name a place beside it, as in {name} {members[-1]}:FILE" if place else "here name one of them"
        raise ConfigError(f"'{word}': {name} stands for {', '.join(members)} on the hub; {remedy}")
    if name not in BENCHMARKS:
        close = difflib.get_close_matches(name, [*BENCHMARKS, *BENCHMARK_GROUPS], n=1)
        guess = f" (did you mean '{close[0]}'?)" if close else ""
        known = ", ".join([*BENCHMARKS, *BENCHMARK_GROUPS])
        raise ConfigError(f"'{name}': no such benchmark{guess}; known benchmarks: {known}")
    if place and not is_hub_dataset(place):
        place = place if is_uri(place) else os.path.abspath(os.path.expanduser(place))
    return BenchmarkRef(name=name, place=place or None)
