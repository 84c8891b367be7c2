"""The verb that makes one model of two: merge."""

from typing import Annotated

import typer

from stj.cli.app import MODEL_HELP, verb
from stj.cli.words import split_settings
from stj.config import ModelConfig
from stj.config_loader import load_merge, load_model
from stj.text import show


@verb(
    "merge",
    "stj merge runs/mini/iteration_2/model runs/mini/iteration_3/model merged",
    "stj merge PAIRWISE ABSOLUTE merged weight=0.3",
    docs="training",
)
def _merge(
    first: Annotated[str, typer.Argument(metavar="A", help=MODEL_HELP)],
    second: Annotated[str, typer.Argument(metavar="B", help="The other model, trained from the same base.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new directory of this machine.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="CONF.yaml", help="Config files for a merge: MergeConfig in docs/settings.md.")
    ] = None,
) -> None:
    """Merges two models: each weight is the mean of both, weighted.

    The result is a model like any other. Only its weights are new; all else is A's, and must be the same in B.
    """
    from stj.train.merge import merge

    config = load_merge(*split_settings(words or []))
    merged = merge(load_model(first, ModelConfig()), load_model(second, ModelConfig()), out, config)
    show(merged.line())
