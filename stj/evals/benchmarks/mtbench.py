"""MT-Bench human agreement (Zheng et al., 2023): verdicts against every single vote of a human expert, turn 1 and turn 2.

Votes of the paper's authors are left out, and every vote counts alone, without a majority. A vote that names the models in the
other order is reversed. Three settings treat ties differently:

    all votes        a tie is a vote like any other (the paper's setup S1)
    no human ties    leaves out votes that say tie; this is "overall"
    no ties          also leaves out the pairs on which the judge's two orders together say tie (S2, FastChat's `ban=["tie"]`)

"official" is FastChat's agreement: both orders make one verdict, a tie if they differ. Accuracy counts each order alone. The id
of a question, two models and a turn is `81/alpaca-13b/claude-v1/1`, with the models in alphabetical order. The first model's
answer takes the place of the "better answer". Intervals are over questions: an answer is in many pairs, a pair has many votes.

FastChat's judges see a reference answer in mathematics, reasoning and coding. The data set of the votes holds none, so it is
read from FastChat's reference_answer/gpt-4.jsonl, if that lies in the same directory as the votes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.base import (
    Benchmark,
    HubPart,
    JudgedExample,
    ReferenceAnswers,
    Scored,
    SourceRecord,
    better_of,
    pair_row,
    texts_of,
)
from stj.evals.benchmarks.duels import DuelResult, Models
from stj.evals.metrics import ExampleOutcome, SubsetWeights, VerdictsByOrder, example_outcome
from stj.prompts.two_turns import SECOND_ANSWER, SECOND_QUESTION, SECOND_REFERENCE
from stj.rows import Row, Turn
from stj.sources.dialogue import text_of, wrong_type
from stj.sources.ids import RowId, id_in_task, id_parts
from stj.sources.records import Fields
from stj.sources.truth import is_tie
from stj.verdict import PAIR_OR_TIE, TIE, Label, Verdict, other

NAME = "mtbench"
QUESTION_CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
SETTINGS = ("all votes", "no human ties", "no ties")
_OVERALL = "no human ties"
WITHOUT_VOTES = "first model preferred"
"""Replaces the settings for recorded judgments without human votes."""
INCONSISTENT = "tie (inconsistent)"
"""FastChat's name for a combined verdict of two orders that differ: a tie in its agreement with human votes."""
_RESULTS: Mapping[Verdict, DuelResult] = {"A": "win", "B": "loss", TIE: "tie", INCONSISTENT: "inconsistent"}
_NOT_A_TIE = "not a tie"
_FIRST_QUESTION, _PER_CATEGORY = 81, 10
_TURNS = 2
_WITH_REFERENCE = ("math", "reasoning", "coding")
_VOTE = ("question_id", "model_a", "model_b", "turn", "judge", "winner")


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """A row for each question, pair of models and turn that an expert voted on, made from the conversations."""
    seen: set[RowId] = set()
    for record in filter(_is_experts, records):
        _winner(record)  # Raises before the judging if a vote cannot be read.
        key = pair_id(record)
        if key in seen:
            continue
        seen.add(key)
        Fields(required=("conversation_a", "conversation_b")).check(record.values, record.where)
        conversations = [_spoken(record, field) for field in ("conversation_a", "conversation_b")]
        first, second = conversations if better(record) == "A" else reversed(conversations)
        asked = SECOND_QUESTION.join(first[::2])
        answers = [SECOND_ANSWER.join(spoken[1::2]) for spoken in (first, second)]
        yield pair_row(NAME, len(seen) - 1, key, subset(record), (Turn(role="user", content=asked),), answers[0], answers[1])


def with_references(rows: Iterator[Row], records: Iterable[SourceRecord]) -> Iterator[Row]:
    """The rows; those that FastChat shows with a reference answer have it, if the records hold it, up to the judged turn."""
    answers: dict[str, list[str]] = {}
    for record in records:
        if answers.setdefault(key := str(question(record)), answer := _reference(record)) is not answer:
            raise SourceError(f"{record.where}: a second reference answer to question {key}; give the answers of one model")
    for row in rows:
        both = answers.get(id_in_task(row).partition("/")[0]) if wants_reference(row) else None
        turns = 2 if (row.subset or "").startswith("turn 2") else 1
        yield row if both is None else replace(row, reference=SECOND_REFERENCE.join(both[:turns]))


def wants_reference(row: Row) -> bool:
    """Whether FastChat's judges see a reference answer."""
    return (row.subset or "").rpartition("/")[2] in _WITH_REFERENCE


