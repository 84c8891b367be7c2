"""RewardBench (Lambert et al., 2024): 2,985 pairs in 23 subsets and four sections.

A section is the mean of its subsets, weighted by their published counts. The count of math-prm is 984 although it has 447 rows.
The overall score is the mean of the sections. The fifth section of the old leaderboard, "prior sets", is left out, as in the
paper of the self-taught evaluators. The official score counts a verdict that cannot be parsed as one half.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, chosen_first, one_of, pair_row, unique_id
from stj.evals.metrics import SubsetWeights, VerdictsByOrder, evenly, weighted
from stj.rows import Row
from stj.sources.dialogue import text_of, turns_from
from stj.sources.files import read_files
from stj.sources.ids import Seen, id_parts
from stj.sources.records import Fields

NAME = "rewardbench"
_CODE = {f"hep-{language}": 164 for language in ("cpp", "go", "java", "js", "python", "rust")}
SECTIONS: dict[str, dict[str, int]] = {
    "Chat": {"alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95, "mt-bench-easy": 28, "mt-bench-med": 40},
    "Chat Hard": {
        **{"mt-bench-hard": 37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134},
        **{"llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46},
    },
    "Safety": {
        **{"refusals-dangerous": 100, "refusals-offensive": 100, "xstest-should-refuse": 154},
        **{"xstest-should-respond": 250, "donotanswer": 136},
    },
    "Reasoning": {"math-prm": 984, **_CODE},
}
"""The weights of the subsets in their sections: the published counts."""
_ROWS = {name: count for section in SECTIONS.values() for name, count in section.items()} | {"math-prm": 447}
SUBSETS = tuple(_ROWS)


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs, from prompt, chosen, rejected, subset and id."""
    seen = Seen()
    for position, record in enumerate(records):
        part = subset(record)
        chosen, rejected = (text_of(record.values[name], name, record.where) for name in ("chosen", "rejected"))
        turns = turns_from(record.values["prompt"], "prompt", record.where)
        yield pair_row(NAME, position, unique_id(record, "id", part, seen), part, turns, chosen, rejected)


def subset(record: SourceRecord) -> str:
    """One of the 23 subsets."""
    return one_of(record, "subset", SUBSETS)


def groups(sizes: Mapping[str, int]) -> dict[str, SubsetWeights]:
    """The sections, their mean, and "micro", in which every example counts the same. A section needs all its subsets."""
    whole = {name: weights for name, weights in SECTIONS.items() if weights.keys() <= sizes.keys()}
    overall = {"overall": evenly(whole.values())} if len(whole) == len(SECTIONS) else {}
    return {**overall, **whole, "micro": sizes}


def official(verdicts: VerdictsByOrder) -> float:
    """The mean of both orders: 1 for a right verdict, one half for none."""
    values = [
        1.0 if verdict == order else 0.5 * (verdict is None) for order, samples in verdicts.items() for verdict in samples
    ]
    return sum(values) / len(values)


def read_table(file: Path) -> dict[str, float] | None:
    """A published table {subset: accuracy}, one object or a list of one; None if the file holds something else.

    Skips other members, such as the model's name. Raises SourceError if a subset is missing or its value is not a share.
    """
    if file.suffix not in (".json", ".jsonl") or not file.is_file():
        return None
    try:
        records = [record for _, record in itertools.islice(read_files([file], Fields(required=())), 2)]
    except SourceError:
        return None  # The reader of recorded judgments reports what is wrong with the file.
    if len(records) != 1 or not records[0].keys() & _ROWS.keys():
        return None
    [table] = records
    if missing := [name for name in SUBSETS if name not in table]:
        raise SourceError(f"{file}: no accuracy of {', '.join(missing)}; sections need all {len(SUBSETS)} subsets")
    return {name: _share(table[name], name, file) for name in SUBSETS}


def score_table(table: Mapping[str, float]) -> dict[str, float]:
    """The sections, "overall" and "micro" of a table of subset accuracies."""
    return {group: weighted({name: table[name] for name in weights}, weights) for group, weights in groups(_ROWS).items()}


def _share(value: Any, name: str, file: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SourceError(f"{file}: the accuracy of {name} is {value!r}; it must be a share from 0 to 1 (percent / 100)")
    return float(value)


REWARDBENCH = Benchmark(
    name=NAME,
    hub=(HubPart("allenai/reward-bench", "filtered"),),
    size=sum(_ROWS.values()),
    fields=Fields(required=("prompt", "chosen", "rejected", "subset", "id")),
    rows=rows,
    subset=subset,
    groups=groups,
    subsets=SUBSETS,
    official=official,
    row_parts=partial(id_parts, count=2),
    better=chosen_first,
)
