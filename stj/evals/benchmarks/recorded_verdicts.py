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
from stj.thoughts import answer_of
from stj.verdict import DECISION, RATING, TIE, Format, Parser, Verdict, parse, rating

_ORDERED = (("judgment_ab", "judgment_ba"), ("g1_judgment", "g2_judgment"))
_WINS = {"1": "A>B", "2": "B>A"}
_TURNED = {"A>B": "B>A", "B>A": "A>B"}


class RecordedJudgment(NamedTuple):
    """One judgment of a file, in the order in which its judge saw the answers."""

    text: str
    decision: str | None = None
    """The decision that the file records, as in "A>B"; None if its authors read none."""
    decided: bool = False
    """Whether the file records decisions."""
    ratings: tuple[str, ...] = ()
    """The texts of the ratings of both answers, if the judge rated each alone."""


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
    for names in _ORDERED:
        if any(name in record.values for name in names):
            first, second = (votes_of(record.values.get(name), name, record.where) for name in names)
            return first, second
    for name, reader in _SCHEMAS.items():
        if name in record.values:
            try:
                return reader(record.values[name])
            except (KeyError, IndexError, TypeError, ValueError, AttributeError):
                raise SourceError(f"{record.where}: field '{name}' is not in its benchmark's schema") from None
    return (), ()


def votes_of(value: object, field: str, where: str) -> Judgments:
    """The judgments of one order, a text or a list of texts, without those that were not asked for (null)."""
    texts = [text for text in (value if isinstance(value, list) else [value]) if text is not None]
    for text in texts:
        if not isinstance(text, str):
            raise wrong_type(text, field, "the judge's text, a list of texts, or null", where)
    return [RecordedJudgment(text) for text in texts]


def _by_ratings(texts: Sequence[str], parser: Parser) -> Verdict | None:
    first, second = (rating(parse(answer_of(text), RATING, parser)) for text in texts)
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
    if game is None:
        return ()
    judgment = game["judgment"] if game.get("judgment") or "decision" not in game else {"response": None}
    text = judgment["response"] if "decision" not in game else judgment.get("response")
    if text is None and game.get("decision") is None:
        return ()
    return [RecordedJudgment(_text(text or ""), _optional_text(game.get("decision")), "decision" in game)]


def _llmbar(results: Any) -> tuple[Judgments, Judgments]:
    """Both orders of the last result: a completion each, or one rating of each output."""
    if not results:
        return (), ()
    result = results[-1]
    orders = [result[f"swap = {swapped}"] for swapped in (False, True)]
    decisions = [_winner(order) for order in orders]
    decided = ["winner" in order for order in orders]
    if "score_1" in result:
        scores = [_completion(result[f"score_{place}"]) for place in (1, 2)]
        texts = [("", tuple(scores)), ("", tuple(reversed(scores)))]
    else:
        texts = [(_completion(order["completion"]), ()) for order in orders]
    first, second = (
        [RecordedJudgment(text, decision, known, ratings)]
        for (text, ratings), decision, known in zip(texts, (decisions[0], _turned(decisions[1])), decided, strict=True)
    )
    return first, second


def _winner(order: Any) -> str | None:
    """LLMBar's winner as a decision between its first and second output, in any order."""
    winner = order.get("winner")
    return None if winner is None else _WINS[str(winner)]


def _turned(decision: str | None) -> str | None:
    return None if decision is None else _TURNED[decision]


def _completion(value: Any) -> str:
    """A text, or the first of a list of text and stop reason."""
    return _text(value if isinstance(value, str) else value[0])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


_SCHEMAS: dict[str, Callable[[Any], tuple[Judgments, Judgments]]] = {"judgments": _judgebench, "results": _llmbar}
