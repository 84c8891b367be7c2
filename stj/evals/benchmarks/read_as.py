"""The format in which the judgments of a file are read: the named one, else that of their judge or benchmark, else a guess."""

import difflib
from collections.abc import Sequence

from stj.errors import ConfigError
from stj.evals.benchmarks.asked import without_nulls
from stj.evals.benchmarks.base import Benchmark, SourceRecord
from stj.evals.benchmarks.recorded import read_recorded, wording_of
from stj.evals.benchmarks.recorded_verdicts import RecordedJudgment, recorded_judgments
from stj.evals.benchmarks.unread import Readings
from stj.verdict import FORMATS, RATING, Format

FORMAT_REMEDY = "give --format {}"
"""How a user sets the format of recorded judgments in `stj score`."""


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
    """The format of the judge or the prompt that a file's first record names, else the benchmark's own; of ratings, theirs."""
    record = _first(file)
    rated = "ratings" in record.values if benchmark.candidates else any(judgment.ratings for judgment in _judgments(record))
    return RATING if rated else wording_of(record, benchmark)


def guessed_format(file: str, benchmark: Benchmark, readings: Sequence[Readings]) -> Format | None:
    """The one other format that fits all judgments, if no parser read a verdict in the format so far.

    Decisions that the file records do not count: `paper` reads them, whatever the texts are.
    """
    guesses = {read.guess for read in readings if read.parser != "paper"} or {read.guess for read in readings}
    if len(guesses) > 1 or None in guesses:
        return None
    read_otherwise = any(read.unread < read.judgments for read in readings)
    return None if read_otherwise and not _has_decisions(file, benchmark) else guesses.pop()


def _has_decisions(file: str, benchmark: Benchmark) -> bool:
    """Whether a file's first record holds decisions beside the texts."""
    return not benchmark.candidates and any(judgment.decided for judgment in _judgments(_first(file)))


def _judgments(record: SourceRecord) -> list[RecordedJudgment]:
    first, second = recorded_judgments(record)
    return [*first, *second]


def _first(file: str) -> SourceRecord:
    return without_nulls(next(read_recorded(file)))
