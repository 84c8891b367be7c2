"""The verbs of a run: plan, doctor, run, iterate, status, watch, show."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from stj.cli.app import (
    AsJson,
    Conf,
    DryRun,
    Overwrite,
    Wide,
    files_and_overrides,
    print_json,
    show_on_stderr,
    verb,
    whole_number,
)
from stj.config import Config
from stj.config_loader import load
from stj.errors import ConfigError
from stj.package_files import names_conf
from stj.storage.folder import Folder
from stj.text import LiveLine, Passage, Span, json_text, show

if TYPE_CHECKING:
    from stj.loop.phase import Phase
    from stj.loop.phases import Run


@verb("plan", "stj plan conf:paper conf:hardware/8xh100-80", docs="costs data-and-models")
def _plan(conf: Conf, as_json: AsJson = False) -> None:
    """Shows whether a run fits, and its memory, tokens and GPU-hours.

    Needs neither weights nor network. The plan names every assumption that it makes.
    """
    from stj.loop.planning import run_plan

    planned = run_plan(load(*files_and_overrides(conf)))
    if as_json:
        print_json(asdict(planned))
    else:
        _show_plan(planned.lines())


@verb(
    "doctor",
    "stj doctor conf:mini",
    "stj doctor conf/small.yaml models.seed.path=/models/my-8b run_root=/data/small",
    docs="data-and-models troubleshooting",
)
def _doctor(conf: Conf, as_json: AsJson = False) -> None:
    """Checks what a run needs, before anything is paid.

    Reads models, data, disk and GPUs, and shows each finding: ok, or what is wrong and the remedy. Starts no engine and
    fetches no weights. `stj run` begins with the same check.
    """
    from stj.loop.doctor import diagnose

    findings = diagnose(load(*files_and_overrides(conf)))
    wrong = any(not finding.ok for finding in findings)
    if as_json:
        print_json({"ok": not wrong, "findings": [finding.plain() for finding in findings]})
    else:
        for finding in findings:
            show(finding.line())
    if wrong:
        raise typer.Exit(ConfigError.exit_code)


@verb("run", "stj run conf:mini", "stj run conf/small.yaml run_root=/data/small --dry-run", docs="start method resuming")
def _run(
    conf: Conf, dry_run: DryRun = False, overwrite: Overwrite = False, wide: Wide = False, as_json: AsJson = False
) -> None:
    """Runs all iterations of a config.

    Finished phases are reused. A run that was stopped resumes from its last commit.
    """
    config = load(*files_and_overrides(conf))
    if config.iteration is not None:
        raise ConfigError(f"iteration={config.iteration}: `stj run` does all of them; `stj iterate` does one")
    if dry_run:
        from stj.loop.phases import Run

        run = Run(config)
        _print_dry_run(run, run.phases, as_json)
    else:
        _open(config)
        with _loading():
            from stj.loop.iterate import run_all

        _start(run_all, config, overwrite=overwrite, wide=wide, as_json=as_json)


@verb(
    "iterate",
    "stj iterate conf:mini",
    "ray job submit --working-dir . -- stj iterate conf/paper.yaml run_root=URI",
    docs="method clusters resuming",
)
def _iterate(
    conf: Conf, dry_run: DryRun = False, overwrite: Overwrite = False, wide: Wide = False, as_json: AsJson = False
) -> None:
    """Runs one iteration: the next, or iteration=N.

    One iteration is one Ray job: it judges with one model, and trains the next.
    """
    config = load(*files_and_overrides(conf))
    if dry_run:
        from stj.loop.phases import Run

        run = Run(config)
        iteration = run.next_iteration()
        _print_dry_run(run, iteration.phases if iteration else [], as_json)
    else:
        _open(config)
        with _loading():
            from stj.loop.iterate import run_one

        _start(run_one, config, overwrite=overwrite, wide=wide, as_json=as_json)


def _open(config: Config) -> None:
    """Says at once what the run is."""
    from stj.loop.opening import opening_lines

    _show_plan(opening_lines(config), sys.stderr)


@contextmanager
def _loading() -> Iterator[None]:
    """Says on a terminal that Ray is imported, which takes seconds."""
    line = LiveLine()
    line.show("loading Ray")
    try:
        yield
    finally:
        line.clear()


def _start(run_some: Callable[..., None], config: Config, *, overwrite: bool, wide: bool, as_json: bool) -> None:
    run_some(config, partial(show_on_stderr if as_json else show, wide=wide), overwrite=overwrite)
    if as_json:  # anew: a disk that takes nothing may hold an older report
        from stj.loop.phases import Run
        from stj.loop.summary import RunSummary

        print_json(json.loads(RunSummary.of(Run(config)).files()["report.json"]))


def _print_dry_run(run: "Run", phases: Sequence["Phase"], as_json: bool) -> None:
    from stj.loop.inputs import check_inputs
    from stj.loop.planning import run_plan
    from stj.loop.status import phase_states

    check_inputs(run.config)
    states, planned = phase_states(phases, count_kept=True), run_plan(run.config)
    if as_json:
        print_json({"phases": [asdict(state) for state in states], "plan": asdict(planned)})
        return
    print(f"run_root {run.config.run_root}")
    for state in states:
        show(state.line(indent=2))
    _show_plan(planned.lines())


def _show_plan(lines: Sequence[str], stream: TextIO | None = None) -> None:
    """Shows a plan, whose lines begin with a label of 12 characters."""
    for line in lines:
        bad = "bold red" if "DOES NOT FIT" in line else ""
        show(Passage(line=[Span(line[:12], "bold"), Span(line[12:], bad)], hang=13), stream)


@verb("status", "stj status runs/mini", "stj status conf:mini seed=3", docs="resuming")
def _status(
    target: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|CONF.yaml",
            help="A run's directory, which knows its config; or config files, merged from left to right.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Shows each phase of a run: done, partial, stale or absent.

    A stale phase was made with other settings. Its line names what changed.
    """
    from stj.loop.phases import Run
    from stj.loop.status import phase_states, read_run_config

    given = names_conf(target[0])
    if not given and len(target) > 1:
        raise ConfigError(f"{target[1]}: a run's directory knows its config; to change it give the config file")
    config = load(*files_and_overrides(target)) if given else read_run_config(Folder.at(target[0]))
    states = phase_states(Run(config).phases)
    if as_json:
        print_json([asdict(state) for state in states])
        return
    for state in states:
        show(state.line())


