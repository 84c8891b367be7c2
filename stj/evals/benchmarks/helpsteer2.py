"""HelpSteer2 validation (Wang et al., 2024): 1,038 rows, two adjacent responses for each prompt, each with five attributes.

The better response has the higher weighted sum of the attributes (section 4.1 of the self-taught evaluators), or the higher
helpfulness. Equal scores are dropped. The judge is measured with three samples at T 0.7, in both orders.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, pair_row
from stj.rows import Row
from stj.sources.dialogue import text_of
from stj.sources.helpsteer2 import WEIGHTS, of_one_prompt, turns_of, weighted_score
from stj.sources.ids import numbered
from stj.sources.records import Fields

_HELPFULNESS = {"helpfulness": 1.0}


def rows(records: Iterable[SourceRecord], name: str, weights: Mapping[str, float]) -> Iterator[Row]:
    """Rows of pairs, from adjacent rows of prompt, response and the attributes."""
    located = ((record.where, record.values) for record in records)
    for position, (first, second) in enumerate(of_one_prompt(located)):
        where, values = first
        answers = [text_of(each["response"], "response", place) for place, each in (first, second)]
        scores = [weighted_score(each, place, weights) for place, each in (first, second)]
        chosen, rejected = answers if scores[0] >= scores[1] else reversed(answers)
        turns = turns_of(text_of(values["prompt"], "prompt", where))
        row = pair_row(name, position, (numbered(position),), "validation", turns, chosen, rejected)
        yield row.drop("equal_scores") if scores[0] == scores[1] else row


def subset(record: SourceRecord) -> str:
    """The only subset."""
    return "validation"


def _benchmark(name: str, weights: Mapping[str, float]) -> Benchmark:
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


HELPSTEER2 = _benchmark("helpsteer2", WEIGHTS)
HELPSTEER2_HELPFULNESS = _benchmark("helpsteer2-helpfulness", _HELPFULNESS)
