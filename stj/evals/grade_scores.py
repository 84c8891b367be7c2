"""`stj score FILE --benchmark grades`: any judge's recorded grades against labels. Needs no model and no Ray.

The score of a row is its `score`, else the grade that a parser reads from its `text`. If both are there, the score stands, and
the text is compared with it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.grades import NAME, OFF_SCALE, UNPARSED, GradeRow, grade_rows, scale_words
from stj.evals.benchmarks.unread import MOST_UNREAD, WARNED_UNREAD
from stj.evals.grade_figures import Graded
from stj.evals.grade_groups import OVERALL, GroupFigures, ScoredGrade, figures_json, figures_table, group_figures, groups_table
from stj.evals.grade_reading import GradeReading, grade_reading, hint
from stj.evals.table import percent
from stj.text import Table
from stj.verdict import PARSERS, Parser, grade_format, parse, rating

_HEADLINE: Parser = "distinct"


@dataclass(frozen=True, kw_only=True)
class GradeScores:
    """The scores of a file of grades, as one of the parsers reads it."""

    parser: Parser | None
    """None if no text is read: all scores are stored."""
    judged: int
    """Number of rows with a grade and a label."""
    unjudged: dict[str, int]
    """Number of other rows, by reason."""
    missing: int
    """Number of those whose grade was asked for, but cannot be read or is off the scale."""
    off_scale: int
    """Number of stored scores off a scale that is only guessed; they count as they are."""
    as_stored: float | None
    """Share of equal grades, among the rows with a score and a text that holds a grade; None if there are none."""
    as_stored_rows: int
    """Number of these rows."""
    groups: dict[str, GroupFigures]
    """The figures of all rows, of each rubric and of each subset; none if more than half of the grades are missing."""

    @property
    def is_warned_of(self) -> bool:
        """Whether too many grades are missing to give scores without a warning."""
        return self.missing > WARNED_UNREAD * (self.judged + self.missing)


def score_grades(
    file: str, parser: Parser | None, style: str | None, scale: str | None
) -> tuple[dict[str, Any], list[str | Table]]:
    """The scores as one JSON object, and as tables and lines for a reader; by every parser if none is named.

    Raises SourceError if the file cannot be scored, or if more than half of its grades cannot be read. Raises ConfigError if
    the style or the scale is unknown, or does not suit the file.
    """
    reading = grade_reading(file, style, scale)
    parsers: tuple[Parser | None, ...] = (parser,) if parser else PARSERS
    read = {name: _scores(file, reading, name) for name in (parsers if reading.style else (None,))}
    first = read[parser or _HEADLINE] if reading.style else read[None]
    if not first.judged and not first.missing:
        reasons = ", ".join(f"{why} {count:,}" for why, count in first.unjudged.items())
        raise SourceError(f"{file}: no row has both a grade and a label ({reasons})")
    if not first.groups:
        raise SourceError(f"{file}: {_shortfall(file, reading, first)}")
    return _json(file, reading, first, read), list(_items(file, reading, first, read))


def _scores(file: str, reading: GradeReading, parser: Parser | None) -> GradeScores:
    unjudged: Counter[str] = Counter()
    grades: list[ScoredGrade] = []
    same: list[bool] = []
    off = 0
    for row in _rows(file, reading):
        read = _read(row, reading, parser)
        if row.score is not None and read is not None:
            same.append(read == row.score)
        score = read if row.score is None else row.score
        off += reading.is_off(row)
        if row.unscored or score is None or row.label is None:
            unjudged[row.unscored or UNPARSED] += 1
        else:
            grades.append(ScoredGrade(graded=Graded(score, row.label), groups=row.groups, characters=row.characters))
    missing = unjudged[UNPARSED] + unjudged[OFF_SCALE]
    enough = bool(grades) and missing <= MOST_UNREAD * (len(grades) + missing)
    return GradeScores(
        parser=parser,
        judged=len(grades),
        unjudged={why: count for why, count in sorted(unjudged.items()) if count},
        missing=missing,
        off_scale=off,
        as_stored=fmean(same) if same else None,
        as_stored_rows=len(same),
        groups=group_figures(grades) if enough else {},
    )


def _rows(file: str, reading: GradeReading) -> Iterator[GradeRow]:
    return grade_rows(file, reading.scale if reading.given else None)


def _read(row: GradeRow, reading: GradeReading, parser: Parser | None) -> float | None:
    """The grade that a parser reads from a row's text; None if it reads none."""
    wording = reading.wording(row)
    return rating(parse(row.text, wording, parser)) if parser and wording and row.text is not None else None


