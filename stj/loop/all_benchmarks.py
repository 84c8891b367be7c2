"""`source.keep_out=all`: all benchmarks that `stj` knows by name, as far as they lie in the hub's cache on this machine.

A benchmark that is named beside it with its place, as in [all, rewardbench:FILE], is read there. Those that are found nowhere
are named in the check before a start, in the line of the pass and in the report. The network is never asked: which
texts a run keeps out must not depend on it.
"""

from collections.abc import Collection, Iterator, Sequence

from stj.config import SourceConfig
from stj.errors import SourceError
from stj.evals.benchmarks import BENCHMARKS
from stj.evals.benchmarks.base import record_files
from stj.evals.benchmarks.refs import benchmark_ref
from stj.sources.hub import cached_copy

ALL = "all"
KEEP_OUT = "source.keep_out"


def keeps_out_all(source: SourceConfig) -> bool:
    """Whether all benchmarks are kept out."""
    return ALL in source.keep_out


def all_benchmarks() -> list[str]:
    """The benchmarks with published data, each data set once."""
    by_data = {benchmark.hub: name for name, benchmark in reversed(BENCHMARKS.items()) if benchmark.hub}
    return sorted(by_data.values())


def cached_benchmarks(named: Collection[str]) -> Iterator[str]:
    """The benchmarks in the cache that none of these words names, as NAME:PLACE, one for each data set of a benchmark."""
    for name in _missing(named):
        places = dict.fromkeys((part.path, part.revision) for part in BENCHMARKS[name].hub)
        copies = [copy for path, revision in places if (copy := cached_copy(path, revision)) is not None]
        if len(copies) == len(places) and all(_holds_data(f"{name}:{copy}") for copy in copies):
            yield from (f"{name}:{copy}" for copy in copies)


def not_kept_out(source: SourceConfig) -> list[str]:
    """The benchmarks that a resolved `all` does not cover: they are not in the cache, at least not whole."""
    return _missing(source.keep_out) if keeps_out_all(source) else []


def not_read_words(names: Sequence[str]) -> str:
    """A warning that names the benchmarks that are not read; empty if all are."""
    if not names:
        return ""
    return f"; NOT READ, because they are not in the hub's cache on this machine: {', '.join(names)}"


def _missing(words: Collection[str]) -> list[str]:
    read = {BENCHMARKS[name].hub for word in words if (name := word.partition(":")[0]) in BENCHMARKS}
    return [name for name in all_benchmarks() if BENCHMARKS[name].hub not in read]


def _holds_data(word: str) -> bool:
    """Whether a copy holds files of the benchmark: a download may have fetched only a part."""
    ref = benchmark_ref(word)
    try:
        return bool(record_files(ref.place or "", ref.name).files) and bool(ref.identity)
    except SourceError:
        return False
