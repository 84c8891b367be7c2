"""Responses with true scores as a benchmark of a judge: `stj eval MODEL grades:FILE`.

A response is graded by its own rubric, or else by `grading.rubric`, in the words of `grading.prompt`: greedily, or by the
majority of `votes` samples.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from stj.config import Config
from stj.evals.benchmarks.grades import FAILED, NAME, NO_LABEL, UNPARSED
from stj.evals.benchmarks.refs import BenchmarkRef
from stj.evals.grade_figures import Graded
from stj.evals.grade_groups import OVERALL, GroupFigures, ScoredGrade, figures_json, figures_table, group_figures, groups_table
from stj.rows import Row
from stj.sources.answers import labelled_answers, rubric_of_row
from stj.stages.grade import rubric_grade
from stj.text import Table
from stj.use_config import GradeConfig


def is_graded(ref: BenchmarkRef) -> bool:
    """Whether a benchmark holds responses to grade, and no pairs."""
    return ref.name == NAME


def graded_rows(ref: BenchmarkRef, config: Config) -> Iterator[Row]:
    """The responses of a benchmark, each with its rubric and true score, at most `heldout.limit`.

    Raises SourceError if a row cannot be read, or if it has no rubric and the config names none.
    """
    assert ref.place is not None, "require_place was called"
    return islice(_rows(ref.place, config), config.heldout.limit)


def grading_of(config: Config) -> GradeConfig:
    """How a judge grades in an evaluation."""
    decoding, parser = config.heldout.decoding, config.judge.parser
    prompt = config.grading.prompt
    return GradeConfig(prompt=prompt, parser=parser, votes=config.votes, decoding=decoding, aggregate="majority")


def grading_key(config: Config) -> dict[str, Any]:
    """The settings that decide which grades exist, as JSON values."""
    by = config.grading.key
    return {"rubric": by["rubric"], "prompt": by["prompt"]}


@dataclass(frozen=True, kw_only=True)
class GradedEvaluation:
    """A judge's grades against the true scores."""

    judged: int
    unjudged: dict[str, int]
    """Responses that are not scored, by reason."""
    groups: dict[str, GroupFigures]
    """The figures of all responses, of each rubric and of each subset; none if nothing was scored."""

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "GradedEvaluation":
        """The figures of the rows of this benchmark among these."""
        unjudged: Counter[str] = Counter()
        grades: list[ScoredGrade] = []
        for row in rows:
            if row.task != NAME:
                continue
            grade = rubric_grade(row, row.rubrics[0])
            if row.label is None or grade.error or grade.score is None:
                unjudged[NO_LABEL if row.label is None else row.dropped or (FAILED if grade.error else UNPARSED)] += 1
                continue
            named = (("rubric", grade.rubric), ("subset", row.subset))
            groups = tuple(f"{kind}/{name}" for kind, name in named if name is not None)
            scored = Graded(float(grade.score), row.label)
            grades.append(ScoredGrade(graded=scored, groups=groups, characters=len(row.response or "")))
        return cls(judged=len(grades), unjudged=dict(sorted(unjudged.items())), groups=group_figures(grades) if grades else {})

    def plain(self) -> dict[str, Any]:
        """The figures as JSON values."""
        groups = {name: figures_json(group) for name, group in self.groups.items()}
        unjudged = sum(self.unjudged.values())
        return {"judged": self.judged, "unjudged": unjudged, "unjudged_by_reason": self.unjudged, "groups": groups}

    def shown(self) -> Sequence[str | Table]:
        """The figures for a reader."""
        reasons = ", ".join(f"{why} {count:,}" for why, count in self.unjudged.items())
        lines = [f"unjudged: {sum(self.unjudged.values()):,}{f' ({reasons})' if reasons else ''}"]
        if not self.groups:
            return lines
        return [figures_table(NAME, self.groups[OVERALL]), *lines, *groups_table(self.groups)]


def without_figures(evaluation: GradedEvaluation) -> str | None:
    """Why a judge's grades say nothing; None if they say something."""
    reasons = ", ".join(f"{why} {count:,}" for why, count in evaluation.unjudged.items())
    return None if evaluation.judged else f"{NAME}: no response has both a grade and a true score ({reasons or 'no rows'})"


def _rows(place: str, config: Config) -> Iterator[Row]:
    for where, row, label in labelled_answers(place, NAME):
        by = rubric_of_row(row, config.grading.default_rubric, where)
        yield replace(row, id=f"{NAME}/{row.id}", task=NAME, rubrics=(by,), label=label.on_scale(by, where))
