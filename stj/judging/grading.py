"""Grades of single responses: what a caller asks for, and several rubrics in one figure.

`Judge.grade` in judge.py asks a model; `stj grade` in grade_file.py asks in a pass.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stj.errors import ConfigError
from stj.generate import Generate
from stj.prompts.grading import grade_prompt_of
from stj.rows import HELDOUT, Row
from stj.rubrics import Rubric, rubric
from stj.sources.dialogue import optional_text, text_of, turns_from, usable
from stj.stages.grade import RubricGrade, grade, rubric_grade
from stj.use_config import GradeConfig

_PARTS = 1000  # Steps of the total, from 0 to 1; each rubric moves the interval's ends by at most half of one.
_ROUNDING = 1e-12
_TAIL = 0.025  # Probability below the lower end of a 95% interval, and above the upper end.


@dataclass(frozen=True, kw_only=True)
class GradeRequest:
    """A response to grade by a rubric."""

    instruction: Any
    """One user message, or the turns of a dialogue, each with role and content."""
    response: str
    rubric: Rubric | str | Path
    """A rubric, the name of one in the library, or a file of one."""
    reference: str | None = None
    """A reference answer that the judge sees."""
    context: str | None = None
    """A context that the judge sees, such as documents that the response must be faithful to."""


class Total(NamedTuple):
    """The grades of a response by several rubrics in one figure."""

    total: float
    """Weighted mean over the rubrics, from 0 (each at the worst point) to 1 (each at the best point)."""
    interval: tuple[float, float]
    """The central 95% of the total, if each rubric's score is drawn from its distribution on its own."""


async def grade_response(request: GradeRequest, generate: Generate, config: GradeConfig) -> RubricGrade:
    """Grades a response with the model behind `generate`.

    Raises SourceError if a text has a wrong type. Raises ConfigError if there is no such rubric, or if the prompt does not show
    what it needs. Raises PromptTooLong, RequestFailed and EngineDied as `generate` does.
    """
    asked = given_rubric(request.rubric)
    check_rubrics([asked], config)
    row = _row(request)
    return rubric_grade(row if row.ended else await grade(row, generate, config, [asked]), asked)


def given_rubric(value: Rubric | str | Path) -> Rubric:
    """The rubric itself, or the one that a name or a file gives. Raises ConfigError if there is none."""
    return value if isinstance(value, Rubric) else rubric(str(value), "rubric")


def check_rubrics(rubrics: Sequence[Rubric], config: GradeConfig) -> None:
    """Raises ConfigError if a rubric needs what the words of the prompt do not show, or may not show for each response."""
    words = grade_prompt_of(config.prompt)
    for asked in rubrics:
        for name in ("context", "reference"):
            if name in asked.inputs and not words.shows(name):
                raise ConfigError(
                    f"rubric={asked.name}: needs a {name}, which the words of grade.prompt do not show: write {{{name}}} "
                    "there, or take another prompt"
                )
            if name not in asked.inputs and (lost := words.lost_with(name)):
                raise ConfigError(
                    f"rubric={asked.name}: needs no {name}, and for a response without one the words of grade.prompt lose the "
                    f"whole paragraph, with {{{min(lost)}}}: put {{{name}}} between blank lines, or let the rubric need it"
                )


def total_of(grades: Sequence[RubricGrade], weights: Sequence[float] = ()) -> Total | None:
    """The weighted mean of several rubrics; all weigh alike without weights. None if a rubric has no score, or there is none.

    Raises ConfigError if the weights are not one positive number for each rubric.
    """
    import numpy as np

    if not grades:
        return None
    weights = _relative(weights, len(grades))
    whole, mass = sum(weights), np.array([1.0])
    total = 0.0
    for given, weight in zip(grades, weights, strict=True):
        distribution = given.distribution
        if distribution is None:
            return None
        lowest, span = given.points[0], given.points[-1] - given.points[0]
        steps = np.zeros(round(_PARTS * weight / whole) + 1)
        for point, share in distribution.items():
            part = (point - lowest) / span
            total += weight / whole * part * share
            steps[round(part * (len(steps) - 1))] += share
        mass = np.convolve(mass, steps)
    low, high = np.searchsorted(np.cumsum(mass) / mass.sum(), (_TAIL, 1 - _TAIL - _ROUNDING))
    highest = max(1, len(mass) - 1)
    return Total(total, (float(low / highest), float(high / highest)))


def _relative(weights: Sequence[float], count: int) -> list[float]:
    """The weights as parts of the greatest one, since their sum may be more than a float holds."""
    if not weights:
        return [1.0] * count
    if len(weights) != count or not all(0 < weight < math.inf for weight in weights):
        raise ConfigError(f"weights={list(weights)}: must be {count} numbers above 0, one for each rubric")
    return [weight / max(weights) for weight in weights]


def _row(request: GradeRequest) -> Row:
    where = "the request"
    return usable(
        Row(
            id="response",
            position=0,
            task=HELDOUT,
            turns=turns_from(request.instruction, "instruction", where),
            response=text_of(request.response, "response", where),
            reference=optional_text(request.reference, "reference", where),
            context=optional_text(request.context, "context", where),
        )
    )
