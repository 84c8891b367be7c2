"""Benchmarks by name where a file may stand: `heldout.path=helpsteer2` and `source.keep_out=[rewardbench]`.

A word that begins with a benchmark's name is the benchmark, as in `stj eval`: NAME reads the hub, NAME:PLACE a file. A file of
the same name is given as ./NAME. For `heldout.path` the id of another data set on the hub stands for its pairs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from stj.config import Config, HeldoutConfig
from stj.errors import ConfigError
from stj.evals.benchmarks import BENCHMARK_GROUPS, BENCHMARKS
from stj.evals.benchmarks.refs import BenchmarkRef, benchmark_ref, is_benchmark_ref
from stj.loop.all_benchmarks import ALL, KEEP_OUT, cached_benchmarks, keeps_out_all
from stj.pair_fields import OWN_FIELDS
from stj.rows import HELDOUT, Row
from stj.sources.answer_overlap import answers_of
from stj.sources.files import at_most, not_empty
from stj.sources.heldout import heldout_identity, heldout_size, read_pairs
from stj.sources.hub import is_hub_dataset
from stj.sources.ids import HELDOUT_PREFIX
from stj.sources.overlap import Place, places
from stj.storage.folder import absolute_path

_HELDOUT = "heldout.path"


def named_benchmark(key: str, location: str | None) -> BenchmarkRef | None:
    """The benchmark that a setting names; None if it names a file. Raises ConfigError if it names a group of benchmarks."""
    if location and _is_data_set(key, location):
        location = f"pairs:{location}"
    name = (location or "").partition(":")[0]
    if name in BENCHMARK_GROUPS:
        raise ConfigError(
            f"{key}={location}: '{name}' stands for several benchmarks, and one is needed: name one of "
            f"{', '.join(BENCHMARK_GROUPS[name])}, with or without :PLACE, or a file (./{name})"
        )
    return benchmark_ref(location) if location and name in BENCHMARKS else None


def _is_data_set(key: str, location: str) -> bool:
    """Whether a setting names held-out pairs by the id of their data set on the hub."""
    return key == _HELDOUT and is_hub_dataset(location)


def absolute_place(key: str, location: str) -> str:
    """A file's absolute path, or a benchmark with the absolute path of its place."""
    ref = named_benchmark(key, location)
    return ref.word if ref else absolute_path(location)


def absolute_places(key: str, locations: Iterable[str]) -> tuple[str, ...]:
    """The same for several; a group of benchmarks, as `headline`, is replaced by its members."""
    named = [absolute_place(key, location) for location in _members(locations) if location != ALL]
    return tuple(dict.fromkeys([ALL, *named, *cached_benchmarks(named)] if ALL in (*locations,) else named))


def with_cached_benchmarks(config: Config) -> Config:
    """The config with the benchmarks of this machine's cache named beside `source.keep_out=all`."""
    if not keeps_out_all(config.source):
        return config
    return replace(config, source=replace(config.source, keep_out=absolute_places(KEEP_OUT, config.source.keep_out)))


def heldout_benchmark(config: HeldoutConfig) -> BenchmarkRef | None:
    """The benchmark that `heldout.path` names, if it names any.

    Raises ConfigError if the benchmark does not hold pairs with a better answer.
    """
    named = named_benchmark(_HELDOUT, config.path)
    ref = named and replace(named, fields=config.fields, ties=config.ties)
    if ref and not ref.benchmark.read_as and (config.fields != OWN_FIELDS or config.ties != "skip"):
        raise ConfigError(
            f"heldout.path={config.path}: heldout.fields and heldout.ties are for files of pairs, and {ref.name} has fields "
            "of its own: leave them out"
        )
    if ref and (ref.benchmark.candidates or ref.benchmark.needs_records):
        raise ConfigError(
            f"heldout.path={config.path}: held-out pairs have two answers, of which one is better. Name {ref.name} under "
            "benchmarks instead"
        )
    if ref and ref.benchmark.attacks:
        raise ConfigError(
            f"heldout.path={config.path}: held-out pairs are not attacked. Name {ref.name}:PLACE under benchmarks instead"
        )
    return ref


def read_heldout(config: HeldoutConfig) -> Iterator[Row]:
    """The held-out pairs of a run; none if no place is named. Raises SourceError if there are none, or one cannot be read."""
    ref = heldout_benchmark(config)
    if ref is None:
        return read_pairs(config)
    rows = (replace(row, id=f"{HELDOUT_PREFIX}{row.id}", task=HELDOUT) for row in ref.rows(None))
    return not_empty(islice(rows, config.limit), f"heldout.path={config.path}: holds no pairs; set heldout.path=null")


def heldout_key(config: HeldoutConfig) -> str | None:
    """The content of the held-out pairs, for keys; None if no place is named. Raises SourceError if a file is missing."""
    ref = heldout_benchmark(config)
    return heldout_identity(config) if ref is None else ref.identity


def count_heldout(config: HeldoutConfig) -> int | None:
    """About how many held-out pairs there are; None if that is not known. Raises SourceError if a file is missing."""
    ref = heldout_benchmark(config)
    if ref is None:
        return heldout_size(config)
    size = ref.size()
    return None if size is None else at_most(config.limit, size)


class BenchmarkPlace(Place):
    """The texts of a benchmark that must not be trained on."""

    @property
    def ref(self) -> BenchmarkRef:
        """The benchmark. Raises ConfigError if the place is a group of benchmarks."""
        ref = named_benchmark(self.key, self.location)
        assert ref, f"{self.location} is a file"
        return ref

    def identity(self) -> str:
        """Its content, for keys. Raises SourceError if a file is missing."""
        return self.ref.identity

    def records(self) -> Iterator[object]:
        """Its records, with the fields that the benchmark reads. Raises SourceError if they cannot be read."""
        return (record.values for record in self.ref.records())

    def by_instruction(self) -> Iterator[tuple[str, Sequence[str]]]:
        """The instruction, answers and reference of each row to judge, by the instruction."""
        for row in self.ref.rows(None):
            answers = [*answers_of(row), *(row.candidates.answers if row.candidates else ()), row.reference or ""]
            yield row.instruction, [*(turn.content for turn in row.turns), *answers]


def kept_out_places(config: Config) -> list[Place]:
    """The files and benchmarks of `source.keep_out` and `heldout.path`: their texts are kept out of the training pairs."""
    named = tuple(location for location in _members(config.source.keep_out) if location != ALL)
    every = keeps_out_all(config.source)
    return [
        BenchmarkPlace(place.key, place.location, with_answers=every and place.key == KEEP_OUT)
        if is_benchmark_ref(place.location) or _is_data_set(place.key, place.location)
        else place
        for place in places(replace(config.source, keep_out=named), config.heldout)
    ]


def _members(locations: Iterable[str]) -> Iterator[str]:
    """The locations; a group of benchmarks is replaced by its members."""
    return (member for location in locations for member in BENCHMARK_GROUPS.get(location, (location,)))
