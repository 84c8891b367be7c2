"""The command line: `main` runs one command.

Exit codes: 0 done, 1 failed, 2 bad config or usage, 130 interrupted, 143 stopped by SIGTERM (stj/cli/signals.py). Results go
to stdout, logs to stderr.
"""

import logging
import sys
from collections.abc import Sequence

import typer

from stj.cli.signals import Ending, handle_signals
from stj.cli.streams import fail, fail_io, open_streams, start_of_line
from stj.cli.verbs import app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. An expected error is one line on stderr, never a traceback."""
    open_streams()
    form = f"{start_of_line()}%(asctime)s %(message)s"
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=form, datefmt="%H:%M:%S")
    words = sys.argv[1:] if arguments is None else arguments
    handle_signals(words[0] if words else None)
    ending = Ending() if arguments is None else None
    try:
        code = _run_command(words)
    except SystemExit as stopped:
        if not isinstance(stopped.code, int):
            raise
        code = stopped.code  # or Python would make it 120 if stdout is a terminal that was closed
    if ending:
        ending.set(code)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or fail_io(error)
        if ending:
            ending.set(code)
    return code


def _run_command(words: Sequence[str]) -> int:
    for word in words:
        if not _is_utf8(word):
            return fail(f"{word}: not UTF-8; rename the file or write the setting in UTF-8", 2)
    try:
        return int(typer.main.get_command(app).main(words, prog_name="stj", standalone_mode=False) or 0)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        message = " ".join(error.format_message().split())
        end = "" if message.endswith((".", "?")) else "."
        return fail(f"{message}{end} See `{context.command_path if context else 'stj'} --help`", error.exit_code)


def _is_utf8(word: str) -> bool:
    """Whether a word is text. Python reads bytes that are not UTF-8 as halves of surrogate pairs, which no library takes."""
    return not any("\ud800" <= character <= "\udfff" for character in word)
