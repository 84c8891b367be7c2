"""The verb by which people label pairs: annotate."""

from typing import Annotated

import typer

from stj.cli.app import port_number, verb
from stj.cli.words import split_settings
from stj.config_loader import load_annotate

_KEYS = """\
Keys of the page:
  1, A, left arrow     the first response is better
  2, B, right arrow    the second one is
  0, T / U             a tie / unsure
  Z, Backspace / N     back to the pair before / on to the next without a label
"""


@verb(
    "annotate",
    "stj annotate pairs.jsonl",
    "stj annotate pairs.jsonl name=Ada out=labels.jsonl limit=200 --port 8080",
    about=_KEYS,
    docs="annotating",
)
def _annotate(
    pairs: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS",
            help="A file, or a directory of files: instruction or prompt; response_a and response_b, or chosen and rejected; "
            "if known, id and subset. Other names: fields.instruction=NAME.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONF.yaml", help="Config files for labels: AnnotateConfig in docs/settings.md."),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; the default is only this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", parser=port_number, help="The port to serve on; 0 takes a free one.")
    ] = 0,
) -> None:
    """Serves a local page to label pairs blind, by keyboard.

    Each label is a line of out=FILE.jsonl, which several people can fill. The same command resumes. End it with Ctrl+C.
    """
    from stj.annotating.annotate import annotate

    annotate(pairs, load_annotate(*split_settings(words or [])), host, port)
