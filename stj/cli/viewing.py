"""The verbs that show rows: view in a browser, trace from source to model."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from stj.cli.app import (
    AsJson,
    check_directory_of,
    check_not_read,
    port_number,
    print_json,
    results_file,
    show_on_stderr,
    verb,
)
from stj.config_loader import load_annotate
from stj.errors import ConfigError
from stj.pair_fields import PairFields
from stj.text import show


@verb(
    "view",
    "stj view runs/mini",
    "stj view results.jsonl --pairs pairs.jsonl --out page.html",
    docs="evaluation",
)
def _view(
    place: Annotated[
        str,
        typer.Argument(
            metavar="RUN|RESULTS",
            help="The directory of a run, an evaluation or an artifact, or a file of results that `stj judge` wrote.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="fields.ROLE=NAME", help="The fields of --pairs, if they are others, as `stj judge` takes them."
        ),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The pairs behind RESULTS: their instructions, answers and known winners."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE.html", help="Write one page with up to 2,000 rows in it, and serve nothing."),
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="PORT", parser=port_number, help="The port to serve on; 0 takes a free one.")
    ] = 0,
) -> None:
    """Serves a local page to browse and filter rows.

    It shows answers side by side and judgments with their verdicts. Only this machine can open it. End it with Ctrl+C.
    """
    from stj.viewing.index import Index
    from stj.viewing.page import ONE_FILE_ROWS, one_file
    from stj.viewing.place import sources_of
    from stj.viewing.server import ViewServer

    check_directory_of(out)
    check_not_read(out, *(given for given in (place, pairs) if given and not Path(given).is_dir()))
    index = Index(sources_of(place, pairs, _fields(words or [], pairs)))
    if out:
        with results_file(out) as stream:
            stream.write(one_file(place, index))
        show_on_stderr(f"{min(index.rows, ONE_FILE_ROWS):,} of {index.rows:,} rows: {out}")
        return
    with ViewServer(place, index, port) as server:
        print(server.url, flush=True)
        show_on_stderr(f"{index.rows:,} rows; end with Ctrl+C")
        with suppress(KeyboardInterrupt):  # Ctrl+C is how it ends, not a failure.
            server.serve_forever()


def _fields(words: list[str], pairs: str | None) -> PairFields:
    """The fields of the file of pairs that settings name. Raises ConfigError for any other word."""
    for word in words:
        if not word.startswith(("fields.", "fields=")):
            raise ConfigError(f"{word}: of settings `stj view` takes the fields of --pairs alone, as fields.instruction=NAME")
        if pairs is None:
            raise ConfigError(f"{word}: there is no --pairs FILE; name it too, or leave this out")
    return load_annotate([], words).fields


@verb(
    "trace",
    "stj trace runs/mini pool.jsonl:12",
    "stj trace runs/mini row-0f3a5c21 --json",
    docs="evaluation",
)
def _trace(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The directory of a run, finished or not.")],
    row: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A row: its id in the run or in its source, or the file and line of the source as FILE:LINE.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Traces a row from its source to what was learned of it.

    Shows where it comes from, what each pass made of it and with which model and prompts, why it was dropped or learned, and
    what it cost. Needs neither the models nor Ray.
    """
    from stj.viewing.trace import trace
    from stj.viewing.trace_text import passages, plain

    found = trace(run, row)
    if as_json:
        print_json(plain(found))
        return
    for passage in passages(found):
        show(passage)
