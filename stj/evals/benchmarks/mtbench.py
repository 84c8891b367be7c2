"""MT-Bench human agreement (Zheng et al., 2023): verdicts against every single vote of a human expert, turn 1 and turn 2.

Votes of the paper's authors are left out, no majority is taken, and a vote is turned round where the models are named in the
other order. Three settings, as ties are treated:

    all votes        a tie is a vote like any other (the paper's setup S1)
    no human ties    votes that say tie are left out; "overall"
    no ties          and so are pairs of which the judge's two orders together say tie (S2, FastChat's `ban=["tie"]`)

"official" is FastChat's agreement: both orders make one verdict, a tie where they differ. Accuracy takes each order by itself.
A pair of a question, two models and a turn is `81/alpaca-13b/claude-v1/1`, the models in the order of the alphabet; in place
of a "better answer" stands the first one's. Intervals are over questions: an answer is in many pairs, a pair has many votes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, HubPart, JudgedExample, Scored, SourceRecord, better_of, is_tie, pair_row
from stj.evals.metrics import Outcome, VerdictsByOrder, Weights, outcome
from stj.rows import Row, Turn
from stj.sources.dialogue import text_of, wrong_type
from stj.sources.files import Fields
from stj.verdict import PAIR_OR_TIE, TIE, Label, Verdict, other

NAME = "mtbench"
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
SETTINGS = ("all votes", "no human ties", "no ties")
_OVERALL = "no human ties"
WITHOUT_VOTES = "first model preferred"
"""What stands in place of the settings for recorded judgments to which no human votes were given."""
_NOT_A_TIE = "not a tie"
_FIRST_QUESTION, _PER_CATEGORY = 81, 10
_VOTE = ("question_id", "model_a", "model_b", "turn", "judge", "winner")


def rows(found: Iterable[SourceRecord]) -> Iterator[Row]:
    """A row for each question, pair of models and turn that an expert voted on, from the conversations."""
    seen: set[str] = set()
    for one in filter(_is_experts, found):
        _winner(one)  # a vote that cannot be read is told now, not when all is judged
        key = pair_id(one)
        if key in seen:
            continue
        seen.add(key)
        Fields(required=("conversation_a", "conversation_b")).check(one.record, one.where)
        conversations = [_spoken(one, field) for field in ("conversation_a", "conversation_b")]
        first, second = conversations if better(one) == "A" else reversed(conversations)
        question = "\n\n[[Second User Question]]\n".join(first[::2])
        answers = ["\n\n[[Answer to the Second User Question]]\n".join(spoken[1::2]) for spoken in (first, second)]
        yield pair_row(NAME, len(seen) - 1, key, subset(one), (Turn(role="user", content=question),), answers[0], answers[1])


def pair_id(found: SourceRecord) -> str:
    """The pair's id, whichever way round its models are named."""
    first, second = sorted(_models(found))
    return f"{question(found)}/{first}/{second}/{_turn(found)}"


def question(found: SourceRecord) -> int:
    """The number of a record's question."""
    return _whole(found, "question_id")


def question_of(pair: str) -> str:
    """The question of a pair's id."""
    return pair.partition("/")[0]


def better(found: SourceRecord) -> Label:
    """Where the record has the model that comes first in the alphabet."""
    first, second = _models(found)
    return "A" if first < second else "B"


def subset(found: SourceRecord) -> str:
    """Turn and category."""
    place = (question(found) - _FIRST_QUESTION) // _PER_CATEGORY
    if not 0 <= place < len(CATEGORIES):
        raise wrong_type(found.record["question_id"], "question_id", "one of 81 to 160", found.where)
    return f"turn {_turn(found)}/{CATEGORIES[place]}"


def groups(sizes: Mapping[str, int]) -> dict[str, Weights]:
    """For each setting its votes together, by turn and by category; every vote counts the same."""
    made: dict[str, Weights] = {}
    for setting in (*SETTINGS, WITHOUT_VOTES):
        own = {name: size for name, size in sizes.items() if name.startswith(f"{setting}/")}
        for label in ("", "turn 1", "turn 2", *CATEGORIES):
            if members := {name: size for name, size in own.items() if not label or label in name.split("/")}:
                made[f"{setting}, {label}" if label else setting] = members
    return {"overall": made[_OVERALL], **made} if _OVERALL in made else made


def combined(said: VerdictsByOrder) -> Verdict | None:
    """FastChat's one verdict of two orders, A for the first model: a tie where they differ, None where one has none."""
    verdicts = {own[0] if order == "A" else _turned(own[0]) for order, own in said.items()}
    return None if None in verdicts else verdicts.pop() if len(verdicts) == 1 else TIE


def said_by_winner(found: SourceRecord) -> VerdictsByOrder:
    """What a row says that has a `winner` but no text (lmsys's gpt4_pair): its verdict, in both orders."""
    winner = _winner(found)
    if winner == TIE:
        return {"A": [TIE], "B": [TIE]}
    return {"A": [winner], "B": [other(winner)]} if better(found) == "A" else {"A": [other(winner)], "B": [winner]}


