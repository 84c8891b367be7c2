"""PPE, human preference (Frick et al., 2024): 16,038 votes of Chatbot Arena's users on answers of 20 models.

A vote for a tie has no better answer, so its pair is not judged: PPE's accuracy is over the other votes. Each pair counts in
"overall" and in each of PPE's cuts that it belongs to: kinds of prompts, languages, and pairs whose shorter answer won. So the
cuts overlap.

Accuracy is the only one of PPE's seven metrics of human preference that a judge of pairs has. Spearman's and Kendall's
correlation, row-wise Pearson, separability and confidence agreement rank the 20 models, and Brier's score needs a reward for
each answer. The cut of similar answers is left out: its threshold is not published with the data.
"""

from collections.abc import Iterable, Iterator, Mapping

from stj.evals.benchmarks.base import (
    Benchmark,
    HubPart,
    JudgedExample,
    Scored,
    SourceRecord,
    better_of,
    pair_row,
    score_each,
    unique_id,
)
from stj.evals.metrics import SubsetWeights
from stj.rows import Row
from stj.sources.dialogue import number_of, optional_bool, optional_text, text_of, turns_from
from stj.sources.ids import Seen
from stj.sources.pairs import HUMAN_TIE
from stj.sources.records import Fields
from stj.sources.truth import is_tie

NAME = "ppe-human"
_ALL = "all pairs"
_KINDS = {
    "hard_prompt": "hard prompts",
    "easy_prompt": "easy prompts",
    "if_prompt": "instruction following",
    "is_code": "code",
    "math_prompt": "math",
}
_LENGTHS = ("length_a", "length_b")
_SHORTER_WON = "shorter answer won"
_LANGUAGES = ("English", "Chinese", "Russian")
_OTHER_LANGUAGE = "not English"
_CUTS = (*_KINDS.values(), _SHORTER_WON, *_LANGUAGES, _OTHER_LANGUAGE)


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs, from question_id, prompt, response_1, response_2 and winner (model_a, model_b or a tie)."""
    seen = Seen()
    for position, record in enumerate(records):
        first, second = (text_of(record.values[name], name, record.where) for name in ("response_1", "response_2"))
        tied = is_human_tie(record)
        answers = (first, second) if tied or better_of(record, "winner") == "A" else (second, first)
        turns = turns_from(record.values["prompt"], "prompt", record.where)
        row_id = unique_id(record, "question_id", "", seen)[1:]
        row = pair_row(NAME, position, row_id, subset(record), turns, *answers)
        yield row.drop(HUMAN_TIE) if tied else row


def is_human_tie(record: SourceRecord) -> bool:
    """Whether the people's vote is "tie" or "tie (bothbad)"."""
    return isinstance(winner := record.values.get("winner"), str) and is_tie(winner)


def subset(record: SourceRecord) -> str:
    """The cuts that the pair belongs to, joined by a plus sign; "all pairs" if it belongs to none."""
    kinds = [cut for field, cut in _KINDS.items() if optional_bool(record.values.get(field), field, record.where)]
    return "+".join((*kinds, *_by_length(record), *_by_language(record))) or _ALL


def _by_length(record: SourceRecord) -> Iterator[str]:
    """PPE's lengths are in tokens."""
    if is_human_tie(record) or any(record.values.get(name) is None for name in _LENGTHS):
        return
    first, second = (number_of(record.values[name], name, record.where) for name in _LENGTHS)
    if (first < second) if better_of(record, "winner") == "A" else (second < first):
        yield _SHORTER_WON


def _by_language(record: SourceRecord) -> Iterator[str]:
    language = optional_text(record.values.get("language"), "language", record.where)
    if language in _LANGUAGES:
        yield language
    if language is not None and language != _LANGUAGES[0]:
        yield _OTHER_LANGUAGE


def score_cuts(benchmark: Benchmark, judged: Iterable[JudgedExample], records: Iterable[SourceRecord]) -> Iterator[Scored]:
    """Each example's outcome, once among all pairs and once in each of its cuts."""
    for scored in score_each(benchmark, judged, records):
        yield scored._replace(subset=_ALL)
        if scored.outcome is not None:
            yield from (scored._replace(subset=cut) for cut in scored.subset.split("+") if cut in _CUTS)


def groups(sizes: Mapping[str, int]) -> dict[str, SubsetWeights]:
    """All pairs; the cuts are subsets of them."""
    return {"overall": {_ALL: float(sizes[_ALL])}}


PPE_HUMAN = Benchmark(
    name=NAME,
    hub=(HubPart("lmarena-ai/PPE-Human-Preference-V1", "test"),),
    size=16_038,
    fields=Fields(
        required=("question_id", "prompt", "response_1", "response_2", "winner"), optional=("language", *_KINDS, *_LENGTHS)
    ),
    rows=rows,
    subset=subset,
    score=score_cuts,
    groups=groups,
    compared=_ALL,
    without_better=lambda record: HUMAN_TIE if is_human_tie(record) else None,
)
