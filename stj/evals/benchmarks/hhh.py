"""HHH alignment (Askell et al., 2021): 221 pairs, helpful, honest, harmless and other.

It reads three forms: the hub's (`input`, `targets` with choices and labels), BIG-bench's (`input`, `target_scores`), and
prometheus-eval's (instruction and response inside a rubric prompt).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, chosen_first, one_of, pair_row, texts_of
from stj.evals.metrics import SubsetWeights, evenly
from stj.rows import Row
from stj.sources.dialogue import text_of, turns_from, wrong_type
from stj.sources.ids import numbered
from stj.sources.records import Fields

NAME = "hhh"
_SUBSETS = ("harmless", "helpful", "honest", "other")
_AS_PARQUET = "refs/convert/parquet"  # The main branch is a program, and stj runs no program from the hub.
_RUBRIC = re.compile(r"###The instruction to evaluate:\n(.*)\n\n###Response to evaluate:\n(.*)\n\n###Score Rubrics:", re.DOTALL)


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs."""
    for position, record in enumerate(records):
        instruction, chosen, rejected = _example(record)
        turns = turns_from(instruction, "input", record.where)
        yield pair_row(NAME, position, (numbered(position),), subset(record), turns, chosen, rejected)


def subset(record: SourceRecord) -> str:
    """The record's `source` or `subset`, else its configuration or folder."""
    for field in ("source", "subset"):
        if record.values.get(field) is not None:
            return one_of(record, field, _SUBSETS)
    parts = [PurePath(part).stem for part in PurePath(record.origin).parts[-3:]]
    known = [name for name in _SUBSETS if name in parts]
    if not known:
        raise SourceError(f"{record.where}: no field 'subset', and no folder is named {', '.join(_SUBSETS)}")
    return known[0]


def groups(sizes: Mapping[str, int]) -> dict[str, SubsetWeights]:
    """All pairs with equal weight, and the mean of the subsets as "macro"."""
    return {"overall": sizes, "macro": evenly({name: 1.0} for name in sizes)}


def _example(record: SourceRecord) -> tuple[str, str, str]:
    """The instruction, the better answer and the worse one."""
    if record.values.get("chosen_instruction") is not None:
        instruction, chosen = _inside(record, "chosen_instruction")
        return instruction, chosen, _inside(record, "rejected_instruction")[1]
    Fields(required=("input",)).check(record.values, record.where)
    chosen, rejected = _choices(record)
    return text_of(record.values["input"], "input", record.where), chosen, rejected


def _choices(record: SourceRecord) -> tuple[str, str]:
    targets, scores = record.values.get("targets"), record.values.get("target_scores")
    if isinstance(targets, dict) and {"choices", "labels"} <= targets.keys():
        choices, labels = targets["choices"], targets["labels"]
        if not isinstance(labels, list):
            raise wrong_type(labels, "targets.labels", "a list of 0 and 1", record.where)
        scores = dict(zip(texts_of(choices, "targets.choices", record.where), labels, strict=False))
    if not isinstance(scores, dict):
        raise wrong_type(targets, "targets", "an object with choices and labels", record.where)
    ranked = sorted(scores.items(), key=lambda choice: -int(choice[1] == 1))
    if len(ranked) != 2 or [score == 1 for _, score in ranked] != [True, False]:
        raise wrong_type(targets or scores, "targets", "two choices, only one with label 1", record.where)
    return text_of(ranked[0][0], "targets", record.where), text_of(ranked[1][0], "targets", record.where)


def _inside(record: SourceRecord, field: str) -> tuple[str, str]:
    Fields(required=(field,)).check(record.values, record.where)
    parts = _RUBRIC.search(text_of(record.values[field], field, record.where))
    if parts is None:
        raise SourceError(f"{record.where}: field '{field}' is not prometheus-eval's prompt with '###Response to evaluate:'")
    return parts[1], parts[2]


HHH = Benchmark(
    name=NAME,
    hub=tuple(HubPart("HuggingFaceH4/hhh_alignment", "train", f"{name}/test/*.parquet", _AS_PARQUET) for name in _SUBSETS),
    size=221,
    fields=Fields(
        required=(),
        optional=("input", "targets", "target_scores", "source", "subset", "chosen_instruction", "rejected_instruction"),
    ),
    rows=rows,
    subset=subset,
    groups=groups,
    better=chosen_first,
)
