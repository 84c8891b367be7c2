"""Training examples as rows, so that the page shows them like judged rows: the prompt, and below it what is learned."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from stj.rows import TRAINING, Example, Grade, Judgment, Row, example_from_dict, rows_to_table
from stj.verdict import Label, other


def examples_as_rows(records: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A table of ROW_SCHEMA in memory: a run has some ten thousand examples."""
    return rows_to_table(_row(example_from_dict(record), place) for place, record in enumerate(records))


def _row(example: Example, place: int) -> Row:
    row = Row(id=example.id, position=place, task=TRAINING, subset=example.kind, turns=example.messages)
    if example.winner is None:
        return replace(row, grades=(_grade(example),), kept_grades=0)
    learned = _judgment(example.winner, 0, example.winner, example.completion, example.thought)
    wrong = other(example.winner)
    against = [_judgment(example.winner, 1, wrong, text, example.rejected_thought) for text in _rejected(example)]
    return replace(row, judgments=(learned, *against), kept=0)


def _rejected(example: Example) -> list[str]:
    return [] if example.rejected is None else [example.rejected]


def _judgment(winner: Label, index: int, verdict: Label, text: str, thought: str) -> Judgment:
    return Judgment(
        purpose="training",
        winner=winner,
        index=index,
        text=text,
        verdict=verdict,
        finish_reason="stop",
        output_tokens=0,
        thought=thought,
    )


def _grade(example: Example) -> Grade:
    return Grade(
        rubric="",
        answer="response",
        index=0,
        asked="",
        text=example.completion,
        score=example.score,
        finish_reason="stop",
        output_tokens=0,
        thought=example.thought,
    )
