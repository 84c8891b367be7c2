"""What trackers learn of a run beside the steps of its trainings: the figures of each iteration, and the report.

A step k is the judge M_k: how good it is, how its training set was made, and what its iteration cost. It is sent once M_k is
measured. So after `stj iterate` the newest judge may come with the next iteration.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.loop.report import IterationReport
from stj.loop.run_line import doing
from stj.storage.artifacts import fingerprint, plain

_REPORT = "report.html"
Figures = dict[str, float]


def track_iterations(run: Run, judges: Sequence[IterationReport]) -> None:
    """Sends the figures of all iterations, and the report, to the trackers that `train.trackers` names.

    A tracker that fails only warns, as in a training.
    """
    names = run.config.train.trackers
    if not names:
        return
    from stj.train.trackers import TrackedTraining, track_run  # imports torch: seconds, which runs without trackers save

    with doing("sending the figures to trackers"), tempfile.TemporaryDirectory() as temporary:
        directory = run.folder.local or Path(temporary)
        report = run.folder.download(_REPORT, directory)
        first = run.iterations[0].model.artifact.fingerprint
        tracked = TrackedTraining(
            id=fingerprint({"run": run.folder.uri, "first": first}),
            name=run.folder.path.rstrip("/").rpartition("/")[2],
            settings=plain(run.config),
            directory=directory,
            done=-1,  # All steps are sent again: TensorBoard forgets the earlier ones, from step 0 on.
            group="run",
            clock="judge",
        )
        track_run(names, tracked, iteration_figures(run, judges), report, run.folder)


def iteration_figures(run: Run, judges: Sequence[IterationReport]) -> Iterator[tuple[int, Figures]]:
    """The figures of M_0, M_1, ..., up to the first judge that is not measured yet; if none will be, not trained yet."""
    for number, judge in enumerate(judges):
        iteration = run.iterations[number - 1] if number else None
        if run.config.heldout.measures:
            ready = judge.heldout is not None or judge.heldout_grades is not None
        else:
            ready = iteration is None or iteration.model.artifact.state()[0] == "done"
        if not ready:
            return
        made = {**_making(judges[number - 1]), **_costs(iteration.phases)} if iteration else {}
        yield number, {"judge": number, **_quality(judge), **made}


def _quality(judge: IterationReport) -> Figures:
    if judge.heldout is None:
        return {}
    low, high = judge.heldout.ci95
    return {"accuracy": judge.heldout.accuracy, "accuracy_low": low, "accuracy_high": high}


def _making(judge: IterationReport) -> Figures:
    """How the training set was made that this judge judged."""
    figures = {"accepted": judge.accepted, "draws_per_kept": judge.draws_per_kept, "examples": judge.examples}
    return {name: value for name, value in figures.items() if value is not None}


def _costs(phases: Sequence[Phase]) -> Figures:
    """What the passes of an iteration took together; no dollars if no pass has a price."""
    ledgers: list[Mapping[str, float | None]] = [
        phase.artifact.manifest()["ledger"]
        for phase in phases
        if phase.artifact.state()[0] == "done" and "ledger" in phase.artifact.manifest()
    ]
    names = ("prompt_tokens", "output_tokens", "engine_seconds", "dollars")
    known = {name: [value for ledger in ledgers if (value := ledger.get(name)) is not None] for name in names}
    return {name: sum(values) for name, values in known.items() if values}
