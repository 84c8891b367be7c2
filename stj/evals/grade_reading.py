"""In which style and on which scale the recorded grades of a file are read.

Texts are read in one of the styles of stj/verdict/scales.py: the one that the user names, else the only one that fits more
than half of them. The scale is that of the row, else the one that the user gives, else the first usual one that holds all
labels. The last is a guess. Texts are read by it, but stored scores off it stay as they are.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from stj.errors import ConfigError, SourceError
from stj.evals.benchmarks.grades import NAME, GradeRow, Scale, fields_of, grade_rows, on_scale, scale_of
from stj.evals.benchmarks.unread import MOST_UNREAD
from stj.text import visible_line
from stj.verdict import GRADE_STYLES, Format, Verdict, distinct_verdicts, grade_format

_ENDS = ((0, 1), (1, 3), (1, 5), (0, 4), (1, 10), (0, 10), (1, 100), (0, 100))
USUAL_SCALES: tuple[Scale, ...] = tuple(tuple(range(low, high + 1)) for low, high in _ENDS)
"""The first of these scales that holds all labels is taken for theirs."""
_END = 60  # Characters of a text that no style fits.


@dataclass(frozen=True, kw_only=True)
class GradeReading:
    """How the grades of a file are read."""

    style: str | None
    """One of GRADE_STYLES; None if no text is read."""
    guessed: bool
    """Whether the style is not named, but the only one that fits more than half of the texts."""
    scale: Scale | None
    """The scale of the rows that name none; None if the user gives none, and no usual one holds all labels."""
    given: bool
    """Whether the user gives the scale."""

    def wording(self, row: GradeRow) -> Format | None:
        """The format in which the text of a row is read; None if it is not read."""
        scale = row.scale or self.scale
        return grade_format(self.style, scale) if self.style and scale else None

    def is_off(self, row: GradeRow) -> bool:
        """Whether a stored score, which counts as it is, lies off the scale that is guessed."""
        return row.scale is None and self.scale is not None and row.score is not None and not on_scale(row.score, self.scale)


@dataclass(frozen=True)
class _Fits:
    """The texts of a file in every style, as `distinct` reads them."""

    verdicts: dict[str, list[Verdict | None]]
    texts: int
    """Number of texts that are not empty."""
    end: str
    """The end of the first of them that has no grade in any style."""

    @property
    def only(self) -> str | None:
        """The style that fits most texts, if it fits more than half, and no other style reads any of them otherwise."""
        style, count = self.best()
        read = self.verdicts[style]
        otherwise = any(
            verdict not in (None, mine)
            for verdicts in self.verdicts.values()
            for verdict, mine in zip(verdicts, read, strict=True)
        )
        return None if otherwise or count <= MOST_UNREAD * self.texts else style

    def best(self) -> tuple[str, int]:
        """The style that fits most texts, and how many."""
        counts = {style: len(verdicts) - verdicts.count(None) for style, verdicts in self.verdicts.items()}
        style = max(counts, key=lambda style: counts[style])
        return style, counts[style]


def grade_reading(file: str, style: str | None, scale: str | None) -> GradeReading:
    """How to read a file, in the style and on the scale that the user gives.

    Raises SourceError if the file cannot be read, if no row has a label or a grade, or if texts must be read and no style
    fits them. Raises ConfigError if the style or the scale is unknown, if there is no text for a style, or if texts must be
    read and no usual scale holds all labels.
    """
    named, given = _known_style(style), _known_scale(scale)
    labels, texts, unread = _contents(file, given)
    if named and not texts:
        raise ConfigError(f"--format {named}: no row of {file} has a 'text'")
    usual = next((usual for usual in USUAL_SCALES if labels and all(on_scale(label, usual) for label in labels)), None)
    if unread and labels and not (given or usual):
        ends = f"from {min(labels):g} to {max(labels):g}"
        raise ConfigError(f"{file}: labels go {ends}: no usual scale; give --scale, as in --scale 1-5")
    reading = GradeReading(style=named, guessed=False, scale=given or usual, given=given is not None)
    return reading if named or not texts else _guessed(file, reading, needed=unread > 0)


def hint(file: str, reading: GradeReading) -> str:
    """What a user may do about texts without a grade in the style that was read."""
    style, count = _fits(file, reading).best()
    other = f"{count:,} have one in the format {style}: give --format {style}, or " if count and style != reading.style else ""
    return f"{other}give --scale LOW-HIGH if that is not their scale"


def _guessed(file: str, reading: GradeReading, *, needed: bool) -> GradeReading:
    """The reading with the only style that fits the texts. If none does, texts beside scores are not read."""
    fits = _fits(file, reading)
    if fits.only or not needed:
        return GradeReading(style=fits.only, guessed=fits.only is not None, scale=reading.scale, given=reading.given)
    style, count = fits.best()
    if count:
        of = f"{fits.texts:,} texts; {style} fits most, {count:,}: give --format {style}"
        raise SourceError(f"{file}: no format of grades alone fits more than half of {of}")
    raise SourceError(f'{file}: no format of grades ({", ".join(GRADE_STYLES)}) fits any text; one ends with "{fits.end}"')


def _contents(file: str, scale: Scale | None) -> tuple[Sequence[float], int, int]:
    """The two ends of the labels of rows without a scale; the number of texts; and that of texts without a score."""
    labels: list[float] = []
    labelled = grades = texts = unread = 0
    for row in grade_rows(file, scale):
        labelled += row.label is not None
        grades += row.score is not None or row.text is not None
        texts += row.text is not None
        unread += row.text is not None and row.score is None
        if row.label is not None and row.scale is None:
            labels = [min([row.label, *labels[:1]]), max([row.label, *labels[1:]])]
    if not labelled:
        raise SourceError(f"{file}: no row has a label: give the true grade as 'label'; the fields there are {fields_of(file)}")
    if not grades:
        wanted = "give it as 'score', or the judge's text as 'text'"
        raise SourceError(f"{file}: no row has a grade: {wanted}; the fields there are {fields_of(file)}")
    return labels, texts, unread


def _fits(file: str, reading: GradeReading) -> _Fits:
    verdicts: dict[str, list[Verdict | None]] = {style: [] for style in GRADE_STYLES}
    texts, end = 0, ""
    for row in grade_rows(file, reading.scale if reading.given else None):
        scale = row.scale or reading.scale
        if not row.text or not row.text.strip() or scale is None:
            continue
        texts += 1
        read = distinct_verdicts(row.text, [grade_format(style, scale) for style in GRADE_STYLES])
        for style, verdict in zip(GRADE_STYLES, read, strict=True):
            verdicts[style].append(verdict)
        if not any(read):
            end = end or visible_line(row.text.strip()[-_END:])
    return _Fits(verdicts, texts, end)


def _known_style(style: str | None) -> str | None:
    if style is None or style in GRADE_STYLES:
        return style
    close = difflib.get_close_matches(style, GRADE_STYLES, n=1)
    guess = f" (did you mean '{close[0]}'?)" if close else ""
    raise ConfigError(f"--format {style}: is no format of {NAME}{guess}; they can be in {', '.join(GRADE_STYLES)}")


def _known_scale(words: str | None) -> Scale | None:
    scale = scale_of(words) if words is not None else None
    if words is not None and scale is None:
        raise ConfigError(f"--scale {words}: is no scale; give two whole numbers, the lower first, as in --scale 1-5")
    return scale
