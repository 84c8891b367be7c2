"""The verb that publishes: export."""

from typing import Annotated

import typer

from stj.cli.app import show_on_stderr, verb


@verb(
    "export",
    "stj export runs/mini my-judge",
    "stj export runs/mini hub:my-org/my-judge",
    "stj export runs/mini hub:my-org/my-pairs --pairs",
    docs="publishing",
)
def _export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run, of which the last judge is taken; or one of its models, or any other, as elsewhere."
        ),
    ],
    dest: Annotated[
        str, typer.Argument(metavar="DEST", help="A new directory, or hub:org/name, a new or empty repository of the hub.")
    ],
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Of a run: publish the judged training pairs as a data set, and no model.")
    ] = False,
) -> None:
    """Publishes a judge with its card: weights, tokenizer, template.

    Nothing is overwritten, and what is not complete never appears.
    """
    from stj.publishing.export import export_model
    from stj.publishing.pairs import export_pairs

    print(export_pairs(model, dest) if pairs else export_model(model, dest, show_on_stderr))
