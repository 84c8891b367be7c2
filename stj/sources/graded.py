"""Graded responses in the schemas of their publishers: what was asked, what was answered, by which rubric, and the true grade.

    Prometheus         orig_instruction, orig_response, orig_reference_answer, orig_criteria, orig_score1_description to
                       orig_score5_description, orig_score and orig_feedback (Feedback Collection, Feedback Bench)
    Prometheus's       a whole prompt as `instruction`, and gpt4_score, a list of grades, whose mean is the label; idx and
    benchmarks         response_source (the Vicuna and MT-Bench sets of prometheus-eval)
    Flow-Judge         inputs, a list of {name, content}, and output, one of these; criteria; rubric, a list of {score,
                       description}; score and feedback (its held-out sets)

Sources: prometheus-eval/Feedback-Collection, prometheus-eval/prometheus-eval (eval/benchmark) and
flowaicom/Flow-Judge-v0.1-binary-heldout, by their own descriptions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from stj.errors import SourceError
from stj.sources.dialogue import number_of, optional_text, text_of, wrong_type
from stj.sources.ids import id_of
from stj.sources.records import Fields

_DESCRIPTIONS = tuple(f"orig_score{point}_description" for point in range(1, 6))
_PROMETHEUS = ("orig_instruction", "orig_response", "orig_criteria", *_DESCRIPTIONS, "orig_score")
_BENCHMARK = ("instruction", "gpt4_score")
_FLOW = ("inputs", "output", "criteria", "rubric", "score")
GRADED_FIELDS = Fields(
    required=(),
    optional=tuple(
        dict.fromkeys(
            (
                *(*_PROMETHEUS, "orig_reference_answer", "orig_feedback"),
                *(*_BENCHMARK, "idx", "response_source", "category"),
                *(*_FLOW, "feedback", "id"),
            )
        )
    ),
)
"""The fields of a graded response, of which each record has some."""
_SECTIONS = {
    "instruction": "###The instruction to evaluate:",
    "response": "###Response to evaluate:",
    "reference": "###Reference Answer (Score 5):",
    "rubric": "###Score Rubrics:",
    "feedback": "###Feedback:",
}
_POINT = re.compile(r"^Score (\d{1,3}):", re.MULTILINE | re.ASCII)
_CONTEXT = "context"  # The name of Flow-Judge's input that the output must be faithful to.


@dataclass(frozen=True, kw_only=True)
class GradedRecord:
    """A response, the rubric that it is graded by, and its true grade."""

    id: str | None = None
    subset: str | None = None
    instruction: str
    response: str
    reference: str | None = None
    context: str | None = None
    criterion: str | None = None
    """The rubric's question, or its name if the record has no more."""
    descriptions: Mapping[int, str] = field(default_factory=dict)
    """What each point of the scale means, from the lowest to the highest; empty if the record does not say it."""
    label: float | None = None
    """The true grade; a fraction if it is the mean of several."""
    feedback: str | None = None
    """What was written with the true grade, without the grade."""


def is_published(values: Mapping[str, Any]) -> bool:
    """Whether a record is in the schema of Prometheus, of its benchmarks or of Flow-Judge; a null in it is still to be refused.

    Feedback Collection also has `instruction` and `output`, a whole prompt and a judge's answer: they are no response.
    """
    return _is_prometheus(values) or _has(values, _BENCHMARK) or _is_flow(values)


def is_of_schema(values: Mapping[str, Any], name: str) -> bool:
    """Whether a field belongs to the schema of a published record, as Flow-Judge's `score`, which is the true grade."""
    return any(_has(values, names) and name in names for names in (_PROMETHEUS, _BENCHMARK, _FLOW))


def graded_record(values: Mapping[str, Any], where: str) -> GradedRecord:
    """A record in one of the schemas above.

    Raises SourceError, with file and line, if a field is missing or has the wrong type, if a point of the scale has no
    description, or if the label is off the scale.
    """
    if _is_prometheus(values):
        return _checked(_prometheus(values, where), where)
    if _has(values, _BENCHMARK):
        return _checked(_benchmark(values, where), where)
    Fields(required=_FLOW).check([name for name, value in values.items() if value is not None], where)
    return _checked(_flow(values, where), where)


def _is_prometheus(values: Mapping[str, Any]) -> bool:
    return sum(values.get(name) is not None for name in _PROMETHEUS[:3]) > 1


def _is_flow(values: Mapping[str, Any]) -> bool:
    given = sum(values.get(name) is not None for name in _FLOW)
    return values.get("inputs") is not None and given >= len(_FLOW) - 1


