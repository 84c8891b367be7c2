"""PPE, correctness (Frick et al., 2024): a right answer against a wrong one, in five benchmarks whose answers can be checked.

A record is a prompt with 32 answers of one model, which of them are right (`scores`), and up to five pairs of a right and a
wrong answer (`sampled_conflict_pairs`, places from 0). The judge sees these pairs. The score is the mean of the five domains'
accuracies. The pairs of a prompt are not independent, so intervals are over prompts.

Accuracy is the only one of PPE's five metrics of correctness that a judge of pairs has. The area under the ROC curve and the
three metrics of the best-of-K curve (loss, maximum, end) need a reward for each of the 32 answers.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, one_of, pair_row
from stj.evals.metrics import SubsetWeights, evenly
from stj.rows import Row
from stj.sources.dialogue import text_of, turns_from, wrong_type
from stj.sources.ids import RowId, Seen, id_of, id_parts, refuse_seen
from stj.sources.records import Fields

NAME = "ppe-correctness"
_MARKS = {"MMLU-Pro": "answer_index", "MATH": "level", "GPQA": "Subdomain", "MBPP-Plus": "task_id", "IFEval": "ifeval_prompt"}
"""A field that only this domain's records have: the data sets do not name themselves in their rows."""
_ANSWERS = tuple(f"response_{place}" for place in range(1, 33))


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """A row for each sampled pair, the right answer as the better one."""
    seen, position = Seen(), 0
    for record in records:
        item = _item(record)
        refuse_seen(item, "question_id", record.where, seen)
        turns = turns_from(record.values["prompt"], "prompt", record.where)
        for place, (right, wrong) in enumerate(_pairs(record)):
            yield pair_row(NAME, position, (*item, str(place)), item[0], turns, right, wrong)
            position += 1


def subset(record: SourceRecord) -> str:
    """The record's `domain`, else the domain whose fields it has."""
    if record.values.get("domain") is not None:
        return one_of(record, "domain", _MARKS)
    for domain, field in _MARKS.items():
        if record.values.get(field) is not None:
            return domain
    marks = ", ".join(f"{field} of {domain}" for domain, field in _MARKS.items())
    raise SourceError(f"{record.where}: no field 'domain', and no field that only one domain has ({marks})")


def groups(sizes: Mapping[str, int]) -> dict[str, SubsetWeights]:
    """The mean of the five domains if all are present, and "micro", in which every pair counts the same."""
    overall = {"overall": evenly({domain: 1.0} for domain in _MARKS)} if _MARKS.keys() <= sizes.keys() else {}
    return {**overall, "micro": sizes}


def question_of_pair(example: RowId) -> RowId | None:
    """The prompt of a pair: ("MATH", "7") for the id ("MATH", "7", "some-model", "0"); None for a pair without an id."""
    return example[:2] if len(example) > 1 else None


def recorded_pair_id(record: SourceRecord) -> RowId | None:
    """The id of a recorded judgment: its domain, its question if it names one, and its `id`. A question has five pairs."""
    names = [name for name in ("question_id", "id") if record.values.get(name) is not None]
    parts = [id_of(record.values[name], name, record.where) for name in names]
    return (subset(record), *parts) if "id" in names else None


def _item(record: SourceRecord) -> tuple[str, str, str]:
    """Domain, question and model; "model" if the record names none."""
    model = record.values.get("model_name")
    question = id_of(record.values["question_id"], "question_id", record.where)
    return subset(record), question, "model" if model is None else id_of(model, "model_name", record.where)


def _pairs(record: SourceRecord) -> Iterator[tuple[str, str]]:
    """The texts of each sampled pair, the right answer first. Raises SourceError if a pair is none of right and wrong."""
    pairs, scores = record.values["sampled_conflict_pairs"], record.values["scores"]
    if not isinstance(pairs, list):
        raise wrong_type(pairs, "sampled_conflict_pairs", "a list of pairs of places", record.where)
    if not isinstance(scores, list) or not all(isinstance(score, bool | int | float) for score in scores):
        raise wrong_type(scores, "scores", "a list with true for each right answer", record.where)
    for pair in pairs:
        first, second = _places(pair, len(scores), record.where)
        if scores[first] == scores[second]:
            raise SourceError(f"{record.where}: sampled_conflict_pairs has {pair}, but both answers have the same score")
        right, wrong = (first, second) if scores[first] > scores[second] else (second, first)
        yield _answer(record, right), _answer(record, wrong)


def _places(pair: Any, answers: int, where: str) -> tuple[int, int]:
    whole = isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, int) and not isinstance(p, bool) for p in pair)
    if not whole or not all(0 <= place < answers for place in pair):
        raise wrong_type(pair, "sampled_conflict_pairs[]", f"two places from 0 to {answers - 1}", where)
    return pair[0], pair[1]


def _answer(record: SourceRecord, place: int) -> str:
    name = f"response_{place + 1}"
    Fields(required=(name,)).check(record.values, record.where)
    return text_of(record.values[name], name, record.where)


_HUB = "lmarena-ai/PPE-{}-Best-of-K"
PPE_CORRECTNESS = Benchmark(
    name=NAME,
    hub=tuple(HubPart(_HUB.format(domain), "train") for domain in _MARKS),
    fields=Fields(
        required=("question_id", "prompt", "scores", "sampled_conflict_pairs"),
        optional=("domain", "model_name", *_MARKS.values(), *_ANSWERS),
    ),
    rows=rows,
    subset=subset,
    groups=groups,
    cluster=question_of_pair,
    row_parts=partial(id_parts, count=4),
    recorded_id=recorded_pair_id,
)
