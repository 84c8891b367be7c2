"""RM-Bench (Liu et al., 2024): three styles of a right answer against three of a wrong one, nine pairs an item.

The three styles are concise, detailed plain and detailed markdown. A pair is hard if the wrong answer has the fancier style,
and easy if the right answer has it. It is normal if both have the same style. A domain is the mean of these levels. The
overall score is the mean of chat, code, math and safety. The items of both safety files are one domain: the authors' code pools
them in one matrix, item by item.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

from stj.errors import SourceError
from stj.evals.benchmarks.base import (
    Benchmark,
    HubPart,
    SourceRecord,
    chosen_first,
    one_of,
    pair_row,
    texts_of,
    unique_id,
)
from stj.evals.metrics import SubsetWeights, evenly
from stj.rows import Row
from stj.sources.dialogue import turns_from, wrong_type
from stj.sources.ids import RowId, Seen, id_of, id_parts
from stj.sources.records import Fields

NAME = "rmbench"
_DOMAINS = {"chat": ("chat",), "code": ("code",), "math": ("math",), "safety": ("safety-refuse", "safety-response")}
_FILES = tuple(name for parts in _DOMAINS.values() for name in parts)
_LEVELS = ("hard", "normal", "easy")
_STYLES = 3


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """Nine rows of pairs for each item, from id, prompt, three chosen, three rejected, and domain or the file's name."""
    seen, position = Seen(), 0
    for record in records:
        domain = _domain(record)
        item = unique_id(record, "id", domain, seen)
        turns = turns_from(record.values["prompt"], "prompt", record.where)
        chosen, rejected = _three(record, "chosen"), _three(record, "rejected")
        for place in range(_STYLES * _STYLES):
            right, wrong = divmod(place, _STYLES)
            part = f"{domain}/{_level(right, wrong)}"
            yield pair_row(NAME, position, (*item, f"{right}-{wrong}"), part, turns, chosen[right], rejected[wrong])
            position += 1


def subset(record: SourceRecord) -> str:
    """Domain and level of a recorded judgment, from `domain` and `styles`: the right answer's style and the wrong one's."""
    Fields(required=("styles",)).check(record.values, record.where)
    styles = record.values["styles"]
    known = isinstance(styles, list) and len(styles) == 2 and not any(isinstance(style, bool) for style in styles)
    if not known or not all(style in range(_STYLES) for style in styles):
        raise wrong_type(styles, "styles", "a list of two numbers from 0 to 2", record.where)
    return f"{_domain(record)}/{_level(styles[0], styles[1])}"


def comparison_id(record: SourceRecord) -> RowId | None:
    """The id of a recorded comparison, from its item's id and its styles; None if the item has no id."""
    if record.values.get("id") is None:
        return None
    right, wrong = record.values["styles"]
    return _domain(record), id_of(record.values["id"], "id", record.where), f"{right}-{wrong}"


def total_or_parts(paths: Sequence[PurePath]) -> Sequence[PurePath]:
    """total_dataset.json alone if the folder has it, because it repeats the files beside it; else all files."""
    return [path for path in paths if path.name == "total_dataset.json"] or paths


def groups(sizes: Mapping[str, int]) -> dict[str, SubsetWeights]:
    """The complete domains and levels, and overall if all domains are complete."""
    domains = {}
    for domain, files in _DOMAINS.items():
        there = [file for file in files if any(name.startswith(f"{file}/") for name in sizes)]
        if there and all(f"{file}/{level}" in sizes for file in there for level in _LEVELS):
            domains[domain] = evenly({f"{file}/{level}": sizes[f"{file}/{level}"] for file in there} for level in _LEVELS)
    levels = {
        level: evenly({part: weight for part, weight in parts.items() if part.endswith(level)} for parts in domains.values())
        for level in _LEVELS
    }
    overall = {"overall": evenly(domains.values())} if len(domains) == len(_DOMAINS) else {}
    return {**overall, **domains, **(levels if domains else {}), "micro": sizes}


def item_of(example: RowId) -> RowId | None:
    """The item of a comparison: ("chat", "8") for the id ("chat", "8", "0-2"). A comparison without an id is alone."""
    return example[:-1] or None


def row_parts(text: str) -> RowId:
    """The parts of a row's id."""
    item, _, styles = text.rpartition("/")
    return (*id_parts(item, 2), styles)


def _domain(record: SourceRecord) -> str:
    if "domain" in record.values:
        return one_of(record, "domain", _FILES)
    name = PurePath(record.origin).name
    for file in _FILES:
        if name.startswith(file):
            return file
    raise SourceError(f"{record.where}: no field 'domain', and the file's name does not begin with one of {', '.join(_FILES)}")


def _level(right: int, wrong: int) -> str:
    return _LEVELS[0] if right < wrong else _LEVELS[1] if right == wrong else _LEVELS[2]


def _three(record: SourceRecord, field: str) -> list[str]:
    texts = texts_of(record.values[field], field, record.where)
    if len(texts) != _STYLES:
        raise SourceError(f"{record.where}: field '{field}' has {len(texts)} answers; RM-Bench has {_STYLES} styles")
    return texts


RMBENCH = Benchmark(
    name=NAME,
    hub=(HubPart("THU-KEG/RM-Bench", "train"),),
    size=1327 * _STYLES * _STYLES,
    fields=Fields(required=("id", "prompt", "chosen", "rejected"), optional=("domain",)),
    rows=rows,
    subset=subset,
    groups=groups,
    subsets=tuple(f"{file}/{level}" for file in _FILES for level in _LEVELS),
    row_parts=row_parts,
    cluster=item_of,
    select_files=total_or_parts,
    better=chosen_first,
    recorded_id=comparison_id,
)