def reference_files(paths: Sequence[PurePath]) -> Sequence[PurePath]:
    """FastChat's reference_answer/gpt-4.jsonl, or a file whose own name begins with reference_answer."""
    return [path for path in paths if any(part.startswith("reference_answer") for part in path.parts)]


def pair_id(record: SourceRecord) -> RowId:
    """The pair's id, the same for both orders of its models."""
    first, second = sorted(models(record))
    return str(question(record)), first, second, str(_turn(record))


def question(record: SourceRecord) -> int:
    """The number of a record's question."""
    return _whole(record, "question_id")


def question_of(pair: RowId) -> RowId:
    """The question in a pair's id."""
    return pair[:1]


def better(record: SourceRecord) -> Label:
    """The place in the record of the model that is first in the alphabet: A if it is the first model."""
    first, second = models(record)
    return "A" if first < second else "B"


def subset(record: SourceRecord) -> str:
    """Turn and category of a record."""
    place = (question(record) - _FIRST_QUESTION) // _PER_CATEGORY
    if not 0 <= place < len(QUESTION_CATEGORIES):
        raise wrong_type(record.values["question_id"], "question_id", "one of 81 to 160", record.where)
    return f"turn {_turn(record)}/{QUESTION_CATEGORIES[place]}"


def groups(sizes: Mapping[str, int]) -> dict[str, SubsetWeights]:
    """Each setting's votes, all together, by turn and by category; every vote counts the same."""
    made: dict[str, SubsetWeights] = {}
    for setting in (*SETTINGS, WITHOUT_VOTES):
        in_setting = {name: size for name, size in sizes.items() if name.startswith(f"{setting}/")}
        for label in ("", "turn 1", "turn 2", *QUESTION_CATEGORIES):
            if members := {name: size for name, size in in_setting.items() if not label or label in name.split("/")}:
                made[f"{setting}, {label}" if label else setting] = members
    return {"overall": made[_OVERALL], **made} if _OVERALL in made else made


def combined(verdicts: VerdictsByOrder) -> Verdict | None:
    """FastChat's combined verdict of two orders, A for the first model.

    It is a tie if they differ, also in a verdict that is combined already. None if an order has no verdict.
    """
    distinct = {first if order == "A" else _turned(first) for order, (first, *_) in verdicts.items()}
    if None in distinct:
        return None
    return distinct.pop() if len(distinct) == 1 and distinct != {INCONSISTENT} else TIE


def duel(example: JudgedExample) -> tuple[Models, DuelResult]:
    """The two models of an example, the first in the alphabet first, and the result for that one."""
    _, first, second, _ = example.id
    verdict, *others = {samples[0] if order == "A" else _turned(samples[0]) for order, samples in example.verdicts.items()}
    if verdict is None or None in others:
        return (first, second), "no_verdict"
    return (first, second), "inconsistent" if others else _RESULTS[verdict]


def verdict_of_winner(record: SourceRecord) -> Verdict:
    """The combined verdict of a row with a `winner` but no text (lmsys's gpt4_pair), A for the first model in the alphabet."""
    winner = _winner(record)
    if winner == TIE:
        return INCONSISTENT if record.values["winner"] == INCONSISTENT else TIE
    return winner if better(record) == "A" else other(winner)


def score_against_votes(
    benchmark: Benchmark, judged: Iterable[JudgedExample], records: Iterable[SourceRecord]
) -> Iterator[Scored]:
    """An outcome for every vote on a judged pair, in each setting of the vote."""
    votes = _votes(records)
    for example in judged:
        if not votes:
            result = example_outcome(example.verdicts, example.sizes, orders_known=example.orders_known)
            yield Scored(example.id, f"{WITHOUT_VOTES}/{example.subset}", result, question_of(example.id), example.unjudged)
        elif example.id not in votes:
            yield Scored(example.id, example.subset, None, unjudged="no votes")
        verdict = combined(example.verdicts)
        for vote in votes.get(example.id, ()):
            result = _against(example, vote, verdict)
            belongs = (True, vote != TIE, TIE not in (vote, verdict))
            for setting in (setting for setting, belonging in zip(SETTINGS, belongs, strict=True) if belonging):
                yield Scored(example.id, f"{setting}/{example.subset}", result, question_of(example.id), example.unjudged)


def _reference(record: SourceRecord) -> list[str]:
    """The reference answers to both questions."""
    choices = record.values["choices"]
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise wrong_type(choices, "choices", "a list that begins with {turns: [answer, answer]}", record.where)
    turns = texts_of(choices[0].get("turns"), "choices[].turns", record.where)
    if len(turns) != _TURNS:
        raise wrong_type(turns, "choices[].turns", "two answers", record.where)
    return turns


