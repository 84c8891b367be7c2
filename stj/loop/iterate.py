"""The algorithm of the paper (section 3): one iteration, and all of them.

instructions -> categories -> pairs -> judgments -> the right ones, balanced -> fine-tune the seed -> the next judge
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from stj.config import Config
from stj.errors import StjError
from stj.findings import Finding, require
from stj.loop.benchmarks import unused_settings
from stj.loop.clue_sets import clue_table
from stj.loop.doctor import diagnose_here, engine_paths, examine, trainings_among
from stj.loop.finished import finished_summary
from stj.loop.iteration import Iteration
from stj.loop.kinds import TrainingPhase
from stj.loop.outlook import Outlook
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.loop.planning import run_plan
from stj.loop.removal import remove_older_models, without_weights
from stj.loop.repair import carry_over_rows, phases_to_make
from stj.loop.report_tables import tables
from stj.loop.run_line import RunLine, ShownRun, doing, shown_run
from stj.loop.status import write_run_config
from stj.loop.summary import RunSummary
from stj.loop.tracked_run import track_iterations
from stj.passes.check import on_this_machine
from stj.passes.demand import Demand
from stj.passes.link import link_findings
from stj.passes.metrics import RunMetrics
from stj.passes.node_check import checked_nodes
from stj.passes.session import driver_ray, engine_demand, training_demand
from stj.plan.phase_cost import total
from stj.plan.room_here import machine_room
from stj.storage.lease import sole_driver
from stj.text import LiveLine, Show

Make = Callable[[Phase], None]
"""Makes the artifact of a phase, or reuses it."""


def run_all(config: Config, print_line: Show, *, overwrite: bool = False) -> None:
    """All iterations, from the instructions to M_T. Reuses what is done."""
    run = _planned(config)
    with _making(run, run.phases, print_line, overwrite=overwrite) as make:
        for iteration in run.iterations:
            iterate(iteration, make)


def run_one(config: Config, print_line: Show, *, overwrite: bool = False) -> None:
    """One iteration: the one that the config names, else the first that is not finished."""
    run = _planned(config)
    iteration = run.next_iteration()
    if iteration is None:
        print_line(f"all {config.iterations} iterations of {run.folder.uri} are done")
    with _making(run, iteration.phases if iteration else [], print_line, overwrite=overwrite) as make:
        if iteration is not None:
            iterate(iteration, make)


def iterate(iteration: Iteration, make: Make) -> None:
    """One iteration i of section 3; it can be one Ray job."""
    if iteration.curation:  # not in the paper: clusters, near-duplicates by meaning, a sample
        make(iteration.curation)
    for answers in iteration.answers:  # not in the paper: policies answer questions, a right and a wrong answer are a pair
        make(answers)
    for annotation in iteration.annotation:  # 3.2, 3.3: select instructions, write pairs (once); 3.4: M_{i-1} judges them
        make(annotation)
    for benchmark in iteration.benchmarks:  # how good M_{i-1} is; judged in its pass above, unless that was done before
        make(benchmark)
    make(iteration.examples)  # 3.4: keep one right judgment a pair, as many labels A as B
    if iteration.warm_up:  # not in the paper: train.objective=sft_then_dpo learns right judgments first (RISE)
        make(iteration.warm_up)
        for preferences in iteration.again:
            make(preferences)
    make(iteration.model)  # 3.5: fine-tune the seed, never M_{i-1}, to M_i
    for measured in iteration.measured:  # M_T is measured; earlier judges are measured while they judge the next pairs
        make(measured)


@contextmanager
def _making(run: Run, phases: Sequence[Phase], print_line: Show, *, overwrite: bool) -> Iterator[Make]:
    """Gives a function that makes these phases, with their inputs checked before Ray starts; shows the tables afterwards.

    Writes the report. If all phases are done, no driver is kept out, and nothing is written that would not change.
    """
    with doing("looking at what is done"):
        missing = phases_to_make(phases, overwrite=overwrite)
    config, lost = run.config, without_weights(run, missing)
    missing = [phase for phase in missing if phase.name not in lost]
    if missing:
        with doing("checking the inputs"):
            findings = examine(config, missing)
        require(findings)
        if not config.heldout.measures and not config.benchmarks:
            print_line("heldout.path=null, heldout.grades=null, benchmarks=[]: no judge will be measured")
        if unused := unused_settings(config):
            print_line(f"benchmarks: {unused}")

    def make(phase: Phase, line: RunLine | None = None) -> None:
        if phase.name in lost:
            print_line(f"{phase.name}: {lost[phase.name]}")
            return
        if missing and isinstance(phase, TrainingPhase):
            remove_older_models(run, print_line)  # before the next model takes its room
        make_phase(phase, print_line, missing, overwrite=overwrite, line=line)

    if missing:
        with _driving(run, missing, Outlook(phases, config, _dollars(config))) as shown:
            require(_link_findings(config, missing))
            write_run_config(run)
            metrics = RunMetrics(run.folder.uri, len(phases))
            print_line = shown.also(print_line)

            def make_and_show(phase: Phase) -> None:
                with metrics.phase(phase.name), shown.phase(phase) as line:
                    make(phase, line)

            yield make_and_show
            remove_older_models(run, print_line)
            with shown.doing("writing the report"):
                summary = RunSummary.of(run)
                summary.write(run.folder)
            track_iterations(run, summary.judges)
    else:
        yield make
        summary = finished_summary(run, [phase for phase in phases if phase.name not in lost], print_line)
    for number, table in enumerate(tables(summary.judges, clue_table(summary.where.clues))):
        if number:
            print_line("")
        print_line(table)


@contextmanager
def _driving(run: Run, missing: Sequence[Phase], outlook: Outlook) -> Iterator[ShownRun]:
    """Makes this process the driver of the run, with Ray and its machines checked; who watches sees that too."""
    config = run.config
    with sole_driver(run.folder), shown_run(run.folder, outlook) as shown, ExitStack() as stack:
        with shown.doing("starting Ray" if on_this_machine(config.ray) else f"joining Ray at {config.ray.address}"):
            stack.enter_context(driver_ray(config.ray, _demands(config, missing)))
        with shown.doing("checking the machines"):
            stack.enter_context(_checked_nodes(run, missing))
        yield shown


def _dollars(config: Config) -> float | None:
    """What the run costs by its plan; None if no price is known, or if it cannot be planned."""
    with suppress(StjError, OSError):
        if config.hardware.dollars_per_gpu_hour is not None:
            planned = run_plan(config)
            return total((sum(phase.times), phase) for phase in planned.phases)[1]
    return None


def _checked_nodes(run: Run, missing: Sequence[Phase]) -> AbstractContextManager[None]:
    """Checks the machines of the cluster. Engines and ranks read what earlier phases have written, so all must see run_root."""
    config = run.config
    models = [phase.engine_model for phase in missing if phase.engine_model]
    engines = config.engine.device == "gpu" and any(not model.endpoint for model in models)
    ranks = config.train.device == "gpu" and trainings_among(missing) > 0
    room = machine_room(config, engine_paths(models), trainings_among(missing))
    return checked_nodes(config.ray, run.folder, gpu=engines or ranks, room=room)


def make_phase(
    phase: Phase, print_line: Show, missing: Collection[Phase], *, overwrite: bool, line: LiveLine | None = None
) -> None:
    """Runs a phase, or reuses it if it is done; `missing` are the phases that were not done at the start."""
    started = time.monotonic()
    if carried := carry_over_rows(phase, overwrite=overwrite):
        print_line(carried)
    if phase.artifact.begin(overwrite=overwrite):
        phase.run(line)
        print_line(f"{phase.name}: {phase.summary()} ({time.monotonic() - started:.0f} s)")
        return
    if missing:
        phase.clean_up()
    if phase in missing:
        print_line(f"{phase.name}: {phase.summary()} (in the same pass)")
    else:
        print_line(f"{phase.name}: done already, reused")
        if missing:
            phase.require_usable()


def _link_findings(config: Config, missing: Sequence[Phase]) -> list[Finding]:
    """The finding on the links between the machines that will train; none on one machine."""
    trains = trainings_among(missing) > 0 and config.train.device == "gpu" and config.train.workers > 1
    return link_findings("gpu", config.train.place) if trains else []


def _planned(config: Config) -> Run:
    """The run of a config. If it cannot be planned, all that is wrong is raised, not only the first refusal."""
    try:
        return Run(config)
    except (StjError, OSError):
        require(diagnose_here(config))
        raise


def _demands(config: Config, missing: Sequence[Phase]) -> list[Demand]:
    """What the missing phases ask of the cluster."""
    models = [phase.engine_model for phase in missing if phase.engine_model]
    demands = [engine_demand(config.engine, models)] if models else []
    if any(isinstance(phase, TrainingPhase) for phase in missing):
        demands.append(training_demand(config.train))
    return demands
