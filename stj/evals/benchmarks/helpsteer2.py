"""HelpSteer2 validation (Wang et al., 2024): 1,038 rows, two adjacent responses for each prompt, each with five attributes.

The better response has the higher weighted sum of the attributes (section 4.1 of the self-taught evaluators), or the higher
helpfulness. Equal scores are dropped. The judge is measured with three samples at T 0.7, in both orders.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import zip_longest

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, pair_row
from stj.rows import Row
from stj.sources.dialogue import number_of, text_of
from stj.sources.helpsteer2 import turns_of
from stj.sources.ids import numbered
from stj.sources.records import Fields

_WEIGHTS = {"helpfulness": 0.65, "correctness": 0.8, "coherence": 0.45, "complexity": 0.55, "verbosity": -0.4}
_HELPFULNESS = {"helpfulness": 1.0}


def rows(records: Iterable[SourceRecord], name: str, weights: dict[str, float]) -> Iterator[Row]:
    """Rows of pairs, from adjacent rows of prompt, response and the attributes."""
    stream = iter(records)
    for position, (first, second) in enumerate(zip_longest(stream, stream)):
        if second is None or first.values["prompt"] != second.values["prompt"]:
            raise SourceError(
                f"{first.where}: the next row has another prompt; HelpSteer2 has the two responses of a prompt in adjacent rows"
            )
        answers = [text_of(record.values["response"], "response", record.where) for record in (first, second)]
        scores = [_score(record, weights) for record in (first, second)]
        chosen, rejected = answers if scores[0] >= scores[1] else reversed(answers)
        turns = turns_of(text_of(first.values["prompt"], "prompt", first.where))
        row = pair_row(name, position, (numbered(position),), "validation", turns, chosen, rejected)
        yield row.drop("equal_scores") if scores[0] == scores[1] else row


def subset(record: SourceRecord) -> str:
    """The only subset."""
    return "validation"


def _score(record: SourceRecord, weights: dict[str, float]) -> float:
    weighted = (weight * number_of(record.values[name], name, record.where) for name, weight in weights.items())
    return round(sum(weighted), 6)  # Equal scores stay equal: floating-point sums differ in the last digits.


def _benchmark(name: str, weights: dict[str, float]) -> Benchmark:
    read: Callable[[Iterable[SourceRecord]], Iterator[Row]] = partial(rows, name=name, weights=weights)
    return Benchmark(
        name=name,
        hub=(HubPart("nvidia/HelpSteer2", "validation"),),
        size=1_038 // 2,
        fields=Fields(required=("prompt", "response", *weights)),
        rows=read,
        subset=subset,
        samples=3,
    )


HELPSTEER2 = _benchmark("helpsteer2", _WEIGHTS)
HELPSTEER2_HELPFULNESS = _benchmark("helpsteer2-helpfulness", _HELPFULNESS)