def _against(example: JudgedExample, vote: Verdict, verdict: Verdict | None) -> ExampleOutcome:
    """The outcome of an example if one vote is taken as the truth."""
    agrees = float(verdict == vote)
    if vote == TIE:
        ties: VerdictsByOrder = {
            order: [order if sample == TIE else sample and _NOT_A_TIE for sample in samples]
            for order, samples in example.verdicts.items()
        }
        agreed = example_outcome(example.verdicts, None, orders_known=example.orders_known).agreed
        outcome = example_outcome(ties, None, orders_known=example.orders_known)
        always_a = 0.0 if example.orders_known else None
        # Content-blind judges never say tie.
        return outcome._replace(official=agrees, agreed=agreed, always_a=always_a, longest=0.0, shortest=0.0)
    turned = {other(order): samples for order, samples in example.verdicts.items()}
    sizes = example.sizes if example.sizes is None or vote == "A" else example.sizes[::-1]
    outcome = example_outcome(example.verdicts if vote == "A" else turned, sizes, orders_known=example.orders_known)
    return outcome._replace(official=agrees)


def _turned(verdict: Verdict | None) -> Verdict | None:
    """A verdict with A and B exchanged."""
    return {"A": "B", "B": "A"}.get(verdict or "", verdict)


def _votes(records: Iterable[SourceRecord]) -> dict[RowId, list[Verdict]]:
    """The experts' votes on each pair: A for the first model. Raises SourceError if the records hold none."""
    votes: dict[RowId, list[Verdict]] = {}
    record = None
    for record in records:
        if _is_experts(record):
            winner = _winner(record)
            turned = winner if winner == TIE or better(record) == "A" else other(winner)
            votes.setdefault(pair_id(record), []).append(turned)
    if record is not None and not votes:
        raise SourceError(f"{record.origin}: holds no vote of an expert, whose field 'judge' begins with 'expert'")
    return votes


def _is_experts(record: SourceRecord) -> bool:
    return isinstance(judge := record.values["judge"], str) and judge.startswith("expert")


def _winner(record: SourceRecord) -> Any:
    """A for model_a, B for model_b, or a tie."""
    winner = record.values["winner"]
    return TIE if isinstance(winner, str) and is_tie(winner) else better_of(record, "winner")


def models(record: SourceRecord) -> tuple[str, str]:
    """The names of a record's two models."""
    names = ("model_1", "model_2") if record.values.get("model_1") is not None else ("model_a", "model_b")
    Fields(required=names).check(record.values, record.where)
    first, second = (text_of(record.values[name], name, record.where) for name in names)
    if first == second:
        raise SourceError(
            f"{record.where}: fields '{names[0]}' and '{names[1]}' are both {first[:60]!r}; two models are needed"
        )
    return first, second


def _turn(record: SourceRecord) -> int:
    turn = _whole(record, "turn")
    if turn not in (1, 2):
        raise wrong_type(turn, "turn", "1 or 2", record.where)
    return turn


def _whole(record: SourceRecord, field: str) -> int:
    Fields(required=(field,)).check(record.values, record.where)
    value = record.values[field]
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):  # CSV holds text.
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(value, field, "a whole number", record.where)
    return value


def _spoken(record: SourceRecord, field: str) -> list[str]:
    """The messages of a conversation up to the judged turn: question and answer alternate."""
    value = record.values[field]
    needed = 2 * _turn(record)
    if not isinstance(value, list) or len(value) < needed or not all(isinstance(turn, dict) for turn in value):
        raise wrong_type(value, field, f"a list of at least {needed} messages", record.where)
    return [text_of(turn.get("content"), f"{field}[].content", record.where) for turn in value[:needed]]


MTBENCH = Benchmark(
    name=NAME,
    hub=(HubPart("lmsys/mt_bench_human_judgments", "human"),),
    fields=Fields(required=_VOTE, optional=("conversation_a", "conversation_b")),
    rows=rows,
    subset=subset,
    score=score_against_votes,
    groups=groups,
    row_parts=partial(id_parts, count=4),
    cluster=question_of,
    duel=duel,
    needs_records=True,
    compared=f"{_OVERALL}/",
    wording=PAIR_OR_TIE,
    reference_answers=ReferenceAnswers(
        select_files=reference_files,
        fields=Fields(required=("question_id", "choices")),
        shown=with_references,
        wanted=wants_reference,
        where="in math, reasoning and coding; give mtbench:DIRECTORY with FastChat's reference_answer beside the votes",
    ),
    better=better,
    recorded_id=pair_id,
    recorded_verdict=verdict_of_winner,
)
