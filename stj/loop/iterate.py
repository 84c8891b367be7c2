"""The algorithm of the paper (section 3): one iteration, and all of them.

instructions -> categories -> pairs -> judgments -> the right ones, balanced -> fine-tune the seed -> the next judge
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

from stj.config import Config, ModelsConfig
from stj.errors import PassFailed
from stj.loop.checkpoint_selection import train_and_select
from stj.loop.counts import Funnel
from stj.loop.examples import select_examples
from stj.loop.phases import Phase, Run
from stj.loop.report import table, write_report
from stj.loop.status import write_run_config
from stj.loop.summary import facts, report, summary
from stj.models.locate import check_division
from stj.passes.gate import RayGate
from stj.passes.run import run_pass
from stj.passes.session import Demand, driver_session, engine_demand, training_demand
from stj.passes.spec import pass_under
from stj.storage.artifacts import artifacts_to_make
from stj.text import Show
from stj.train.job import CHECKPOINTS
from stj.train.launch import train


def run_all(config: Config, print_line: Show, *, overwrite: bool = False) -> None:
    """All iterations, from the instructions to M_T. What is done already is reused."""
    run = Run(config)
    _go_through(run, run.phases, print_line, overwrite=overwrite)


def run_one(config: Config, print_line: Show, *, overwrite: bool = False) -> None:
    """One iteration: the one that the config names, else the first that is not finished."""
    run = Run(config)
    phases = run.phases_of_one()
    if not phases:
        print_line(f"all {config.iterations} iterations of {run.folder.uri} are done")
    _go_through(run, phases, print_line, overwrite=overwrite)


def _go_through(run: Run, phases: Sequence[Phase], print_line: Show, *, overwrite: bool) -> None:
    """Does phases in their order, and writes the report. What is stale is refused before Ray starts."""
    to_make = artifacts_to_make([phase.artifact for phase in phases], overwrite=overwrite)
    missing = [phase for phase in phases if phase.artifact in to_make]
    if missing:
        run.check_inputs()
        _check_models(run.config.models, missing)
        if run.config.heldout.path is None:
            print_line("heldout.path=null: no judge will be measured")
    with driver_session(run.folder, run.config.ray, _demands(run, missing)):
        write_run_config(run)
        iterate(run, phases, print_line, overwrite=overwrite)
        reports = report(run)
        write_report(run.folder, facts(run), reports)
    print_line(table(reports))


def _check_models(models: ModelsConfig, missing: Sequence[Phase]) -> None:
    """Raises ModelError where GPUs cannot share a model, or training could not begin from the seed.

    It does so before the passes, not after the hours that they take; of models on the hub it fetches all but the weights.
    """
    for model in (models.generator, models.first_judge, models.seed):
        check_division(model)
    if any(phase.kind == "model" for phase in missing):
        from stj.train.check import check_model  # transformers takes seconds, and a pass alone does not need it

        check_model(models.seed)


def _demands(run: Run, missing: Sequence[Phase]) -> list[Demand]:
    """What the phases that are to be done ask of the cluster."""
    models = [phase.model for phase in missing if phase.kind == "pass" or phase.selected_on]
    found = [engine_demand(run.config.engine, models)] if models else []
    if any(phase.kind == "model" for phase in missing):
        found.append(training_demand(run.config.train))
    return found


def iterate(run: Run, phases: Sequence[Phase], print_line: Show, *, overwrite: bool = False) -> None:
    """Judging with M_{i-1}, selecting, and fine-tuning the seed to M_i: one iteration is one Ray job."""
    for phase in phases:
        started = time.monotonic()
        if not phase.artifact.begin(overwrite=overwrite):
            print_line(f"{phase.name}: done already, reused")
            if phase.kind == "model":  # a kill can come when a model is done, and its checkpoints are there still
                (phase.artifact.folder.parent / CHECKPOINTS).remove()
            if "pairs" in phase.parts and any(later.artifact.state()[0] != "done" for later in phases):
                _require_pairs(run, phase)
            continue
        _DO[phase.kind](run, phase)
        print_line(f"{phase.name}: {summary(phase)} ({time.monotonic() - started:.0f} s)")


def do_pass(run: Run, phase: Phase) -> None:
    """Streams the rows of a phase through its model."""
    limit = run.config.select.limit
    gate = RayGate(limit, phase.artifact) if limit is not None and "pairs" in phase.parts else None
    spec = pass_under(
        run.config,
        name=phase.name,
        model=phase.model,
        read=partial(run.read_inputs, phase),
        total=run.inputs_of(phase),
        stages=run.stages(phase, gate),
    )
    run_pass(spec, phase.artifact, run.config.engine)
    if "pairs" in phase.parts:
        _require_pairs(run, phase)


def _require_pairs(run: Run, phase: Phase) -> None:
    """Raises PassFailed, with the counts of what was dropped, where no instruction became a pair."""
    if not phase.artifact.manifest()["pairs"]:
        funnel = Funnel.of(run.rows_of(phase))
        dropped = ", ".join(f"{count} {reason}" for reason, count in funnel.dropped.items())
        raise PassFailed(
            f"none of {funnel.instructions_in} instructions became a pair; {funnel.selected} passed the rule "
            f"(dropped: {dropped}). Look at select.*, and with `stj show {phase.artifact.folder.uri}` at what the model writes"
        )


def fine_tune(run: Run, phase: Phase) -> None:
    """Fine-tunes the seed model, again at each iteration, on the examples of this one; or what was warmed up from the seed."""
    assert phase.train is not None
    assert phase.source is not None
    if phase.selected_on:
        train_and_select(run, phase, phase.source.artifact)
    else:
        train(phase.train, phase.model, phase.source.artifact, phase.artifact, run.config.ray)


_DO: dict[str, Callable[[Run, Phase], None]] = {"pass": do_pass, "examples": select_examples, "model": fine_tune}
