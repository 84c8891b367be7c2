"""`stj clean`: removes weights and checkpoints of a run that its owner no longer needs, and says first what that means.

    weights       of every trained judge but the kept one, with the warm-up that it was trained from
    checkpoints   of finished trainings, which a kill left; with --keep none also those of an unfinished training

Rows, examples, scores, manifests and the report stay. removed.json says why weights are gone, as after keep_models=last
(stj/models/removed.py), so a finished run stays finished.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stj.errors import ArtifactError, ConfigError, StjError
from stj.loop.benchmarks import BenchmarkPhase
from stj.loop.kinds import PassPhase, TrainingPhase
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.loop.run_folder import RunFolder
from stj.loop.status import read_run_config
from stj.models.removed import files_to_remove, remove_weights
from stj.storage.artifacts import MANIFEST
from stj.storage.folder import Folder
from stj.storage.lease import driver_at, sole_driver
from stj.storage.tree import tree
from stj.text import data_size
from stj.train.job import CHECKPOINTS

Keep = Literal["last", "best", "none"]
_CANDIDATES = "candidates"


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Something that goes."""

    name: str
    """Below the run's directory."""
    size: int
    """In bytes."""
    weights: bool
    """Whether these are the weights of a finished model, whose records stay; if not, all of the folder goes."""
    resumable: bool = False
    """Whether an unfinished training would have resumed from it."""


@dataclass(frozen=True, kw_only=True)
class CleaningPlan:
    """What goes, what stays, and what follows."""

    location: str
    keep: Keep
    kept: str
    """What keeps its weights, in words."""
    goes: tuple[Removal, ...]
    follows: tuple[str, ...]
    """What the next `stj run` would do."""

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(removal.size for removal in self.goes)

    def lines(self) -> Iterator[str]:
        """The plan for its reader."""
        for removal in self.goes:
            kind = "weights" if removal.weights else "all of it"
            yield f"goes   {removal.name}: {kind}, {data_size(removal.size)}"
        yield f"stays  {self.kept}, and all rows, scores and reports"
        if not self.goes:
            yield "nothing to remove"
            return
        yield from (f"then   {line}" for line in self.follows)
        yield f"total  {data_size(self.size)}"


def planned_cleaning(location: str, keep: Keep) -> CleaningPlan:
    """What `clean` would remove; removes nothing.

    Raises NoArtifact if there is no run, ArtifactError if a driver is at work there, and ConfigError if no judge is the best.
    """
    folder = Folder.at(location)
    run = RunFolder(folder)
    driver = driver_at(folder)
    if driver and driver.alive:  # Otherwise `clean` waits for a sign of life.
        raise ArtifactError(f"{folder.uri}: a driver is at work there ({driver.name}). Wait for it, or stop it, and then clean")
    judge = _kept_judge(run, keep)
    removals = (*_weights(run, judge), *_left_behind(run, keep))
    kept = f"weights of M_{judge}" if judge else "no weights"
    return CleaningPlan(
        location=location, keep=keep, kept=kept, goes=removals, follows=tuple(_follows(run, removals)) if removals else ()
    )


def clean(plan: CleaningPlan) -> str:
    """Removes what a plan names, and returns a line on it.

    Raises ArtifactError if a driver is at work there, or if the run has changed since the plan was made.
    """
    folder, freed, used = Folder.at(plan.location), 0, []
    with sole_driver(folder):
        now = RunFolder(folder)
        if (*_weights(now, _kept_judge(now, plan.keep)), *_left_behind(now, plan.keep)) != plan.goes:
            raise ArtifactError(f"{folder.uri}: has changed since it was looked at; nothing was removed. Run the command again")
        for removal in plan.goes:
            place = folder / removal.name
            size: int | None = removal.size
            if removal.weights:
                size = remove_weights(place, f"by stj clean --keep {plan.keep}")
            else:
                place.remove()
            freed += size or 0
            used += [removal.name] if size is None else []
    stays = f"; {', '.join(used)} stays, because another process uses it" if used else ""
    return f"{folder.uri}: {data_size(freed)} removed{stays}"


def _kept_judge(run: RunFolder, keep: Keep) -> int | None:
    """The judge that keeps its weights; None for none."""
    there = run.with_weights()
    if keep == "none" or not there:
        return None
    if keep == "last":
        return there[-1]
    measured = {judge: seen.pairs.accuracy for judge in there if (seen := run.measured(judge)) and seen.pairs}
    if lacking := [judge for judge in there if judge not in measured]:
        raise ConfigError(
            f"--keep best: M_{lacking[0]} of {run.folder.uri} was not measured on held-out pairs, so no judge is the best one: "
            "take --keep last, or finish the run"
        )
    return max(measured, key=lambda judge: (measured[judge], judge))


def _weights(run: RunFolder, kept: int | None) -> Iterator[Removal]:
    """The weights of all judges but one."""
    for judge in range(1, run.iterations + 1):
        for name in (f"iteration_{judge}/model", f"iteration_{judge}/warm_up/model"):
            if judge != kept and run.finished(name) and run.has_weights(name):
                yield Removal(name=name, size=sum(files_to_remove(run.folder / name).values()), weights=True)


def _left_behind(run: RunFolder, keep: Keep) -> Iterator[Removal]:
    """Checkpoints and candidates, except those from which a training resumes, unless nothing is kept."""
    for judge in range(1, run.iterations + 1):
        for training in (f"iteration_{judge}", f"iteration_{judge}/warm_up"):
            finished = (run.folder / training / "model").exists(MANIFEST)
            places = [CHECKPOINTS] + [
                f"{_CANDIDATES}/{candidate}/model" for candidate in (run.folder / training / _CANDIDATES).folders()
            ]
            for place in places:
                size = sum(file.size for file in tree(run.folder / training / place))
                if size and (finished or keep == "none"):
                    yield Removal(name=f"{training}/{place}", size=size, weights=False, resumable=not finished)


def _follows(run: RunFolder, removals: tuple[Removal, ...]) -> Iterator[str]:
    """What the next `stj run` would do without what goes."""
    for removal in removals:
        if removal.resumable:
            yield f"the training that {removal.name} belongs to begins again at its first step"
    try:
        phases = Run(read_run_config(run.folder)).phases
        missing = [phase for phase in phases if phase.artifact.state()[0] != "done"]
    except (StjError, OSError) as error:
        yield f"whether `stj run` needs what goes is not known: {' '.join(str(error).split())}"
        return
    if not missing:
        yield "`stj run` finds the run finished as before"
        return
    gone = {(run.folder / removal.name).uri: removal.name for removal in removals if removal.weights}
    needed = [(phase, gone[place]) for phase in missing if (place := _place_of(phase)) in gone]
    for phase, name in needed:
        if isinstance(phase, BenchmarkPhase):
            yield f"{phase.name} is not judged by `stj run`: it needs {name}"
        else:
            yield f"{phase.name} is not done and needs {name}: `stj run` asks you to delete that directory, and trains it again"
    if not needed:
        yield f"`stj run` goes on with {missing[0].name}, which needs nothing that goes"


def _place_of(phase: Phase) -> str:
    return phase.model.path if isinstance(phase, PassPhase | TrainingPhase | BenchmarkPhase) else ""
