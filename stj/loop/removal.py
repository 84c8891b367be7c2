"""Which trained models stay on disk: the weights of M_{i-1} are removed once M_{i+1} has judged, unless keep_models=all.

Then no later step of the run needs them: M_{i+1} is trained from the seed, and M_i has judged its training pairs. What M_{i-1}
judged, its scores and its manifest stay. The newest two models stay, to be used and compared.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from stj.errors import ArtifactError
from stj.loop.benchmarks import BenchmarkPhase
from stj.loop.iteration import Iteration
from stj.loop.kinds import PassPhase, TrainingPhase
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.models.removed import files_to_remove, removal_note, remove_weights
from stj.text import Show, data_size
from stj.train.job import CHECKPOINTS

_NEWEST = 2
"""M_i and M_{i+1} stay when M_{i+1} has judged."""


def remove_older_models(run: Run, print_line: Show) -> None:
    """Removes the weights of all models before M_i, if M_{i+1} is the newest that has judged; shows a line for each.

    A model that has itself something left to judge, such as a benchmark that was added later, stays.
    """
    for training, newest in older_models(run):
        _remove(training, f"by keep_models=last, once M_{newest} had judged", print_line)


def older_models(run: Run) -> Iterator[tuple[TrainingPhase, int]]:
    """The trainings whose weights are to be removed, and the newest judge that has judged."""
    judged = [judge for judge in range(1, run.config.iterations + 1) if _has_judged(run, judge)]
    if run.config.keep_models == "all" or not judged:
        return
    for judge in judged:
        if judge <= judged[-1] - _NEWEST:
            for training in _trainings(run.iterations[judge - 1]):
                if training.artifact.state()[0] == "done" and files_to_remove(training.artifact.folder):
                    yield training, judged[-1]


def _has_judged(run: Run, judge: int) -> bool:
    """Whether all is done that M_k judges: training pairs, held-out pairs and benchmarks."""
    if judge == run.config.iterations:
        phases: list[Phase] = list(run.iterations[-1].measured)
    else:
        following = run.iterations[judge]
        phases = [*following.annotation, *following.benchmarks]
    return bool(phases) and all(phase.artifact.state()[0] == "done" for phase in phases)


def _remove(training: TrainingPhase, why: str, print_line: Show) -> None:
    size = remove_weights(training.artifact.folder, why)
    if size is None:
        print_line(f"{training.name}: its weights stay for now: another process uses them")
    elif size:
        print_line(f"{training.name}: {data_size(size)} of weights removed {why}")


def without_weights(run: Run, missing: Iterable[Phase]) -> dict[str, str]:
    """The benchmarks that cannot be judged, as their judge's weights were removed: why, by the name of the phase.

    Raises ArtifactError if a pass or a training needs removed weights: nothing can take their place.
    """
    missing = list(missing)
    gone = {training.artifact.folder.uri: (training, note) for training, note in removed_models(run) if training not in missing}
    lost = {}
    for phase in missing:
        location = phase.model.path if isinstance(phase, PassPhase | TrainingPhase | BenchmarkPhase) else ""
        if location not in gone:
            continue
        training, note = gone[location]
        remedy = f"delete {training.artifact.folder.uri}, and the same command trains it again"
        if not isinstance(phase, BenchmarkPhase):
            raise ArtifactError(f"{phase.name} needs the weights of {training.name}, which were removed, {note}: {remedy}")
        lost[phase.name] = f"not judged: the weights of {training.name} were removed, {note}; {remedy}"
    return lost


def removed_models(run: Run) -> Iterator[tuple[TrainingPhase, str]]:
    """The trainings whose model was removed, and why."""
    for iteration in run.iterations:
        for training in _trainings(iteration):
            if training.artifact.state()[0] == "done" and (note := removal_note(training.artifact.folder)):
                yield training, note


def weights_in(run_root: Path | None) -> tuple[int, int]:
    """Bytes of models and of checkpoints in a run's directory; none in an object store, whose room has no end."""
    files = [file for file in run_root.glob("iteration_*/**/*") if file.is_file()] if run_root else []
    checkpoints = sum(file.stat().st_size for file in files if CHECKPOINTS in file.parts)
    return sum(file.stat().st_size for file in files if file.suffix == ".safetensors"), checkpoints


def _trainings(iteration: Iteration) -> list[TrainingPhase]:
    """The warm-up, which the adapters of M_i may need, goes with M_i."""
    return [training for training in (iteration.model, iteration.warm_up) if training]
