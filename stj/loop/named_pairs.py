"""Benchmarks by name where a file may stand: `heldout.path=helpsteer2` and `source.keep_out=[rewardbench]`.

A word that begins with a benchmark's name is the benchmark, as in `stj eval`: NAME reads the hub, NAME:PLACE a file. A file of
the same name is given as ./NAME.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from stj.config import Config, HeldoutConfig
from stj.errors import ConfigError
from stj.evals.benchmarks import BENCHMARK_GROUPS, BENCHMARKS
from stj.evals.benchmarks.refs import BenchmarkRef, benchmark_ref
from stj.rows import HELDOUT, Row
from stj.sources.files import at_most, not_empty
from stj.sources.heldout import heldout_identity, heldout_size, read_pairs
from stj.sources.ids import HELDOUT_PREFIX
from stj.sources.overlap import Place, places
from stj.storage.folder import absolute_path


def named_benchmark(location: str | None) -> BenchmarkRef | None:
    """The benchmark that a setting names; None if it names a file."""
    if location is None or location.partition(":")[0] not in BENCHMARKS:
        return None
    return benchmark_ref(location)


def absolute_place(location: str) -> str:
    """A file's absolute path, or a benchmark with the absolute path of its place."""
    ref = named_benchmark(location)
    return ref.word if ref else absolute_path(location)


def absolute_places(locations: Iterable[str]) -> tuple[str, ...]:
    """The same for several; a group of benchmarks, as `headline`, is replaced by its members."""
    members = (BENCHMARK_GROUPS.get(location, (location,)) for location in locations)
    return tuple(dict.fromkeys(absolute_place(location) for group in members for location in group))


def heldout_benchmark(config: HeldoutConfig) -> BenchmarkRef | None:
    """The benchmark that `heldout.path` names, if it names any.

    Raises ConfigError if the benchmark does not hold pairs with a better answer.
    """
    ref = named_benchmark(config.path)
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
    rows = (replace(row, id=f"{HELDOUT_PREFIX}{row.id}", task=HELDOUT, subset=None) for row in ref.rows(None))
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
        """The benchmark."""
        return benchmark_ref(self.location)

    def identity(self) -> str:
        """Its content, for keys. Raises SourceError if a file is missing."""
        return self.ref.identity

    def records(self) -> Iterator[object]:
        """Its records, with the fields that the benchmark reads. Raises SourceError if they cannot be read."""
        return (record.values for record in self.ref.records())


def kept_out_places(config: Config) -> list[Place]:
    """The files and benchmarks of `source.keep_out` and `heldout.path`: their texts are kept out of the training pairs."""
    return [
        BenchmarkPlace(place.key, place.location) if named_benchmark(place.location) else place
        for place in places(config.source, config.heldout)
    ]
