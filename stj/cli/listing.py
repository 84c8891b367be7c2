"""The verbs for runs on a disk: ls, clean."""

import os
import sys
from typing import Annotated, Literal

import typer

from stj.cli.app import AsJson, print_json, verb
from stj.errors import ConfigError
from stj.text import show


@verb("ls", "stj ls", "stj ls /data/runs --json", docs="start")
def _ls(
    place: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR", help="A directory of runs, or a URI; by default runs/, or this directory if there is none."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists runs: state, accuracy, size, last change.

    A state is done, running, or how many iterations are trained. The accuracy is that of the last judge on the held-out pairs.
    """
    from stj.loop.listing import list_runs, runs_json, runs_table

    runs = list_runs(place or ("runs" if os.path.isdir("runs") else "."))
    if as_json:
        print_json(runs_json(runs))
    else:
        show(runs_table(runs))


@verb("clean", "stj clean runs/mini", "stj clean runs/mini --keep none --yes", docs="resuming")
def _clean(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The directory of a run, or its URI.")],
    keep: Annotated[
        Literal["last", "best", "none"],
        typer.Option(
            metavar="last|best|none",
            help="Which judge keeps its weights: the last trained one, the one with the best held-out accuracy, or none.",
        ),
    ] = "last",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Removes weights and checkpoints of a run; asks first.

    Shows first what goes, how much that is, and what `stj run` would have to make again. Rows, scores and the report stay.
    """
    from stj.loop.cleaning import clean, planned_cleaning

    plan = planned_cleaning(run, keep)
    for line in plan.lines():
        show(line)
    if not plan.goes:
        return
    if not yes and not sys.stdin.isatty():
        raise ConfigError("nothing was removed: stdin is no terminal to ask on; pass --yes")
    if yes or typer.confirm("Remove?", default=False):
        show(clean(plan))
    else:
        show("nothing was removed")
