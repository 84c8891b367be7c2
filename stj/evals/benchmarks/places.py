"""Where a benchmark's records are: the hub, or a local file or directory in the schema in which it is published.

A benchmark is named NAME or NAME:PLACE, where PLACE is a .jsonl, .jsonl.gz, .json, .csv or .parquet file, a directory of them,
or the id of a data set on the hub with the same schema.
"""

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from stj.config import SourceConfig
from stj.errors import ConfigError
from stj.evals.benchmarks import BENCHMARKS
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, read_found
from stj.rows import Row
from stj.sources.files import ALL_KINDS, files_identity, not_empty
from stj.sources.hub import is_hub_dataset, read_hub


@dataclass(frozen=True, kw_only=True)
class BenchmarkRef:
    """A benchmark as it was named on the command line."""

    name: str
    place: str | None

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark itself."""
        return BENCHMARKS[self.name]

    @property
    def word(self) -> str:
        """NAME or NAME:PLACE, as `named` takes it."""
        return f"{self.name}:{self.place}" if self.place else self.name

    @property
    def is_local(self) -> bool:
        """Whether it is read from files."""
        return self.place is not None and not is_hub_dataset(self.place)

    @property
    def identity(self) -> str:
        """What it holds, for keys: a hash of its files, or the names of its data sets on the hub.

        Raises ConfigError where it is neither on the hub nor given, and SourceError for a file that is missing.
        """
        if self.is_local:
            return files_identity(self.place or "", self.name, ALL_KINDS)
        if not self._parts():
            raise ConfigError(f"'{self.name}' is not on the hub: give its file, as in {self.name}:my_{self.name}.jsonl")
        return ", ".join(f"{part.path}@{part.revision or 'main'}/{part.split}/{part.files or ''}" for part in self._parts())

    def found(self) -> Iterator[SourceRecord]:
        """Its records, in order. Raises SourceError where it cannot be read, or is empty."""
        records = self._in_files() if self.is_local else self._on_the_hub()
        return not_empty(records, f"{self.name}:{self.place or 'the hub'}: holds no records")

    def rows(self, limit: int | None) -> Iterator[Row]:
        """The rows to judge, at most `limit` of them."""
        return itertools.islice(self.benchmark.rows(self.found()), limit)

    def _in_files(self) -> Iterator[SourceRecord]:
        return read_found(self.place or "", self.name, self.benchmark.fields, self._own)

    def _own(self, paths: Sequence[PurePath]) -> Sequence[PurePath]:
        """Of a copy of a data set of the hub (filtered-00000-of-00001.parquet beside raw-...) the benchmark's own splits."""
        splits = {part.split for part in self.benchmark.hub if part.files is None}
        return self.benchmark.own([path for path in paths if re.split("[-._]", path.name)[0] in splits] or paths)

    def _on_the_hub(self) -> Iterator[SourceRecord]:
        for part in self._parts():
            source = SourceConfig(path=part.path, split=part.split, revision=part.revision)
            for where, record in read_hub(source, self.benchmark.fields, key=self.name, files=part.files):
                yield SourceRecord(where, part.files or part.split, record)

    def _parts(self) -> Sequence[HubPart]:
        """The published data sets, or that of somebody else with the same splits."""
        if self.place is None:
            return self.benchmark.hub
        splits = dict.fromkeys(part.split for part in self.benchmark.hub) or ("train",)
        return [HubPart(self.place, split) for split in splits]


def is_named(word: str) -> bool:
    """Whether a word of the command line begins as a benchmark does."""
    return word.partition(":")[0] in BENCHMARKS


def is_benchmark(word: str) -> bool:
    """Whether a word names a benchmark, as the command line does or by its data set on the hub."""
    return is_named(word) or any(part.path == word for benchmark in BENCHMARKS.values() for part in benchmark.hub)


def named(word: str) -> BenchmarkRef:
    """The benchmark that NAME or NAME:PLACE names. Raises ConfigError."""
    name, _, place = word.partition(":")
    if name not in BENCHMARKS:
        close = difflib.get_close_matches(name, BENCHMARKS, n=1)
        guess = f" (did you mean '{close[0]}'?)" if close else ""
        raise ConfigError(f"'{name}': no such benchmark{guess}; there are {', '.join(BENCHMARKS)}")
    if place and not is_hub_dataset(place):
        place = place if "://" in place else str(Path(place).expanduser().absolute())
    return BenchmarkRef(name=name, place=place or None)
