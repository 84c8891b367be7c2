"""The algorithm of the paper (section 3): one iteration, and all of them.

instructions -> categories -> pairs -> judgments -> the right ones, balanced -> fine-tune the seed -> the next judge
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial

from stj.config import Config
from stj.errors import PassFailed
from stj.evals.report import table, write_report
from stj.lease import sole_driver
from stj.outcome import facts, judged_rows, report, summary
from stj.passes import Pass, RayGate, run_pass
from stj.rows import examples_to_table
from stj.run import Phase, Run
from stj.selection import train_and_select
from stj.session import Demand, engine_demand, ray_session, training_demand
from stj.stages.counts import Funnel, Judged
from stj.stages.select import balance, to_example, to_learn
from stj.status import write_run_config
from stj.train.launch import train

Tell = Callable[[str], None]
"""Takes one line for the user."""


def run_all(config: Config, tell: Tell, *, overwrite: bool = False) -> None:
    """All iterations, from the instructions to M_T. What is done already is reused."""
    run = Run(config)
    _go_through(run, run.phases, tell, overwrite=overwrite)


def run_one(config: Config, tell: Tell, *, overwrite: bool = False) -> None:
    """One iteration: the one that the config names, else the first that is not finished."""
    run = Run(config)
    phases = run.phases_of_one()
    if not phases:
        tell(f"all {config.iterations} iterations of {run.folder.uri} are done")
    _go_through(run, phases, tell, overwrite=overwrite)


def _go_through(run: Run, phases: Sequence[Phase], tell: Tell, *, overwrite: bool) -> None:
    """Does phases in their order, and writes the report. What is stale is refused before Ray starts."""
    states = [phase.artifact.state() for phase in phases]
    for phase, (state, changed) in zip(phases, states, strict=True):
        if state == "stale" and not overwrite:
            raise phase.artifact.refusal(changed)
    missing = [phase for phase, (state, _) in zip(phases, states, strict=True) if state != "done"]
    if missing:
        run.check_inputs()
        if run.config.heldout.path is None:
            tell("heldout.path=null: no judge will be measured")
    with ray_session(run.config.ray, _demands(run, missing)) if missing else nullcontext(), sole_driver(run.folder):
        write_run_config(run)
        iterate(run, phases, tell, overwrite=overwrite)
        reports = report(run)
        write_report(run.folder, facts(run), reports)
    tell(table(reports))


def _demands(run: Run, missing: Sequence[Phase]) -> list[Demand]:
    """What the phases that are to be done ask of the cluster."""
    models = [phase.model for phase in missing if phase.kind == "pass" or phase.selected_on]
    found = [engine_demand(run.config.engine, models)] if models else []
    if any(phase.kind == "model" for phase in missing):
        found.append(training_demand(run.config.train))
    return found


def iterate(run: Run, phases: Sequence[Phase], tell: Tell, *, overwrite: bool = False) -> None:
    """Judging with M_{i-1}, selecting, and fine-tuning the seed to M_i: one iteration is one Ray job."""
    for phase in phases:
        started = time.monotonic()
        if not phase.artifact.begin(overwrite=overwrite):
            tell(f"{phase.name}: done already, reused")
            if "pairs" in phase.parts and any(later.artifact.state()[0] != "done" for later in phases):
                _require_pairs(run, phase)
            continue
        _DO[phase.kind](run, phase)
        tell(f"{phase.name}: {summary(phase)} ({time.monotonic() - started:.0f} s)")


def do_pass(run: Run, phase: Phase) -> None:
    """Streams the rows of a phase through its model."""
    limit = run.config.select.limit
    gate = RayGate(limit, phase.artifact) if limit is not None and "pairs" in phase.parts else None
    spec = Pass(model=phase.model, read=partial(run.read_inputs, phase), stages=run.stages(phase, gate), seed=run.config.seed)
    run_pass(spec, phase.artifact, run.config.engine)
    if "pairs" in phase.parts:
        _require_pairs(run, phase)


def _require_pairs(run: Run, phase: Phase) -> None:
    """Raises PassFailed, with the counts of what was dropped, where no instruction became a pair."""
    funnel = Funnel.of(run.rows_of(phase))
    if not funnel.pairs:
        dropped = ", ".join(f"{count} {reason}" for reason, count in funnel.dropped.items())
        raise PassFailed(
            f"none of {funnel.instructions_in} instructions became a pair; {funnel.selected} passed the rule "
            f"(dropped: {dropped}). Look at select.*, and with `stj show {phase.artifact.folder.uri}` at what the model writes"
        )


def select_examples(run: Run, phase: Phase) -> None:
    """Keeps one right judgment a pair (and a wrong one, to learn preferences), as many with label A as with label B."""
    objective, seed = run.config.train.objective, run.config.seed
    counts = Judged()
    kept, compared = [], []
    for row in judged_rows(run, phase.iteration):
        counts.add(row)
        found = to_learn(row, objective)
        if found is None and row.kept is not None:
            counts.drop("no_wrong_judgment")
        if found is not None:
            kept.append((row.id, found[0].winner))
            if found[1] is not None:
                compared.append((row.id, found[0].winner))
    chosen = balance(kept, seed)
    with_wrong = balance(((row_id, winner) for row_id, winner in compared if row_id in chosen), seed)
    if not chosen or (objective != "sft" and not with_wrong):
        raise _no_examples(phase.iteration, counts, kept if objective == "sft" else compared)
    examples = []
    for row in judged_rows(run, phase.iteration):
        found = to_learn(row, objective) if row.id in chosen else None
        if found is not None:
            examples.append(to_example(row, found[0], found[1] if row.id in with_wrong else None))
    examples.sort(key=lambda example: example.id)  # never in order of arrival
    phase.artifact.write_part("examples", examples_to_table(examples))
    funnel = Funnel.of(run.rows_of(run.phase_that("pairs", 1)))
    phase.artifact.finish(funnel=asdict(funnel), judged=asdict(counts), with_wrong_judgment=len(with_wrong))


def _no_examples(iteration: int, counts: Judged, usable: Sequence[tuple[str, str]]) -> PassFailed:
    """What to raise where nothing, or nothing but one label, is there to learn."""
    label_a = sum(winner == "A" for _, winner in usable)
    dropped = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items())
    return PassFailed(
        f"iteration {iteration}: no training examples: {counts.judged} pairs were judged, {label_a} can be learned with "
        f"label A, {len(usable) - label_a} with label B (dropped: {dropped or 'none'}). Judge more pairs, or see with "
        "`stj show` what the judge writes"
    )


def fine_tune(run: Run, phase: Phase) -> None:
    """Fine-tunes the seed model, again at each iteration, on the examples of this one; or what was warmed up from the seed."""
    assert phase.train is not None
    examples = next(p for p in run.of_iteration(phase.iteration) if p.kind == "examples")
    if phase.selected_on:
        train_and_select(run, phase, examples.artifact)
    else:
        train(phase.train, phase.model, examples.artifact, phase.artifact)


_DO: dict[str, Callable[[Run, Phase], None]] = {"pass": do_pass, "examples": select_examples, "model": fine_tune}
