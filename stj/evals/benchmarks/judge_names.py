"""Whose judgments a file holds. The judgments of several judges are not pooled: their mean is nobody's score."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.base import SourceRecord
from stj.sources.truth import JUDGE_FIELDS

RESULT_FIELDS = ("model", "prompt")
"""Fields that name the judge of a line of `stj judge`. In other files `model` is the model under judgment."""

_NAMES = (*JUDGE_FIELDS, *RESULT_FIELDS)
_IN_NAME = re.compile(r"(judge_name|judge_model)=([^,]+?)(?=,|\.[a-z]+(?:\.gz)?$)")  # JudgeBench's names of files
_EVALUATORS = "evaluators"  # LLMBar's folder of evaluators/MODEL/METHOD/result.json


class JudgeNames:
    """The names of the judge in the rows so far."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def check(self, record: SourceRecord) -> None:
        """Raises SourceError if the row names another judge than the rows before it."""
        for field, name in (*_in_path(record.origin), *_in_row(record.values)):
            before = self._names.setdefault(field, name)
            if name != before:
                raise SourceError(
                    f"{record.where}: {field} is {name[:60]!r}, and {before[:60]!r} in an earlier row: the judgments of "
                    "several judges are not pooled; give the file or folder of one judge"
                )


def _in_row(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field in _NAMES if "votes" in values else JUDGE_FIELDS:
        if field in values:
            yield f"field '{field}'", _name(values[field])
    if isinstance(games := values.get("judgments"), list):
        for game in games:
            judgment = game.get("judgment") if isinstance(game, dict) else None
            if isinstance(judgment, dict) and judgment.get("judge_model") is not None:
                yield "field 'judgments[].judgment.judge_model'", _name(judgment["judge_model"])


def _name(value: object) -> str:
    return str(value[0] if isinstance(value, list) and value else value)


@lru_cache(maxsize=64)
def _in_path(origin: str) -> tuple[tuple[str, str], ...]:
    path = PurePath(origin)
    named = tuple((f"{field} in the file's name", name) for field, name in _IN_NAME.findall(path.name))
    if _EVALUATORS not in path.parts:
        return named
    below = path.parts[path.parts.index(_EVALUATORS) + 1 : -1]
    return (*named, ("the folder in 'evaluators'", "/".join(below))) if below else named
