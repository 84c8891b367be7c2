"""`stj ls`: the runs below a directory, each with its state, the accuracy of its last judge, its size and its last change.

No rows are read: each run takes one listing and a few small records. The accuracy comes from report.json, and is shown only if
the report names the fingerprint of the very pass that lies there.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stj.errors import ArtifactError, NoArtifact, StjError
from stj.evals.intervals import Interval
from stj.evals.table import NONE, interval, percent
from stj.loop.run_folder import RunFolder, is_run
from stj.models.hub import is_hub_id
from stj.storage.artifacts import MANIFEST
from stj.storage.folder import Folder
from stj.storage.lease import driver_at
from stj.storage.tree import TreeFile, tree
from stj.text import Column, Table, cells_of, data_size

log = logging.getLogger(__name__)

_DEEPEST = 4  # Look for runs this many levels down.
_REPORT = "report.json"
_WIDTH = 80  # columns: a terminal's width before anyone widens it
_GAP = 3  # characters between two columns on a terminal
_NAMED = 3  # runs in a line below the table
_REMEDY = "the run's command writes it again, and stj compare RUN_A RUN_B reads the rows"
_OTHER = f"report.json is of other passes than lie there, so its accuracy is not shown: {_REMEDY}"
_NAMELESS = f"report.json does not say of which passes it is, as stj wrote it before, so its accuracy is not shown: {_REMEDY}"
_LEASE = "driver"  # begins the names of leases, which change while nothing is made


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run, as a list shows it."""

    run: str
    state: str
    """running, done, damaged, or how many of its iterations are trained; "running?" if its driver may have been killed."""
    seed: str | None = None
    """The model that it began from."""
    iterations: int = 0
    trained: int = 0
    """Iterations whose model is trained."""
    judge: str | None = None
    """The last judge that was measured."""
    accuracy: float | None = None
    """Its accuracy on the held-out pairs, a share."""
    ci95: Interval | None = None
    size: int
    """In bytes, of all its files."""
    changed: str
    """When a file of it last changed, UTC."""
    driver: str | None = None
    """Who is at work there."""
    why: str | None = None
    """What is wrong with a damaged run, or why the figures of its report are not shown."""


def list_runs(location: str) -> list[ListedRun]:
    """The runs in and below a directory, the last changed first. Raises NoArtifact if there is none."""
    top = Folder.at(location)
    if not top.exists() or (top.local and not top.local.is_dir()):
        problem = "no directory" if top.exists() else "does not exist"
        raise NoArtifact(f"{location}: {problem}; name a directory of runs")
    runs = [_listed(folder, top) for folder in _runs_below(top, _DEEPEST)]
    if not runs:
        raise NoArtifact(f"{location}: no run here, nor {_DEEPEST} levels below; a run is a directory with config.json by stj")
    return sorted(runs, key=lambda run: (run.changed, run.run), reverse=True)


def runs_json(runs: list[ListedRun]) -> list[dict[str, Any]]:
    """The runs as JSON values."""
    return [asdict(run) for run in runs]


def runs_table(runs: list[ListedRun]) -> Table:
    """A row for each run; the seed model has a column where it fits a terminal."""
    heads = [Column("", "run"), Column("", "seed model"), Column("", "state"), Column("held-out", "accuracy, % [95%]")]
    heads += [Column("", "size"), Column("last change", "UTC", word="last change")]
    rows = [_cells(run) for run in runs]
    widths = [max(map(cells_of, (head.upper, head.lower, *(row[place] for row in rows)))) for place, head in enumerate(heads)]
    if sum(widths) + _GAP * (len(heads) - 1) > _WIDTH:
        heads, rows = [heads[0], *heads[2:]], [[row[0], *row[2:]] for row in rows]
    return Table(columns=heads, rows=rows, note="\n".join(_reasons(runs)))


def _reasons(runs: list[ListedRun]) -> Iterator[str]:
    """A line for each reason, which names the first runs that it holds for."""
    for why in dict.fromkeys(run.why for run in runs if run.why):
        names = [run.run for run in runs if run.why == why]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"{', '.join(names[:_NAMED])}{more}: {why}"