def _has(values: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(values.get(name) is not None for name in names)


def _prometheus(values: Mapping[str, Any], where: str) -> GradedRecord:
    Fields(required=_PROMETHEUS).check([name for name, value in values.items() if value is not None], where)
    return GradedRecord(
        id=_id(values, where),
        instruction=text_of(values["orig_instruction"], "orig_instruction", where),
        response=text_of(values["orig_response"], "orig_response", where),
        reference=optional_text(values.get("orig_reference_answer"), "orig_reference_answer", where) or None,
        criterion=text_of(values["orig_criteria"], "orig_criteria", where),
        descriptions={point: text_of(values[name], name, where) for point, name in enumerate(_DESCRIPTIONS, start=1)},
        label=_grade(values["orig_score"], "orig_score", where),
        feedback=optional_text(values.get("orig_feedback"), "orig_feedback", where),
    )


def _benchmark(values: Mapping[str, Any], where: str) -> GradedRecord:
    parts = _sections(text_of(values["instruction"], "instruction", where), where)
    grades = values["gpt4_score"]
    if not isinstance(grades, Sequence) or isinstance(grades, str) or not grades:
        raise wrong_type(grades, "gpt4_score", "a list of grades", where)
    criterion, descriptions = _rubric_text(parts["rubric"], where)
    labels = [_grade(grade, "gpt4_score[]", where) for grade in grades]
    if off := [label for label in labels if not min(descriptions) <= label <= max(descriptions)]:
        raise SourceError(f"{where}: field 'gpt4_score[]' is {off[0]:g}, off the rubric's scale")  # A mean would hide it.
    named = [id_of(values[name], name, where) for name in ("idx", "response_source") if values.get(name) is not None]
    return GradedRecord(
        id=_id(values, where) or "/".join(named) or None,
        subset=optional_text(values.get("category"), "category", where),
        instruction=parts["instruction"],
        response=parts["response"],
        reference=parts["reference"] or None,
        criterion=criterion,
        descriptions=descriptions,
        label=fmean(labels),
    )


def _flow(values: Mapping[str, Any], where: str) -> GradedRecord:
    inputs = _named_texts(values["inputs"], "inputs", where)
    asked = [(name, text) for name, text in inputs if name != _CONTEXT]
    (_, response), *more = _named_texts([values["output"]], "output", where)
    assert not more, "one output was given"
    return GradedRecord(
        id=_id(values, where),
        instruction=asked[0][1] if len(asked) == 1 else "\n\n".join(f"{name}:\n{text}" for name, text in asked),
        response=response,
        context="\n\n".join(text for name, text in inputs if name == _CONTEXT) or None,
        criterion=text_of(values["criteria"], "criteria", where),
        descriptions=points_of(values["rubric"], where),
        label=_grade(values["score"], "score", where),
        feedback=optional_text(values.get("feedback"), "feedback", where),
    )


def _checked(record: GradedRecord, where: str) -> GradedRecord:
    """The record. Raises SourceError if a point has no description, or if the label is off the scale."""
    points = list(record.descriptions)
    if points and (points != list(range(points[0], points[0] + len(points))) or len(points) < 2):
        raise SourceError(f"{where}: the rubric describes the points {points}; they must be consecutive whole numbers")
    if empty := [point for point, text in record.descriptions.items() if not text.strip()]:
        raise SourceError(f"{where}: the rubric has no description of point {empty[0]}")
    if points and record.label is not None and not points[0] <= record.label <= points[-1]:
        raise SourceError(f"{where}: the label is {record.label:g}, off the rubric's scale {points[0]}-{points[-1]}")
    return record


def _sections(prompt: str, where: str) -> dict[str, str]:
    """The parts of Prometheus's prompt for one response. Raises SourceError unless each heading comes once, in order."""
    places = [prompt.find(heading) for heading in _SECTIONS.values()]
    if -1 in places or places != sorted(places) or any(prompt.count(heading) > 1 for heading in _SECTIONS.values()):
        wanted = ", ".join(f'"{heading}"' for heading in _SECTIONS.values())
        raise SourceError(f"{where}: field 'instruction' must have each of these headings once, in this order: {wanted}")
    ends = [*places[1:], len(prompt)]
    cut = zip(_SECTIONS.items(), places, ends, strict=True)
    return {name: prompt[place + len(heading) : end].strip() for (name, heading), place, end in cut}


def _rubric_text(text: str, where: str) -> tuple[str, dict[int, str]]:
    """The criterion and the points of "[criterion]", "Score 1: ..." and so on."""
    found = list(_POINT.finditer(text))
    if not found:
        raise SourceError(f"{where}: field 'instruction': its rubric has no line 'Score 1: ...'")
    ends = [*(match.start() for match in found[1:]), len(text)]
    descriptions = {int(match[1]): text[match.end() : end].strip() for match, end in zip(found, ends, strict=True)}
    if len(descriptions) < len(found):
        raise SourceError(f"{where}: field 'instruction': its rubric describes a point twice")
    return text[: found[0].start()].strip().removeprefix("[").removesuffix("]"), descriptions


def points_of(value: object, where: str) -> dict[int, str]:
    """The points of a list of {score, description}, from the lowest to the highest."""
    wanted = "a list of {score, description}, with whole and different scores"
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(point, Mapping) for point in value):
        raise wrong_type(value, "rubric", wanted, where)
    scores = [point.get("score") for point in value]
    if not all(type(score) is int for score in scores) or len(set(scores)) < len(scores):
        raise wrong_type(value, "rubric", wanted, where)
    described = {point["score"]: text_of(point.get("description"), "rubric[].description", where) for point in value}
    return dict(sorted(described.items()))


def _named_texts(value: object, name: str, where: str) -> list[tuple[str, str]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(part, Mapping) for part in value):
        raise wrong_type(value, name, "made of {name, content}", where)
    return [
        (text_of(part.get("name"), f"{name}.name", where), text_of(part.get("content"), f"{name}.content", where))
        for part in value
    ]


def _grade(value: object, name: str, where: str) -> float:
    """A grade: a number, or its digits. Raises SourceError for anything else."""
    return number_of(value, name, where)


def _id(values: Mapping[str, Any], where: str) -> str | None:
    return None if values.get("id") is None else id_of(values["id"], "id", where)
