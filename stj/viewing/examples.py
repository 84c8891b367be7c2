"""Training examples as rows, so that the page shows them like judged rows: the prompt, and below it what is learned."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from stj.rows import TRAINING, Example, Judgment, Row, example_from_dict, rows_to_table
from stj.verdict import Label, other


def examples_as_rows(records: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A table of ROW_SCHEMA in memory: a run has some ten thousand examples."""
    return rows_to_table(_row(example_from_dict(record), place) for place, record in enumerate(records))


def _row(example: Example, place: int) -> Row:
    learned = _judgment(example, 0, example.winner, example.completion, example.thought)
    against = [_judgment(example, 1, other(example.winner), text, example.rejected_thought) for text in _rejected(example)]
    return Row(
        id=example.id,
        position=place,
        task=TRAINING,
        subset=example.kind,
        turns=example.messages,
        judgments=(learned, *against),
        kept=0,
    )


def _rejected(example: Example) -> list[str]:
    return [] if example.rejected is None else [example.rejected]


def _judgment(example: Example, index: int, verdict: Label, text: str, thought: str) -> Judgment:
    return Judgment(
        purpose="training",
        winner=example.winner,
        index=index,
        text=text,
        verdict=verdict,
        finish_reason="stop",
        output_tokens=0,
        thought=thought,
    )
