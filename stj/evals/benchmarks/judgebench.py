"""JudgeBench (Tan et al., 2024): 350 pairs of GPT-4o and 270 of Claude; in each pair one response is right by a fact.

The official score counts both orders as two games of +1, -1 or 0. A pair is right if their sum is above 0.
Position-consistent accuracy, which needs both orders right, stands beside it. The pairs of GPT-4o and of Claude are two groups.
"""

from collections.abc import Iterable, Iterator, Mapping

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, SourceRecord, better_of, pair_row, unique_id
from stj.evals.metrics import SubsetWeights, VerdictsByOrder
from stj.rows import Row
from stj.sources.dialogue import text_of, turns_from
from stj.sources.ids import Seen
from stj.sources.records import Fields
from stj.verdict import DECISION, FINAL_DECISION, FIVE_WAY, NUMBERED, OUTPUT, RESULT, TWO_SCORES, Format, other

NAME = "judgebench"
_CATEGORIES = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
_JUDGES = {
    **dict.fromkeys(("arena_hard", "skywork_critic", "compass_judger"), FIVE_WAY),
    "vanilla": OUTPUT,
    "panda_lm": NUMBERED,
    "judge_lm": TWO_SCORES,
    "auto_j": FINAL_DECISION,
    "prometheus_2": RESULT,
    "reward_model": DECISION,
}
"""The format of each judge of its repository."""
_MODELS = ("gpt-4o", "claude")
"""The first part of the names of the models whose pairs are published."""


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs, from pair_id, source, question, response_A, response_B and label."""
    seen = Seen()
    for position, record in enumerate(records):
        first, second = (text_of(record.values[name], name, record.where) for name in ("response_A", "response_B"))
        answers = (first, second) if better_of(record, "label") == "A" else (second, first)
        turns = turns_from(record.values["question"], "question", record.where)
        yield pair_row(NAME, position, unique_id(record, "pair_id", "", seen)[1:], subset(record), turns, *answers)


def subset(record: SourceRecord) -> str:
    """The pair's model, then knowledge, reasoning, math or coding; the category alone if the record names no model."""
    category = _category(record)
    model = record.values.get("response_model")
    return category if model is None else f"{_model(text_of(model, 'response_model', record.where))}/{category}"


def groups(sizes: Mapping[str, int]) -> dict[str, SubsetWeights]:
    """All pairs with equal weight, the pairs of each model, and those of each category."""
    names = dict.fromkeys(name.split("/")[place] for place in (0, -1) for name in sizes if "/" in name)
    parts = {name: {subset: size for subset, size in sizes.items() if name in subset.split("/")} for name in names}
    return {"overall": sizes, **parts}


def _model(name: str) -> str:
    return next((known for known in _MODELS if name.startswith(known)), name.replace("/", "-"))


def _category(record: SourceRecord) -> str:
    Fields(required=("source",)).check(record.values, record.where)
    source = text_of(record.values["source"], "source", record.where)
    for prefix, category in _CATEGORIES.items():
        if source.startswith(prefix):
            return category
    raise SourceError(f"{record.where}: field 'source' is {source[:60]!r}; JudgeBench has {', '.join(_CATEGORIES)}")


def recorded_wording(record: SourceRecord) -> Format | None:
    """The format of the judge that a record's `judge_name` names, as JudgeBench's code reads it; None for any other judge."""
    return _JUDGES.get(str(record.values.get("judge_name")))


def official(verdicts: VerdictsByOrder) -> float:
    """The share of samples in which the sum of both games is above 0."""
    samples: Iterator[tuple[str | None, ...]] = zip(*verdicts.values(), strict=True)
    sums = [
        sum((verdict == order) - (verdict == other(order)) for verdict, order in zip(games, verdicts, strict=True))
        for games in samples
    ]
    return sum(total > 0 for total in sums) / len(sums)


JUDGEBENCH = Benchmark(
    name=NAME,
    hub=(HubPart("ScalerLab/JudgeBench", "gpt"), HubPart("ScalerLab/JudgeBench", "claude")),
    size=350 + 270,
    fields=Fields(
        required=("pair_id", "source", "question", "response_A", "response_B", "label"), optional=("response_model",)
    ),
    rows=rows,
    subset=subset,
    groups=groups,
    official=official,
    wording=FIVE_WAY,
    recorded_wording=recorded_wording,
)
