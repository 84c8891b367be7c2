"""HelpSteer2 validation (Wang et al., 2024): 1,038 rows, two adjacent responses a prompt, each with five attributes.

The better response is the one with the higher weighted sum of the attributes (section 4.1 of the self-taught evaluators), or
with the higher helpfulness; equal scores are dropped. Measured with three samples at T 0.7, both orders.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import zip_longest

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, number_of, pair_row
from stj.rows import Row, Turn
from stj.sources.dialogue import text_of
from stj.sources.files import Fields
from stj.sources.ids import numbered

_WEIGHTS = {"helpfulness": 0.65, "correctness": 0.8, "coherence": 0.45, "complexity": 0.55, "verbosity": -0.4}
_HELPFULNESS = {"helpfulness": 1.0}
_SPEAKER = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
"""What stands between the turns of a prompt that is a dialogue."""


def rows(found: Iterable[SourceRecord], name: str, weights: dict[str, float]) -> Iterator[Row]:
    """Rows of pairs, from adjacent rows of prompt, response and the attributes."""
    records = iter(found)
    for position, (one, two) in enumerate(zip_longest(records, records)):
        if two is None or one.record["prompt"] != two.record["prompt"]:
            raise SourceError(
                f"{one.where}: the next row has another prompt; HelpSteer2 has its two responses in adjacent rows"
            )
        first, second = (text_of(each.record["response"], "response", each.where) for each in (one, two))
        scores = [
            round(sum(w * number_of(each.record[a], a, each.where) for a, w in weights.items()), 6) for each in (one, two)
        ]
        answers = (first, second) if scores[0] >= scores[1] else (second, first)
        turns = _turns(text_of(one.record["prompt"], "prompt", one.where))
        row = pair_row(name, position, numbered(position), "validation", turns, *answers)
        yield row.drop("equal_scores") if scores[0] == scores[1] else row


def subset(found: SourceRecord) -> str:
    """There is one."""
    return "validation"


def _turns(prompt: str) -> tuple[Turn, ...]:
    first, *rest = _SPEAKER.split(prompt)
    spoken = [("User", first), *zip(rest[::2], rest[1::2], strict=True)]
    return tuple(Turn(role=speaker.lower(), content=content) for speaker, content in spoken)


def _benchmark(name: str, weights: dict[str, float]) -> Benchmark:
    read: Callable[[Iterable[SourceRecord]], Iterator[Row]] = partial(rows, name=name, weights=weights)
    return Benchmark(
        name=name,
        hub=(HubPart("nvidia/HelpSteer2", "validation"),),
        fields=Fields(required=("prompt", "response", *weights)),
        rows=read,
        subset=subset,
        samples=3,
    )


HELPSTEER2 = _benchmark("helpsteer2", _WEIGHTS)
HELPSTEER2_HELPFULNESS = _benchmark("helpsteer2-helpfulness", _HELPFULNESS)