def score(benchmark: Benchmark, judged: Iterable[JudgedExample], found: Iterable[SourceRecord]) -> Iterator[Scored]:
    """An outcome for every vote on a judged pair, in each setting that the vote belongs to."""
    votes = _votes(found)
    for one in judged:
        if not votes:
            result = outcome(one.said, one.sizes)
            yield Scored(one.id, f"{WITHOUT_VOTES}/{one.subset}", result, question_of(one.id), one.unjudged)
        elif one.id not in votes:
            yield Scored(one.id, one.subset, None, unjudged="no votes")
        verdict = combined(one.said)
        for vote in votes.get(one.id, ()):
            result = _against(one, vote, verdict)
            belongs = (True, vote != TIE, TIE not in (vote, verdict))
            for setting in (setting for setting, belonging in zip(SETTINGS, belongs, strict=True) if belonging):
                yield Scored(one.id, f"{setting}/{one.subset}", result, question_of(one.id), one.unjudged)


def _against(one: JudgedExample, vote: Verdict, verdict: Verdict | None) -> Outcome:
    """What was said against one vote: as if the vote were the truth."""
    agrees = float(verdict == vote)
    if vote == TIE:
        ties: VerdictsByOrder = {
            order: [order if said == TIE else said and _NOT_A_TIE for said in own] for order, own in one.said.items()
        }
        agreed = outcome(one.said, None).agreed
        # the content-blind never say tie
        return outcome(ties, None)._replace(official=agrees, agreed=agreed, always_a=0.0, longest=0.0, shortest=0.0)
    said: VerdictsByOrder = one.said if vote == "A" else {other(order): own for order, own in one.said.items()}
    sizes = one.sizes if one.sizes is None or vote == "A" else one.sizes[::-1]
    return outcome(said, sizes)._replace(official=agrees)


def _turned(verdict: Verdict | None) -> Verdict | None:
    """A verdict with the labels exchanged."""
    return {"A": "B", "B": "A"}.get(verdict or "", verdict)


def _votes(found: Iterable[SourceRecord]) -> dict[str, list[Verdict]]:
    """The experts' votes on each pair: A for the first model. Raises SourceError for records without any."""
    votes: dict[str, list[Verdict]] = {}
    one = None
    for one in found:
        if _is_experts(one):
            winner = _winner(one)
            turned = winner if winner == TIE or better(one) == "A" else other(winner)
            votes.setdefault(pair_id(one), []).append(turned)
    if one is not None and not votes:
        raise SourceError(f"{one.origin}: holds no vote of an expert; the field 'judge' of theirs begins with 'expert'")
    return votes


def _is_experts(found: SourceRecord) -> bool:
    return isinstance(judge := found.record["judge"], str) and judge.startswith("expert")


def _winner(found: SourceRecord) -> Any:
    """A for model_a, B for model_b, or a tie."""
    winner = found.record["winner"]
    return TIE if isinstance(winner, str) and is_tie(winner) else better_of(found, "winner")


def _models(found: SourceRecord) -> tuple[str, str]:
    names = ("model_1", "model_2") if "model_1" in found.record else ("model_a", "model_b")
    Fields(required=names).check(found.record, found.where)
    first, second = (text_of(found.record[name], name, found.where) for name in names)
    if first == second:
        raise SourceError(f"{found.where}: fields '{names[0]}' and '{names[1]}' are both {first[:60]!r}; two models are needed")
    return first, second


def _turn(found: SourceRecord) -> int:
    turn = _whole(found, "turn")
    if turn not in (1, 2):
        raise wrong_type(turn, "turn", "1 or 2", found.where)
    return turn


def _whole(found: SourceRecord, field: str) -> int:
    Fields(required=(field,)).check(found.record, found.where)
    value = found.record[field]
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):  # as CSV has it
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(value, field, "a whole number", found.where)
    return value


def _spoken(found: SourceRecord, field: str) -> list[str]:
    """The messages of a conversation up to the turn that is judged: question, answer, and so again."""
    value = found.record[field]
    needed = 2 * _turn(found)
    if not isinstance(value, list) or len(value) < needed or not all(isinstance(turn, dict) for turn in value):
        raise wrong_type(value, field, f"a list of at least {needed} messages", found.where)
    return [text_of(turn.get("content"), f"{field}[].content", found.where) for turn in value[:needed]]


MTBENCH = Benchmark(
    name=NAME,
    hub=(HubPart("lmsys/mt_bench_human_judgments", "human"),),
    fields=Fields(required=_VOTE, optional=("conversation_a", "conversation_b")),
    rows=rows,
    subset=subset,
    score=score,
    groups=groups,
    cluster=question_of,
    needs_records=True,
    compared=f"{_OVERALL}/",
    wording=PAIR_OR_TIE,
    better=better,
    recorded_id=pair_id,
    said=said_by_winner,
)
