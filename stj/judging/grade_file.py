"""`stj grade`: grades the responses of a file by one or several rubrics in a pass, and reports each result as it arrives.

All rubrics of a response are asked at once, so the engine computes what they share once: the prompt up to the rubric.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from stj.config import check_run_root
from stj.errors import PassFailed, SourceError
from stj.evals.benchmarks.unread import FEWEST_SILENT
from stj.evals.intervals import mean_ci95
from stj.judging.file_pass import FilePass, run_passes
from stj.judging.grading import check_rubrics, total_of
from stj.judging.identity import model_facts
from stj.models.locate import with_absolute_path
from stj.pair_fields import PairFields, key_without_defaults
from stj.passes.model_here import model_here
from stj.plan.context import given_responses_request
from stj.prompts.grading import grade_prompt_of
from stj.rows import Row
from stj.rubrics import Rubric, rubric
from stj.sources.answers import TASK, AnswerLabel, answers_identity, read_answer_labels, read_answers
from stj.stages.grade import RubricGrade, grade, rubric_grade
from stj.storage.artifacts import Artifact, Key, plain
from stj.storage.folder import Folder, absolute_path
from stj.text import Column, Table, visible_line
from stj.use_config import UseConfig

_MOST_ROWS = 20
"""Rubrics that have a row of their own in the table."""
TakeResult = Callable[[Mapping[str, Any]], None]


@dataclass(kw_only=True)
class RubricTally:
    """The scores by one rubric, counted."""

    points: tuple[int, ...]
    scores: Counter[int] = field(default_factory=Counter)
    unread: int = 0
    """Responses whose grades hold no score."""

    def add(self, result: RubricGrade) -> None:
        """Counts a result without an error."""
        if result.score is None:
            self.unread += 1
        else:
            self.scores[result.score] += 1

    def words(self) -> tuple[str, str, str]:
        """The mean with its 95% interval over responses, the number of scores, and that of responses without one."""
        lowest, span = self.points[0], self.points[-1] - self.points[0]
        if not self.scores:
            return "-", "0", f"{self.unread:,}"
        shares = [(score - lowest) / span for score in self.scores.elements()]
        mean = sum(shares) / len(shares)
        low, high = (lowest + span * end for end in mean_ci95(shares, outcomes=span))
        return f"{lowest + span * mean:.2f} [{low:.2f}, {high:.2f}]", f"{len(shares):,}", f"{self.unread:,}"


@dataclass(kw_only=True)
class GradeSummary:
    """What a file's grades come to."""

    tallies: dict[tuple[str, tuple[int, ...]], RubricTally] = field(default_factory=dict)
    """By the rubric's name and scale: rubrics of rows may share a name."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Responses that could not be graded, by reason."""
    graded: int = 0

    def add(self, row: Row, results: Sequence[RubricGrade]) -> None:
        """Counts a response."""
        if row.ended:
            self.dropped[row.dropped or "failed"] += 1
            return
        self.graded += 1
        for result in results:
            self.tallies.setdefault((result.rubric, result.points), RubricTally(points=result.points)).add(result)

    def _shown(self) -> dict[tuple[str, tuple[int, ...]], RubricTally]:
        """The tallies; if rows bring too many rubrics for a table, those of a scale together."""
        if len(self.tallies) <= _MOST_ROWS:
            return self.tallies
        sizes = Counter(points for _, points in self.tallies)
        together: dict[tuple[str, tuple[int, ...]], RubricTally] = {}
        for (_, points), tally in self.tallies.items():
            whole = together.setdefault((f"{sizes[points]:,} rubrics", points), RubricTally(points=points))
            whole.scores += tally.scores
            whole.unread += tally.unread
        return together

    def summary(self) -> Iterator[str | Table]:
        """The table of rubrics, and what could not be graded.

        Raises PassFailed, after the table, if the judge gave no score at all.
        """
        tallies = sorted(self._shown().items())
        rows = [(visible_line(name), f"{points[0]}-{points[-1]}", *tally.words()) for (name, points), tally in tallies]
        width = max((len(name) for name, *_ in rows), default=0)
        columns = (
            *(Column("", "rubric"), Column("", "scale"), Column("mean score", "[95%]")),
            *(Column("", "scores"), Column("no", "score")),
        )
        if rows:
            plain = [
                f"{name:<{width}}  {scale:<4}  {mean}, {count} scores, {unread} without one"
                for name, scale, mean, count, unread in rows
            ]
            yield Table(columns=columns, rows=rows, plain=plain)
        if self.dropped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.dropped.items()))
            yield f"not graded: {reasons} of {self.graded + self.dropped.total():,} responses"
        silent = [name for (name, _), tally in tallies if not tally.scores and tally.unread >= FEWEST_SILENT]
        if silent:
            raise PassFailed(
                f"{', '.join(map(visible_line, sorted(silent)))}: not one grade holds a score: the model may be damaged, or "
                "asked in words that it was never trained on. All results are kept"
            )


