"""JudgeBench (Tan et al., 2024): 350 pairs of GPT-4o and 270 of Claude, of which one is right by a fact.

Officially both orders are two games, +1, -1 or 0 each, and a pair is right where their sum is above 0; position-consistent
accuracy, which asks for both, is reported beside it. Pairs of GPT-4o and of Claude are groups of their own.
"""

from collections.abc import Iterable, Iterator, Mapping

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, better_of, identity, pair_row
from stj.evals.metrics import VerdictsByOrder, Weights
from stj.rows import Row
from stj.sources.dialogue import text_of, turns_from
from stj.sources.files import Fields
from stj.sources.ids import Seen
from stj.verdict import FIVE_WAY, other

NAME = "judgebench"
_CATEGORIES = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}


_MODELS = ("gpt-4o", "claude")
"""What the names of the models begin with whose pairs are published."""


def rows(found: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs, from pair_id, source, question, response_A, response_B and label."""
    seen = Seen()
    for position, one in enumerate(found):
        first, second = (text_of(one.record[name], name, one.where) for name in ("response_A", "response_B"))
        answers = (first, second) if better_of(one, "label") == "A" else (second, first)
        turns = turns_from(one.record["question"], "question", one.where)
        yield pair_row(NAME, position, identity(one, "pair_id", "", seen)[1:], subset(one), turns, *answers)


def subset(found: SourceRecord) -> str:
    """Whose pair it is, and knowledge, reasoning, math or coding; the latter alone where the record does not say whose."""
    category = _category(found)
    model = found.record.get("response_model")
    return category if model is None else f"{_model(text_of(model, 'response_model', found.where))}/{category}"


def groups(sizes: Mapping[str, int]) -> dict[str, Weights]:
    """All pairs alike, those of each model, and those of each category."""
    names = dict.fromkeys(name.split("/")[place] for place in (0, -1) for name in sizes if "/" in name)
    parts = {name: {subset: size for subset, size in sizes.items() if name in subset.split("/")} for name in names}
    return {"overall": sizes, **parts}


def _model(name: str) -> str:
    return next((known for known in _MODELS if name.startswith(known)), name.replace("/", "-"))


def _category(found: SourceRecord) -> str:
    Fields(required=("source",)).check(found.record, found.where)
    source = text_of(found.record["source"], "source", found.where)
    for prefix, category in _CATEGORIES.items():
        if source.startswith(prefix):
            return category
    raise SourceError(f"{found.where}: field 'source' is {source[:60]!r}; JudgeBench has {', '.join(_CATEGORIES)}")


def official(said: VerdictsByOrder) -> float:
    """1 where the sum of both games is above 0; over the samples."""
    games = [
        sum((own == order) - (own == other(order)) for own, order in zip(game, said, strict=True)) for game in _games(said)
    ]
    return sum(total > 0 for total in games) / len(games)


def _games(said: VerdictsByOrder) -> Iterator[tuple[str | None, ...]]:
    return zip(*said.values(), strict=True)


JUDGEBENCH = Benchmark(
    name=NAME,
    hub=(HubPart("ScalerLab/JudgeBench", "gpt"), HubPart("ScalerLab/JudgeBench", "claude")),
    fields=Fields(
        required=("pair_id", "source", "question", "response_A", "response_B", "label"), optional=("response_model",)
    ),
    rows=rows,
    subset=subset,
    groups=groups,
    official=official,
    wording=FIVE_WAY,
)
