"""RM-Bench (Liu et al., 2024): three styles of a right answer against three of a wrong one, nine pairs an item.

Styles go from concise over detailed plain to detailed markdown. Hard is where the wrong answer has the fancier style, normal
the same, easy where the right one has. A domain is the mean of the three, and the overall score the mean of chat, code, math
and safety. The items of both safety files are one domain: the authors' code pools them in one matrix, item by item.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

from stj.errors import SourceError
from stj.evals.benchmarks.base import (
    Benchmark,
    HubPart,
    SourceRecord,
    chosen_first,
    id_of,
    identity,
    one_of,
    pair_row,
    texts_of,
)
from stj.evals.metrics import Weights, evenly
from stj.rows import Row
from stj.sources.dialogue import turns_from, wrong_type
from stj.sources.files import Fields
from stj.sources.ids import Seen

NAME = "rmbench"
_DOMAINS = {"chat": ("chat",), "code": ("code",), "math": ("math",), "safety": ("safety-refuse", "safety-response")}
_FILES = tuple(name for parts in _DOMAINS.values() for name in parts)
_LEVELS = ("hard", "normal", "easy")
_STYLES = 3


def rows(found: Iterable[SourceRecord]) -> Iterator[Row]:
    """Nine rows of pairs an item, from id, prompt, chosen and rejected (three of each), and domain or the file's name."""
    seen, position = Seen(), 0
    for one in found:
        domain = _domain(one)
        item = identity(one, "id", domain, seen)
        turns = turns_from(one.record["prompt"], "prompt", one.where)
        chosen, rejected = _three(one, "chosen"), _three(one, "rejected")
        for place in range(_STYLES * _STYLES):
            right, wrong = divmod(place, _STYLES)
            part = f"{domain}/{_level(right, wrong)}"
            yield pair_row(NAME, position, f"{item}/{right}-{wrong}", part, turns, chosen[right], rejected[wrong])
            position += 1


def subset(found: SourceRecord) -> str:
    """Domain and level of a recorded judgment, from `domain` and `styles`, those of the right and of the wrong answer."""
    Fields(required=("styles",)).check(found.record, found.where)
    styles = found.record["styles"]
    known = isinstance(styles, list) and len(styles) == 2 and not any(isinstance(style, bool) for style in styles)
    if not known or not all(style in range(_STYLES) for style in styles):
        raise wrong_type(styles, "styles", "a list of two numbers from 0 to 2", found.where)
    return f"{_domain(found)}/{_level(styles[0], styles[1])}"


def comparison_id(found: SourceRecord) -> str | None:
    """The id of a recorded comparison, by its item's and its styles; None where the item has none."""
    if found.record.get("id") is None:
        return None
    right, wrong = found.record["styles"]
    return f"{_domain(found)}/{id_of(found.record['id'], 'id', found.where)}/{right}-{wrong}"


def total_or_parts(paths: Sequence[PurePath]) -> Sequence[PurePath]:
    """Of the published folder total_dataset.json alone, which holds what the files beside it do."""
    return [path for path in paths if path.name == "total_dataset.json"] or paths


def groups(sizes: Mapping[str, int]) -> dict[str, Weights]:
    """The domains and the levels that are there as a whole, and overall where all domains are."""
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


def item_of(example: str) -> str | None:
    """The item of a comparison, whose id is `chat/8/0-2`."""
    return example.rpartition("/")[0] or None


def _domain(found: SourceRecord) -> str:
    if "domain" in found.record:
        return one_of(found, "domain", _FILES)
    name = PurePath(found.origin).name
    for file in _FILES:
        if name.startswith(file):
            return file
    raise SourceError(f"{found.where}: no field 'domain', and the file's name begins with none of {', '.join(_FILES)}")


def _level(right: int, wrong: int) -> str:
    return _LEVELS[0] if right < wrong else _LEVELS[1] if right == wrong else _LEVELS[2]


def _three(found: SourceRecord, field: str) -> list[str]:
    texts = texts_of(found.record[field], field, found.where)
    if len(texts) != _STYLES:
        raise SourceError(f"{found.where}: field '{field}' has {len(texts)} answers; RM-Bench has {_STYLES} styles")
    return texts


RMBENCH = Benchmark(
    name=NAME,
    hub=(HubPart("THU-KEG/RM-Bench", "train"),),
    fields=Fields(required=("id", "prompt", "chosen", "rejected"), optional=("domain",)),
    rows=rows,
    subset=subset,
    groups=groups,
    cluster=item_of,
    own=total_or_parts,
    better=chosen_first,
    recorded_id=comparison_id,
)