@verb("watch", "stj watch runs/mini", "stj watch s3://bucket/runs/small", docs="start")
def _watch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run_root of a run, a directory or a URI.")],
) -> None:
    """Shows a run that another process or machine drives.

    It shows the live line of the driver and ends with the run. It only reads, and says if the driver is dead.
    """
    from stj.loop.watching import watch_run

    watch_run(Folder.at(run), show)


@verb(
    "show",
    "stj show runs/mini/iteration_2/judged --limit 20",
    "stj show runs/mini/pairs --where dropped=pair_identical --columns id,pair",
    docs="resuming troubleshooting",
)
def _show(
    path: Annotated[str, typer.Argument(metavar="PATH", help="An artifact's directory or URI.")],
    limit: Annotated[int, typer.Option(metavar="N", parser=whole_number, help="The number of rows to show.")] = 5,
    offset: Annotated[int, typer.Option(metavar="N", parser=whole_number, help="The number of rows to leave out before.")] = 0,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH",
            help="wrong (most judgments are), flipped (the orders prefer different answers), dropped, dropped=REASON or id=ID.",
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="FIELD,...", help="Only these fields, such as id,dropped,pair.chosen.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")] = False,
) -> None:
    """Shows rows of an artifact: answers, judgments, why dropped.

    An artifact that is not finished shows the rows committed so far. A model shows its manifest.
    """
    from stj.loop.row_selection import RowSelection
    from stj.loop.show import show_rows
    from stj.storage.artifacts import read_artifact

    artifact = read_artifact(Folder.at(path))
    names = tuple(name.strip() for name in columns.split(",")) if columns else ()
    selection = RowSelection(where=where, offset=offset, limit=limit, columns=names)
    if as_json:
        for record in selection.records(artifact):
            print(json_text(record, sys.stdout))
    else:
        for passage in show_rows(artifact, selection):
            show(passage)
