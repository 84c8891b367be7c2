"""The command itself, and what its verbs share: arguments, options, output."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO, TypeVar

import typer

from stj import __version__
from stj.cli.help import ABOUT, HELP
from stj.cli.words import Verb, Verbs, split_settings
from stj.errors import ConfigError
from stj.storage.folder import explain_write_failure
from stj.text import Table, json_text, show

_LAST_PORT = 65535
_WIDEST_HELP = 100  # columns; longer lines of help are hard to read
app = typer.Typer(
    cls=Verbs,
    help=HELP,
    epilog=ABOUT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": _WIDEST_HELP, "help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _stj(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def whole_number(word: str | int) -> int:
    """The number in a word; a default stays as it is. Raises BadParameter."""
    if not str(word).isdecimal():
        raise typer.BadParameter(f"'{word}' is not a whole number, 0 or more.")
    return int(word)


def port_number(word: str | int) -> int:
    """The number of a port, or a default as it is. Raises BadParameter."""
    if (port := whole_number(word)) > _LAST_PORT:
        raise typer.BadParameter(f"{port} is no port; the last is {_LAST_PORT}.")
    return port


Conf = Annotated[
    list[str],
    typer.Argument(
        metavar="CONF.yaml",
        help="Config files, merged from left to right. conf:NAME is one that stj brings, such as conf:mini.",
    ),
]
UseConf = Annotated[
    list[str] | None,
    typer.Argument(metavar="CONF.yaml", help="Config files for a judge in use: UseConfig in docs/settings.md."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show all columns of a table that is wider than the terminal.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the phases, what would be reused, and the plan; start nothing.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Redo phases that were made with other settings.")]
RedoJudgments = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Redo what was judged with other settings. Rows that an edited FILE keeps are not judged again."
    ),
]
MODEL_HELP = "A directory, a URI, package:// and a path inside stj, a model's id on the hub, or a .yaml file of its settings."
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help=f"{MODEL_HELP} --model MODEL is the same.",
    ),
]
CalibrationFile = Annotated[
    str | None, typer.Option("--calibration", metavar="FILE", help="What `stj calibrate` wrote for this judge; with --risk.")
]
Risk = Annotated[
    float | None,
    typer.Option("--risk", metavar="SHARE", help="Abstain so that at most this share of the answered pairs is wrong."),
]
Confidence = Annotated[
    float,
    typer.Option("--confidence", metavar="PROBABILITY", help="How sure the risk must be kept, over calibrations."),
]
_Function = TypeVar("_Function", bound=Callable[..., None])


def verb(name: str, *examples: str, docs: str, about: str = "", app: typer.Typer = app) -> Callable[[_Function], _Function]:
    """Registers a function as a verb, with its examples and where to read more."""
    lines = [f"Example{'s' if len(examples) > 1 else ''}:", *(f"  {example}" for example in examples)]
    pages = ", ".join(f"docs/{page}.md" for page in docs.split())
    epilog = "\n".join([*lines, "", *([about] if about else []), f"Read more: {pages}", ""])
    return app.command(name, cls=Verb, epilog=epilog)


def files_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The config files among the words, at least one, and the settings. Raises ConfigError."""
    files, overrides = split_settings(words)
    if not files:
        raise ConfigError("no config file given; try conf:mini")
    return files, overrides


def print_json(value: object) -> None:
    """Prints a value as JSON on stdout."""
    print(json_text(value, sys.stdout, indent=1))


def check_directory_of(out: str | None) -> None:
    """Raises ConfigError if `--out` is a directory, or if its directory does not exist."""
    if out and Path(out).is_dir():
        raise ConfigError(f"--out {out}: a directory; name a file")
    if out and not Path(out).absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: the directory {Path(out).absolute().parent} does not exist")


def check_not_read(out: str | None, *inputs: str | None) -> None:
    """Raises ConfigError if `--out` is a file that the command reads, or lies in a directory of which it reads every file."""
    place = Path(os.path.realpath(out)) if out else None
    for given in filter(None, inputs):
        if place and Path(os.path.realpath(os.path.expanduser(given))) in (place, place.parent):
            raise ConfigError(f"--out {out}: the command reads {given}, and would write over it or into it; name another file")


@contextmanager
def results_file(path: str) -> Iterator[TextIO]:
    """A file to write results to. Raises StorageFailed if a disk is full, also when the file is closed."""
    with explain_write_failure(path), open(path, "w", encoding="utf-8") as stream:
        yield stream


@contextmanager
def finished_file(path: str) -> Iterator[TextIO]:
    """A file to write, which appears under its name only if all of it was written. A pipe or a device is written at once.

    Raises StorageFailed if a disk is full.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with results_file(path) as stream:
            yield stream
        return
    place = Path(os.path.realpath(path))  # What a link leads to is replaced, not the link.
    temporary = place.with_name(f".stj-{os.getpid()}.tmp")
    try:
        with results_file(str(temporary)) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        with explain_write_failure(path):
            temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def print_row(row: object, stream: TextIO) -> None:
    """Prints a value as one line of JSON, at once."""
    print(json_text(row, stream), file=stream, flush=True)


def show_on_stderr(item: str | Table, *, wide: bool = False) -> None:
    """Shows a line or a table where logs and progress appear."""
    show(item, sys.stderr, wide=wide)
