"""The verbs of the small world."""

from pathlib import Path
from typing import Annotated

import typer

from stj.cli.app import app, verb, whole_number
from stj.cli.help import MINI_HELP
from stj.cli.words import VerbGroup
from stj.errors import ConfigError

_mini = typer.Typer(cls=VerbGroup, epilog=MINI_HELP, help="Builds parts of the small world.", rich_markup_mode=None)


@verb("build-seed", "stj mini build-seed seed_model --seed 1", docs="method", app=_mini)
def _build_seed(
    out: Annotated[str, typer.Argument(metavar="DIR", help="The directory to write the model to.")],
    seed: Annotated[int, typer.Option(metavar="N", parser=whole_number, help="The seed of all randomness.")] = 0,
    thinking: Annotated[
        bool, typer.Option("--thinking", help="Teach the seed model that stj carries to think, in about a minute.")
    ] = False,
    grading: Annotated[
        bool, typer.Option("--grading", help="Teach the seed model that stj carries to grade, in some minutes.")
    ] = False,
) -> None:
    """Trains the small world's seed model from scratch, or a version of it that thinks or grades."""
    from stj.mini.seed import build_grading_seed, build_seed, build_thinking_seed

    if thinking and grading:
        raise ConfigError("--thinking and --grading: give one of them")
    (build_thinking_seed if thinking else build_grading_seed if grading else build_seed)(Path(out), seed=seed)


app.add_typer(_mini, name="mini")