def _shortfall(file: str, reading: GradeReading, scores: GradeScores) -> str:
    """How many grades are missing, why, and what to do."""
    unparsed, off = (scores.unjudged.get(why, 0) for why in (UNPARSED, OFF_SCALE))
    of = f"{scores.judged + scores.missing:,} grades"
    whose = f"{scores.parser}: " if scores.parser else ""
    if not unparsed:
        return f"{whose}{off:,} of {of} are off the scale; give --scale LOW-HIGH for another"
    if not reading.style:
        return f"{unparsed:,} of {of} are votes without a score{f', {off:,} are off the scale' if off else ''}"
    scale = f" on the scale {scale_words(reading.scale)}" if reading.scale else ""
    beside = f", and {off:,} are off the scale" if off else ""
    return f"{whose}{unparsed:,} of {of} cannot be read in the format {reading.style}{scale}{beside}; {hint(file, reading)}"


def _json(file: str, reading: GradeReading, first: GradeScores, read: Mapping[Parser | None, GradeScores]) -> dict[str, Any]:
    return {
        "file": file,
        "benchmark": NAME,
        "format": reading.style,
        "format_guessed": reading.guessed,
        "scale": scale_words(reading.scale) if reading.scale else None,
        "scale_guessed": reading.scale is not None and not reading.given,
        "parser": first.parser,
        **_scores_json(file, reading, first),
        **{scores.parser: _scores_json(file, reading, scores) for scores in read.values() if scores.parser},
    }


def _scores_json(file: str, reading: GradeReading, scores: GradeScores) -> dict[str, Any]:
    counts = {"judged": scores.judged, "unjudged": sum(scores.unjudged.values()), "unjudged_by_reason": scores.unjudged}
    if not scores.groups:
        return {"error": _shortfall(file, reading, scores), **counts}
    return {
        **({"warning": _shortfall(file, reading, scores)} if scores.is_warned_of else {}),
        **counts,
        "off_scale": scores.off_scale,
        "as_stored": scores.as_stored,
        "as_stored_rows": scores.as_stored_rows,
        "groups": {name: figures_json(group) for name, group in scores.groups.items()},
    }


def _items(
    file: str, reading: GradeReading, first: GradeScores, read: Mapping[Parser | None, GradeScores]
) -> Iterator[str | Table]:
    for scores in read.values():
        if scores.groups:
            yield figures_table(f"{NAME}, {scores.parser} parser" if scores.parser else NAME, scores.groups[OVERALL])
        yield "\n".join([*_lines(file, reading, scores), ""])
    yield from groups_table(first.groups)
    yield from _how_read(reading, first)


def _lines(file: str, reading: GradeReading, scores: GradeScores) -> Iterator[str]:
    """How many rows are not scored, and why; and what else to know of the scores by one parser."""
    reasons = ", ".join(f"{why} {count:,}" for why, count in scores.unjudged.items())
    yield f"unjudged: {sum(scores.unjudged.values()):,}{f' ({reasons})' if reasons else ''}"
    if scores.as_stored is not None:
        yield f"as stored: {percent(scores.as_stored)}% of {scores.as_stored_rows:,} grades in texts beside a score"
    if not scores.groups:
        yield f"{NAME}: no score by {_shortfall(file, reading, scores)}"
    elif scores.is_warned_of:
        yield f"warning: {NAME}, {_shortfall(file, reading, scores)}"


def _how_read(reading: GradeReading, scores: GradeScores) -> Iterator[str]:
    if reading.style and reading.scale:
        form = grade_format(reading.style, reading.scale).form
        why = ": guessed, because it fits the texts; --format sets another" if reading.guessed else ""
        yield f"format: {reading.style}, {form}{why}"
    if reading.scale and not reading.given and (reading.style or scores.off_scale):
        scale = scale_words(reading.scale)
        yield f"scale: {scale}: guessed, because it holds all labels; --scale sets another"
        if scores.off_scale:
            yield f"scores off this scale: {scores.off_scale:,}, which count; with --scale {scale} they do not"
