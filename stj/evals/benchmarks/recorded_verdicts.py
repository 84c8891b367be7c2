"""From a recorded judgment to its verdict: the judge's text, or what the file records beside it.

Published files hold more than texts. JudgeBench stores the `decision` that its authors read, LLMBar the `winner`. `paper` takes
these, because the authors' scores are made of them. Reward models write no text at all; all parsers read their decisions.
LLMBar's Rating evaluators rate each answer alone: the higher rating wins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from stj.errors import SourceError
from stj.evals.benchmarks.base import SourceRecord
from stj.evals.benchmarks.unread import Unread
from stj.sources.dialogue import wrong_type
from stj.text import visible_line
from stj.thoughts import answer_of
from stj.verdict import DECISION, RATING, TIE, Format, Parser, Verdict, parse, rating

TEXT_FIELDS = (("judgment_ab", "judgment_ba"), ("g1_judgment", "g2_judgment"))
"""Fields with the texts of both orders: the first response shown as A, and as B."""
_WINS = {"1": "A>B", "2": "B>A"}
_TURNED = {"A>B": "B>A", "B>A": "A>B"}
_FORMS = {
    "judgments": "JudgeBench's one or two games",
    "results": "LLMBar's list of completions or ratings",
    "votes": "the votes of `stj judge`",
}
"""What the fields hold that are more than a text, for errors."""
_SHOWN = 40  # characters of a value in an error


class RecordedJudgment(NamedTuple):
    """One judgment of a file, in the order in which its judge saw the answers."""

    text: str
    decision: str | None = None
    """The decision that the file records, as in "A>B"; None if its authors read none."""
    decided: bool = False
    """Whether the file records decisions."""
    ratings: tuple[str, ...] = ()
    """The texts of the ratings of both answers, if the judge rated each alone."""
    scores: tuple[int | None, int | None] | None = None
    """The scores of both answers, if `stj judge` had each graded alone; None for a grade without a score."""


Judgments = Sequence[RecordedJudgment]


@dataclass(frozen=True, kw_only=True)
class ReadAs:
    """How the judgments of a file are read."""

    wording: Format
    stored: bool = True
    """Whether `paper` takes the decisions that the file records. Not so if the user names the format."""

    def verdict(self, judgment: RecordedJudgment, parser: Parser) -> Verdict | None:
        """The verdict of a judgment; None if the parser reads none."""
        if parser == "paper" and judgment.decided and self.stored:
            return parse(judgment.decision or "", DECISION, "paper")
        if judgment.scores is not None:
            return _higher(*judgment.scores)
        if judgment.ratings:
            return _by_ratings(judgment.ratings, parser)
        if self.wording is DECISION and judgment.decided:
            return parse(judgment.decision or "", DECISION, parser)
        return parse(answer_of(judgment.text), self.wording, parser)

    def unread(self, judgment: RecordedJudgment) -> Unread:
        """A judgment that holds no verdict."""
        if judgment.ratings:
            return Unread(" / ".join(judgment.ratings), RATING)
        return Unread(answer_of(judgment.text), self.wording, judgment.decision)


def recorded_judgments(record: SourceRecord) -> tuple[Judgments, Judgments]:
    """The judgments with the first response shown as A, and those with the second; none for an order that was not asked.

    Raises SourceError if a field is not in its schema.
    """
    for names in TEXT_FIELDS:
        if any(name in record.values for name in names):
            first, second = (judgments_of(record.values.get(name), name, record.where) for name in names)
            return first, second
    for name, reader in _SCHEMAS.items():
        if name in record.values:
            try:
                return reader(record.values[name])
            except (KeyError, IndexError, TypeError, ValueError, AttributeError):
                shown = visible_line(repr(record.values[name])[:_SHOWN])
                form = f"is not in its benchmark's schema, {_FORMS[name]}"
                raise SourceError(f"{record.where}: field '{name}' {form}: it begins with {shown}") from None
    return (), ()


def judgments_of(value: object, field: str, where: str) -> Judgments:
    """The judgments of one order, a text or a list of texts, without those that were not asked for (null)."""
    texts: list[Any] = [text for text in (value if isinstance(value, list) else [value]) if text is not None]
    for text in texts:
        if not isinstance(text, str):
            raise wrong_type(text, field, "the judge's text, a list of texts, or null", where)
    return [RecordedJudgment(text) for text in texts]


def _by_ratings(texts: Sequence[str], parser: Parser) -> Verdict | None:
    first, second = (rating(parse(answer_of(text), RATING, parser)) for text in texts)
    return _higher(first, second)


def _higher(first: float | None, second: float | None) -> Verdict | None:
    if first is None or second is None:
        return None
    return "A" if first > second else "B" if second > first else TIE


def _judgebench(games: Any) -> tuple[Judgments, Judgments]:
    """One or two games; null is a game that was not played."""
    first, *others = [_game(game) for game in games]
    if len(others) > 1:
        raise ValueError("more than two games")
    return first, others[0] if others else ()


def _game(game: Any) -> Judgments:
    """A game has a text, a decision, or both; what it has not is null or absent."""
    judgment, decision = _members(game, "judgment", "decision")
    text, *_ = _members(judgment, "response", "judge_model", "prompt")
    if text is None and decision is None:
        return ()
    return [RecordedJudgment(_text(text or ""), _optional_text(decision), decision is not None)]


def _members(value: Any, *names: str) -> tuple[Any, ...]:
    """Members of an object; null and absent ones are None, because Parquet cannot tell one from the other.

    Raises KeyError if the object has members, but none of these.
    """
    if value and value.keys().isdisjoint(names):
        raise KeyError(names[0])
    return tuple(value.get(name) if value else None for name in names)


def _llmbar(results: Any) -> tuple[Judgments, Judgments]:
    """Both orders of the last result: a completion each, or one rating of each output. An order that is null was not asked."""
    if not isinstance(results, list):  # RewardBench writes 1 or 0 here, whether a reward model is right.
        raise TypeError("no list")
    if not results:
        return (), ()
    orders = _members(results[-1], "swap = False", "swap = True")
    scores = [_completion(results[-1][name]) for name in ("score_1", "score_2") if results[-1].get(name) is not None]
    first, second = (_order(order, scores, swapped=bool(place)) for place, order in enumerate(orders))
    return first, second


def _order(order: Any, scores: Sequence[str], *, swapped: bool) -> Judgments:
    completion, winner = _members(order, "completion", "winner")
    if scores:
        first, second = reversed(scores) if swapped else scores
        judgment = RecordedJudgment("", ratings=(first, second))
    elif completion is None and winner is None:
        return ()
    else:
        judgment = RecordedJudgment("" if completion is None else _completion(completion))
    decided = bool(order) and "winner" in order
    return [judgment._replace(decision=_decision(winner, swapped=swapped), decided=decided)]


def _decision(winner: Any, *, swapped: bool) -> str | None:
    """LLMBar's winner, which names an output by its place in the file, as a decision between the outputs as shown."""
    decision = None if winner is None else _WINS[str(winner)]
    return _TURNED[decision] if decision and swapped else decision


def _completion(value: Any) -> str:
    """A text, or the first of a list of text and stop reason."""
    return _text(value if isinstance(value, str) else value[0])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _result_votes(votes: Any) -> tuple[Judgments, Judgments]:
    """The votes of a line of `stj judge`, by the response that each vote's judge saw first."""
    if any(vote["shown_first"] not in ("A", "B") for vote in votes):
        raise ValueError("a response that is neither A nor B")
    first, second = (
        [RecordedJudgment(_text(vote["text"]), scores=_scores(vote)) for vote in votes if vote["shown_first"] == label]
        for label in ("A", "B")
    )
    return first, second


def _scores(vote: Any) -> tuple[int | None, int | None] | None:
    """The scores of a pointwise vote; None for a vote on both responses."""
    if vote.get("scores") is None:
        return None
    first, second = vote["scores"]
    if any(type(score) not in (int, type(None)) for score in (first, second)):
        raise TypeError("not a score")
    return first, second


_SCHEMAS: dict[str, Callable[[Any], tuple[Judgments, Judgments]]] = {
    "judgments": _judgebench,
    "results": _llmbar,
    "votes": _result_votes,
}
