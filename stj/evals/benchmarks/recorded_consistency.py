"""Recorded judgments that contradict themselves: within a text, and in cycles among the models whose answers were judged."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from stj.evals.benchmarks import mtbench
from stj.evals.benchmarks.asked import without_nulls
from stj.evals.benchmarks.base import Benchmark, SourceRecord
from stj.evals.benchmarks.recorded import read_recorded
from stj.evals.benchmarks.recorded_verdicts import Judgments, ReadAs, recorded_judgments
from stj.evals.consistency import Consistency
from stj.evals.cycles import vote_balance
from stj.sources.ids import numbered
from stj.thoughts import answer_of

_MODELS = (("model_1", "model_2"), ("model_a", "model_b"))


def recorded_consistency(file: str, benchmark: Benchmark, read_as: ReadAs) -> dict[str, Any]:
    """The contradictions and cycles in a file, as JSON values; verdicts are those of the `distinct` parser.

    The judgments of four answers, and ratings, are not looked at. Only MT-Bench compares more than two answers to a question.
    For other benchmarks memory does not grow with the rows.
    """
    counted = Consistency()
    for number, given in enumerate(() if benchmark.candidates else read_recorded(file)):
        record = without_nulls(given)
        row_id, orders = _name(record, number), recorded_judgments(record)
        for judgment in (*orders[0], *orders[1]):
            if judgment.text:
                counted.add_text(row_id, answer_of(judgment.text), partial(read_as.verdict, judgment, "distinct"))
        for instruction, first, second in _compared(record) if benchmark.name == mtbench.NAME else ():
            counted.prefer(instruction, first, second, _balance(orders, read_as), row_id)
    return counted.plain()


def _balance(orders: tuple[Judgments, Judgments], read_as: ReadAs) -> int:
    """How many more judgments are for the first answer than for the second."""
    labelled = ((label, judgment) for label, order in zip("AB", orders, strict=True) for judgment in order)
    return sum(vote_balance(read_as.verdict(judgment, "distinct"), label) for label, judgment in labelled)


def _compared(record: SourceRecord) -> Iterator[tuple[str, str, str]]:
    """The question and the two models, if the row names them."""
    values = record.values
    for names in _MODELS:
        first, second = (values.get(name) for name in names)
        if first is not None and second is not None and first != second and "question_id" in values:
            yield repr((values["question_id"], values.get("turn"))), str(first), str(second)
            return


def _name(record: SourceRecord, number: int) -> str:
    """The ids that the row holds, or its number."""
    names = ("id", "pair_id", "question_id", "turn", *(name for names in _MODELS for name in names))
    return "/".join(str(record.values[name]) for name in names if name in record.values) or numbered(number)