def grade_file(file: str, config: UseConfig, on_result: TakeResult, *, overwrite: bool = False) -> GradeSummary:
    """Grades the responses that are not graded yet, and reports every result: one for each response and rubric.

    The file is read and checked before anything starts. Results of an earlier start come first, so every start reports all
    results. New results follow as they are finished, failed ones last.

    Raises ConfigError if there is no rubric, SourceError if a row cannot be read, and the errors of `run_passes`.
    """
    rubrics = [rubric(packed, "rubric") for packed in config.rubric]
    labels = read_answer_labels(file, config.fields)
    asked = _all_rubrics(file, rubrics, config.fields)
    check_rubrics(asked, config.grade)
    _check_labels(file, labels, rubrics)
    run_root = config.run_root or f"runs/grade/{Path(file).stem}"
    check_run_root(run_root)
    folder, summary = Folder.at(run_root), GradeSummary()

    def report(_: FilePass, rows: Iterable[Row]) -> None:
        for row in rows:
            results = [rubric_grade(row, by) for by in row.rubrics or rubrics]
            summary.add(row, results)
            for line in _lines(row, results, labels[row.id], config.weights, config.model.label):
                on_result(line)

    requests = [given_responses_request(grade_prompt_of(config.grade.prompt), asked)]
    run_passes([_pass(file, config, rubrics, folder)], requests, folder, config, report, overwrite=overwrite)
    return summary


def _all_rubrics(file: str, rubrics: Sequence[Rubric], fields: PairFields) -> list[Rubric]:
    """The command's rubrics and those of the rows. Raises SourceError if a row has none, and the command names none."""
    asked = {by.digest: by for by in rubrics}
    for row in read_answers(file, fields):
        if not row.rubrics and not rubrics:
            raise SourceError(f"{file}: row {row.id!r} has no rubric: name one with rubric=NAME, or give each row its own")
        asked |= {by.digest: by for by in row.rubrics}
    return list(asked.values())


def _check_labels(file: str, labels: Mapping[str, AnswerLabel], rubrics: Sequence[Rubric]) -> None:
    """Raises SourceError if one label would be that of several rubrics, or if labels name none of them."""
    names = {by.name for by in rubrics}
    for row_id, given in labels.items():
        if given.label is not None and not isinstance(given.label, Mapping) and len(rubrics) > 1:
            raise SourceError(
                f"{file}: row {row_id!r} has one label for {len(rubrics)} rubrics: give an object of labels by the names of "
                "rubrics, or name one rubric"
            )
        if isinstance(given.label, Mapping) and names and names.isdisjoint(given.label):
            raise SourceError(f"{file}: row {row_id!r} has labels of {', '.join(given.label)}, and none of {', '.join(names)}")


def _pass(file: str, config: UseConfig, rubrics: Sequence[Rubric], folder: Folder) -> FilePass:
    model = model_here(with_absolute_path(config.model), config.engine, config.ray)
    key: Key = {
        "step": "grade_file",
        "model": {**model_facts(model), **config.engine.drawn_by(config.seed)},
        "file": answers_identity(file),
        **key_without_defaults({"fields": plain(config.fields)}),
        "grade": plain(config.grade.key),
        "prompts": dict(grade_prompt_of(config.grade.prompt).hashes),
        "rubrics": {by.name: by.digest for by in rubrics},
    }
    return FilePass(
        file=file,
        model=model,
        artifact=Artifact(folder / "grades", key),  # run_root may hold other files.
        read=partial(read_answers, absolute_path(file), config.fields),
        stages={TASK: [partial(grade, config=config.grade, rubrics=rubrics)]},
    )


def _lines(
    row: Row, results: Sequence[RubricGrade], label: AnswerLabel, weights: Sequence[float], model: str
) -> Iterator[dict[str, Any]]:
    """A line for each rubric, as `stj score --benchmark grades` reads it; with several, each has the response's total too."""
    given = {"id": row.id, "subset": label.subset, "model": model}
    whole: dict[str, Any] = {}
    if len(results) > 1:
        total = total_of(results, weights)
        whole = {"total": total and total.total, "total_ci95": total and list(total.interval)}
    for result in results:
        grade = result.plain()
        text = grade.pop("feedback")
        # A response that was not asked about has no text. One without a score has an empty text, in which no parser reads one.
        said = {"text": "" if result.score is None else text} if result.votes else {}
        scale = {"scale": f"{result.points[0]}-{result.points[-1]}"}
        known = {name: value for name, value in (given | {"label": label.of(result.rubric)}).items() if value is not None}
        yield known | scale | grade | said | whole
