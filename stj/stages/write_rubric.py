"""A rubric that the generator writes for an instruction, and its check: it must grade the better answer higher.

A rubric that cannot be read, or that does not tell the answers of the pair apart, is dropped, and `Row.ungraded` says why. The
pair stays: a judge of pairs needs no rubric.
"""

import re
from dataclasses import replace
from itertools import pairwise

from stj.config import WRITTEN, GradingConfig, JudgeConfig
from stj.errors import ConfigError
from stj.generate import Generate
from stj.prompts import WRITE_RUBRIC, fill
from stj.rows import Answer, Row, Turn
from stj.rubrics import SCALES, Rubric, rubric_of
from stj.stages.grade import ask_grade, missing_input
from stj.stages.runner import together

_MARKUP = r"[ \t*#_>-]{0,6}"
_CRITERION = re.compile(rf"^{_MARKUP}Criterion{_MARKUP}:{_MARKUP}(?P<text>[^\n]+)", re.IGNORECASE | re.MULTILINE)
_POINT = re.compile(rf"^{_MARKUP}Score[ ](?P<point>\d{{1,2}}){_MARKUP}:{_MARKUP}(?P<text>[^\n]+)", re.IGNORECASE | re.MULTILINE)


async def write_rubric(row: Row, generate: Generate, config: GradingConfig, judge: JudgeConfig) -> Row:
    """The row with the rubric that the generator writes for its instruction, or with the reason why it has none.

    Reasons: "rubric_truncated" (max_tokens cut it), "rubric_unparsed" (it is not in the prompt's format, or not whole),
    "rubric_not_higher" (the generator itself does not grade the better answer higher by it).
    """
    points = SCALES[config.scale]
    shown = {
        "instruction": row.instruction,
        "lowest": str(points[0]),
        "highest": str(points[-1]),
        "points": "\n".join(f"Score {point}: <one sentence>" for point in points),
    }
    written = await generate([Turn(role="user", content=fill(WRITE_RUBRIC, shown))], config.writing)
    if written.finish_reason == "length":
        return replace(row, ungraded="rubric_truncated")
    rubric = parse_rubric(written.text, config.scale)
    if rubric is None:
        return replace(row, ungraded="rubric_unparsed")
    if not await _grades_higher(row, generate, rubric, config, judge):
        return replace(row, ungraded="rubric_not_higher")
    return replace(row, rubrics=(rubric,))


def parse_rubric(text: str, scale: str) -> Rubric | None:
    """The rubric that a text holds: one criterion, and a description of each point of the scale; None if it is not whole.

    It is not whole if two points have the same description, or if a line between its lines would be lost.
    """
    criteria, found = list(_CRITERION.finditer(text)), list(_POINT.finditer(text))
    points = {int(match["point"]): match["text"].strip(" *_\t") for match in found}
    if len(criteria) != 1 or [int(match["point"]) for match in found] not in (list(SCALES[scale]), list(SCALES[scale])[::-1]):
        return None
    if len({description.casefold() for description in points.values()}) < len(points) or _has_more(text, [*criteria, *found]):
        return None
    values = {"criterion": criteria[0]["text"].strip(" *_\t"), "scale": scale, "points": points}
    try:
        return rubric_of(values, "a written rubric", WRITTEN)
    except ConfigError:  # a description of nothing, or a character that no setting holds
        return None


def _has_more(text: str, lines: list[re.Match[str]]) -> bool:
    """Whether there are words between these lines, as the second line of a description."""
    lines = sorted(lines, key=lambda line: line.start())
    return any(re.search(r"\w", text[line.end() : after.start()]) for line, after in pairwise(lines))


async def _grades_higher(row: Row, generate: Generate, rubric: Rubric, config: GradingConfig, judge: JudgeConfig) -> bool:
    """Whether the model that wrote it grades the better answer higher, greedily."""
    assert row.pair is not None, f"row {row.id} has no pair"
    if missing_input(row, row.pair.chosen, [rubric]) or missing_input(row, row.pair.rejected, [rubric]):
        return False
    answers: tuple[Answer, ...] = ("chosen", "rejected")
    greedy = judge.decoding.greedy()
    grades = await together(
        ask_grade(row, answer, rubric, generate, config.words, greedy, judge.parser, 0) for answer in answers
    )
    better, worse = (grade.score for grade in grades)
    return better is not None and worse is not None and better > worse
