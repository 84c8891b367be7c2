"""The format that the judgments of a file are read in: what the user says, else their judge's or benchmark's own, else a guess."""

import difflib
from collections.abc import Sequence

from stj.errors import ConfigError
from stj.evals.benchmarks.base import Benchmark
from stj.evals.benchmarks.recorded import read_recorded
from stj.evals.benchmarks.recorded_verdicts import recorded_judgments
from stj.evals.benchmarks.unread import Readings
from stj.verdict import FORMATS, Format

FORMAT_OPTION = "--format "
"""How a user sets the format of recorded judgments."""


def chosen_format(name: str | None, benchmark: Benchmark, answers: int | None = None) -> Format | None:
    """The format that the user names; None if none is named. `answers` is how many answers a judgment is about.

    Raises ConfigError if there is no such format, or if it is for another number of answers.
    """
    if name is None:
        return None
    kinds = (answers,) if answers else (1, 4) if benchmark.candidates else (2,)
    fitting = [known for known, wording in FORMATS.items() if wording.answers in kinds]
    if name in fitting:
        return FORMATS[name]
    close = difflib.get_close_matches(name, fitting, n=1)
    guess = f" (did you mean '{close[0]}'?)" if close else ""
    wrong = "is not for the judgments of" if name in FORMATS else "is no format of"
    raise ConfigError(f"--format {name}: {wrong} {benchmark.name}{guess}; its judgments can be in {', '.join(fitting)}")


def named_format(file: str, benchmark: Benchmark) -> Format:
    """The format of the judge that a file's first record names, else the benchmark's own."""
    return benchmark.recorded_wording(next(read_recorded(file))) or benchmark.wording


def guessed_format(file: str, readings: Sequence[Readings]) -> Format | None:
    """The one other format that fits all judgments, if no parser read a verdict in the format so far.

    Decisions that the file records do not count: `paper` reads them, whatever the texts are.
    """
    decided = any(judgment.decided for order in recorded_judgments(next(read_recorded(file))) for judgment in order)
    from_texts = [read for read in readings if read.parser != "paper" or not decided]
    guesses = {read.guess for read in from_texts}
    return guesses.pop() if len(guesses) == 1 else None
