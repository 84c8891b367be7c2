"""HHH alignment (Askell et al., 2021): 221 pairs, helpful, honest, harmless and other.

Read as the hub has it (`input`, `targets` with choices and labels), as BIG-bench has it (`input`, `target_scores`), and as
prometheus-eval has it, where instruction and response stand inside a rubric prompt.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, chosen_first, one_of, pair_row, texts_of
from stj.evals.metrics import Weights, evenly
from stj.rows import Row
from stj.sources.dialogue import text_of, turns_from, wrong_type
from stj.sources.files import Fields
from stj.sources.ids import numbered

NAME = "hhh"
_SUBSETS = ("harmless", "helpful", "honest", "other")
_AS_PARQUET = "refs/convert/parquet"  # the main branch is a program, which is not run
_RUBRIC = re.compile(r"###The instruction to evaluate:\n(.*)\n\n###Response to evaluate:\n(.*)\n\n###Score Rubrics:", re.DOTALL)


def rows(found: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs."""
    for position, one in enumerate(found):
        instruction, chosen, rejected = _example(one)
        turns = turns_from(instruction, "input", one.where)
        yield pair_row(NAME, position, numbered(position), subset(one), turns, chosen, rejected)


def subset(found: SourceRecord) -> str:
    """The record's `source` or `subset`, or the configuration or folder that it stands in."""
    for field in ("source", "subset"):
        if found.record.get(field) is not None:
            return one_of(found, field, _SUBSETS)
    parts = [PurePath(part).stem for part in PurePath(found.origin).parts[-3:]]
    named = [name for name in _SUBSETS if name in parts]
    if not named:
        raise SourceError(f"{found.where}: no field 'subset', and no folder is called one of {', '.join(_SUBSETS)}")
    return named[0]


def groups(sizes: Mapping[str, int]) -> dict[str, Weights]:
    """All pairs alike, and as "macro" the mean of the subsets."""
    return {"overall": sizes, "macro": evenly({name: 1.0} for name in sizes)}


def _example(found: SourceRecord) -> tuple[str, str, str]:
    """The instruction, the better answer and the worse one."""
    if found.record.get("chosen_instruction") is not None:
        instruction, chosen = _inside(found, "chosen_instruction")
        return instruction, chosen, _inside(found, "rejected_instruction")[1]
    Fields(required=("input",)).check(found.record, found.where)
    chosen, rejected = _choices(found)
    return text_of(found.record["input"], "input", found.where), chosen, rejected


def _choices(found: SourceRecord) -> tuple[str, str]:
    targets, scores = found.record.get("targets"), found.record.get("target_scores")
    if isinstance(targets, dict) and {"choices", "labels"} <= targets.keys():
        choices, labels = targets["choices"], targets["labels"]
        if not isinstance(labels, list):
            raise wrong_type(labels, "targets.labels", "a list of 0 and 1", found.where)
        scores = dict(zip(texts_of(choices, "targets.choices", found.where), labels, strict=False))
    if not isinstance(scores, dict):
        raise wrong_type(targets, "targets", "an object with choices and labels", found.where)
    ranked = sorted(scores.items(), key=lambda choice: -int(choice[1] == 1))
    if len(ranked) != 2 or [score == 1 for _, score in ranked] != [True, False]:
        raise wrong_type(targets or scores, "targets", "two choices of which one has label 1", found.where)
    return text_of(ranked[0][0], "targets", found.where), text_of(ranked[1][0], "targets", found.where)


def _inside(found: SourceRecord, field: str) -> tuple[str, str]:
    Fields(required=(field,)).check(found.record, found.where)
    parts = _RUBRIC.search(text_of(found.record[field], field, found.where))
    if parts is None:
        raise SourceError(f"{found.where}: field '{field}' is not prometheus-eval's prompt with '###Response to evaluate:'")
    return parts[1], parts[2]


HHH = Benchmark(
    name=NAME,
    hub=tuple(HubPart("HuggingFaceH4/hhh_alignment", "train", f"{name}/test/*.parquet", _AS_PARQUET) for name in _SUBSETS),
    fields=Fields(
        required=(),
        optional=("input", "targets", "target_scores", "source", "subset", "chosen_instruction", "rejected_instruction"),
    ),
    rows=rows,
    subset=subset,
    groups=groups,
    better=chosen_first,
)
