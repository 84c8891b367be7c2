"""LLMBar (Zeng et al., 2024): 419 pairs, Natural and four adversarial subsets.

The paper reports the mean of both orders and how often both prefer the same output. Its code counts two missing verdicts as
agreement; ours does not. Its data set on the hub is a program, and stj runs no program from the hub. It reads the files of the
repository on GitHub.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, better_of, pair_row
from stj.evals.metrics import SubsetWeights, evenly
from stj.rows import Row
from stj.sources.dialogue import text_of, turns_from
from stj.sources.ids import numbered
from stj.sources.records import Fields
from stj.verdict import OUTPUT

NAME = "llmbar"
_ADVERSARIAL = ("Neighbor", "GPTInst", "GPTOut", "Manual")
_REPOSITORY = "https://raw.githubusercontent.com/princeton-nlp/LLMBar/900616bff90b6c6c8e1681f7d079250637c55992/Dataset/LLMBar"
_FOLDERS = ("Natural", *(f"Adversarial/{name}" for name in _ADVERSARIAL))
_NAMED = re.compile(rf"(?<![a-z])(?:{'|'.join(('Natural', *_ADVERSARIAL))})(?![a-z])", re.IGNORECASE)
_RECORDED = "evaluators"
_SPELLED = {name.lower(): name for name in ("Natural", *_ADVERSARIAL)}


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs, from input, output_1, output_2 and label (1 or 2)."""
    for position, record in enumerate(records):
        first, second = (text_of(record.values[name], name, record.where) for name in ("output_1", "output_2"))
        answers = (first, second) if better_of(record, "label") == "A" else (second, first)
        turns = turns_from(record.values["input"], "input", record.where)
        yield pair_row(NAME, position, (subset(record), numbered(position)), subset(record), turns, *answers)


def subset(record: SourceRecord) -> str:
    """The record's `subset`, else the name of its file or folder: Adversarial/Neighbor/dataset.json, LLMBar_Natural.json.

    For recorded judgments it is the folder that holds their `evaluators`.
    """
    if (given := record.values.get("subset")) is not None:
        return text_of(given, "subset", record.where)
    path = PurePath(record.origin)
    above = path.parts[: path.parts.index(_RECORDED)] if _RECORDED in path.parts else path.parts[:-1]
    for part in (path.name, *above[-1:]):
        if match := _NAMED.search(part):
            return _SPELLED[match[0].lower()]
    return path.stem


def without_judgments(paths: Sequence[PurePath]) -> Sequence[PurePath]:
    """The files of its repository without the recorded judgments, which lie in folders below the data."""
    return [path for path in paths if _RECORDED not in path.parts]


def groups(sizes: Mapping[str, int]) -> dict[str, SubsetWeights]:
    """All pairs with equal weight, and Adversarial: the mean of its four subsets, if all are present."""
    adversarial = {"Adversarial": evenly({name: 1.0} for name in _ADVERSARIAL)} if set(_ADVERSARIAL) <= sizes.keys() else {}
    return {"overall": sizes, **adversarial}


LLMBAR = Benchmark(
    name=NAME,
    hub=tuple(HubPart("json", "train", f"{_REPOSITORY}/{folder}/dataset.json") for folder in _FOLDERS),
    size=419,
    fields=Fields(required=("input", "output_1", "output_2", "label"), optional=("subset",)),
    rows=rows,
    subset=subset,
    groups=groups,
    select_files=without_judgments,
    wording=OUTPUT,
)
