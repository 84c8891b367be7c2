"""The first lines of a run: where it is written, what it reads, and where its logs are. Needs no Ray, which takes seconds."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from stj.config import Config, in_ray_job
from stj.errors import ConfigError, StjError
from stj.loop.named_pairs import count_heldout
from stj.sources import source_size
from stj.sources.heldout_grades import heldout_grades_size
from stj.sources.preferences import preferences_size
from stj.storage.private import ray_folder
from stj.text import data_size

_COUNTED_BYTES = 1 << 28  # Files of 256 MiB are counted in less than a second; the size of larger ones says as much.


def opening_lines(config: Config) -> list[str]:
    """Lines that begin with a label of 12 characters, as those of a plan do: `reads        240 instructions (data.jsonl)`.

    What cannot be read has its name alone here: the check of the inputs says what is wrong.
    """
    reads = [f"{'' if place else 'reads':<12} {words}" for place, words in enumerate(_inputs(config))]
    return [
        f"{'run_root':<12} {config.run_root}",
        *reads,
        f"{'log':<12} this stream; of engines and ranks: {_ray_logs(config)}",
        f"{'elsewhere':<12} stj watch {config.run_root}",
    ]


def _inputs(config: Config) -> Iterator[str]:
    if config.makes_synthetic:
        yield _counted("instructions", config.source.path, partial(source_size, config.source))
    for source in config.preferences:
        if source.given:
            most = " at most" if source.asks else ""
            yield _counted(f"pairs of {source.title}{most}", source.path, partial(preferences_size, source))
    if config.heldout.path is not None:
        yield _counted("held-out pairs", config.heldout.path, partial(count_heldout, config.heldout))
    if config.heldout.grades is not None:
        yield _counted("held-out grades", config.heldout.grades, partial(heldout_grades_size, config))
    if config.benchmarks:
        yield f"benchmarks {', '.join(config.benchmarks)}"


def _counted(things: str, path: str | None, count: Callable[[], int | None]) -> str:
    size = _bytes(Path(path)) if path else 0
    if size > _COUNTED_BYTES:
        return f"{things} ({path}, {data_size(size)})"
    try:
        number = count()
    except (StjError, OSError):
        number = None
    counted = things if number is None else f"{number:,} {things}"
    return f"{counted} ({path})" if path else counted


def _bytes(path: Path) -> int:
    """The size of a file, or of the files in a directory; 0 if there is none, as of a data set on the hub."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else 0


def _ray_logs(config: Config) -> str:
    if in_ray_job() or config.ray.address != "local":
        return "in Ray's dashboard and its session's folder"
    try:
        folder = ray_folder()
    except (ConfigError, StjError):
        folder = None
    return f"{folder or '/tmp/ray'}/session_latest/logs"