def _cells(run: ListedRun) -> list[str]:
    accuracy = NONE if run.accuracy is None else f"{run.judge} {percent(run.accuracy)} {interval(run.ci95)}"
    return [run.run, run.seed or NONE, run.state, accuracy, data_size(run.size), run.changed[:16].replace("T", " ")]


def _runs_below(folder: Folder, depth: int) -> Iterator[Folder]:
    """The runs in a folder and below, but not those inside of runs. What cannot be read is named in the log."""
    try:
        found, names = is_run(folder), folder.folders()
    except StjError as error:
        log.warning("%s", error)
        return
    if found:
        yield folder
    elif depth:
        for name in names:
            if not name.startswith("."):
                yield from _runs_below(folder / name, depth - 1)


def _listed(folder: Folder, top: Folder) -> ListedRun:
    files = list(tree(folder))
    size, changed = sum(file.size for file in files), _last_change(files)
    name = folder.path.removeprefix(top.path.rstrip("/")).strip("/") or folder.path.rstrip("/").rpartition("/")[2]
    try:
        run = RunFolder(folder)
        names, driver = {file.path for file in files}, driver_at(folder)
        trained = sum(f"iteration_{judge}/model/{MANIFEST}" in names for judge in range(1, run.iterations + 1))
        working = "running" if driver and driver.alive else "running?" if driver else None
        state = working or ("done" if _is_done(run, names) else f"{trained} of {run.iterations}")
        return ListedRun(
            run=name,
            state=state,
            seed=_seed(run.config),
            iterations=run.iterations,
            trained=trained,
            **_accuracy(run),
            size=size,
            changed=changed,
            driver=driver.name if driver else None,
        )
    except (StjError, TypeError, ValueError, KeyError, AttributeError) as error:  # One damaged run hides no other.
        why = str(error) if isinstance(error, StjError) else f"its records have other fields than this stj writes ({error})"
        return ListedRun(run=name, state="damaged", size=size, changed=changed, why=why)


def _last_change(files: list[TreeFile]) -> str:
    times = [file.changed_at for file in files if not file.path.startswith(_LEASE)]
    return datetime.fromtimestamp(max(times, default=0.0), UTC).isoformat(timespec="seconds")


def _is_done(run: RunFolder, names: set[str]) -> bool:
    """Whether the last judge is trained, and measured as the config asks. `stj status` also compares the settings."""
    last, heldout = run.iterations, run.config.get("heldout", {})
    wanted = [f"iteration_{last}/model"]
    wanted += [f"heldout_{last}"] if heldout.get("path") or heldout.get("grades") else []
    measured = sum(name.startswith(f"benchmarks_{last}/") and name.endswith(f"/{MANIFEST}") for name in names)
    return all(f"{name}/{MANIFEST}" in names for name in wanted) and measured >= len(run.config.get("benchmarks") or ())


def _seed(config: Mapping[str, Any]) -> str | None:
    path = (config.get("models", {}).get("seed") or {}).get("path")
    return path if not path or is_hub_id(path) else Path(path.rstrip("/")).name


def _accuracy(run: RunFolder) -> dict[str, Any]:
    """The accuracy of the last judge in the report, if it is of the pass that lies there; else why it is not shown."""
    try:
        report = json.loads(run.folder.read(_REPORT)) if run.folder.exists(_REPORT) else {}
    except ValueError:
        raise ArtifactError(f"{(run.folder / _REPORT).uri}: damaged: not JSON; the run's command writes it again") from None
    made_from = report.get("run", {}).get("fingerprints", {})
    measured = [judge for judge in report.get("iterations", ()) if judge.get("heldout")]
    for judge in reversed(measured):
        there = run.measured_in(int(judge["judge"].removeprefix("M_")))
        if there and there.fingerprint in made_from.values():
            return {"judge": judge["judge"], "accuracy": judge["heldout"]["accuracy"], "ci95": tuple(judge["heldout"]["ci95"])}
    return {"why": (_OTHER if made_from else _NAMELESS)} if measured else {}
