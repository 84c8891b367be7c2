"""Recorded judgments: any judge's texts, read from a file without a model.

A row holds the texts of both orders, and which response is better. It has one field, or one pair of fields, of each kind:

    texts    judgment_ab, judgment_ba    the first response shown as A, the second shown as A. A list of texts is votes, and
                                         their majority is the verdict; null is a judgment that was not asked for, "" one
                                         without a verdict. One of the two alone is a judgment in one order (as RewardBench's
                                         own, whose order is random)
             g1_judgment, g2_judgment    FastChat's names for these
             judgments                   JudgeBench: one or two of {"judgment": {"response": text}}; rewardbench2: an object
                                         from the label under which the good answer was shown (A to D) to the text
             results                     LLMBar: the last member's "swap = False" and "swap = True"
             ratings                     rewardbench2: the text, or the number from 1 to 10, of each answer, the good ones first
             votes                       the lines of `stj judge`: each vote's shown_first and text
    better   label or winner             A, B, response_a, model_a, A>B, 1, ...; not needed if the first response is the
                                         benchmark's `chosen` one (rewardbench, rmbench, hhh). mtbench takes human votes
                                         instead. A judge's own `winner` is not the truth (stj/sources/truth.py)
    subset   the benchmark's own fields  subset, source and response_model, question_id and turn, domain and styles
    id       id, pair_id or question_id  optional; unique in its subset, a question_id with its models and turn
    judge    judge, judge_name, ...      optional; the judgments of several judges are refused (judge_names.py)
    answers  response_a and response_b, chosen and rejected, response_A and ..., output_1 and ...: optional, for the baselines
    num_correct                          rewardbench2's Ties: the number of ratings of good answers

Of a text by a thinking model, only the answer behind its thought is read.

mtbench rows without texts may have `winner`, a combined verdict (lmsys's gpt4_pair). Its orders are not known: it has no
accuracy by order and no position consistency. A row in which nothing was asked counts as not judged.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.asked import NOT_ASKED, without_nulls
from stj.evals.benchmarks.base import Benchmark, JudgedExample, SourceRecord, read_records
from stj.evals.benchmarks.judge_names import JUDGE_FIELDS, RESULT_FIELDS, JudgeNames
from stj.evals.metrics import VerdictsByOrder
from stj.prompts.variants import VARIANTS
from stj.sources.dialogue import wrong_type
from stj.sources.files import Fields, not_empty
from stj.sources.ids import RowId, Seen, id_of, numbered, refuse_seen
from stj.sources.truth import CHOSEN, JUDGES_WINNERS, RESPONSES, better_response
from stj.text import visible_line
from stj.thoughts import answer_of
from stj.verdict import (
    FIVE_ALONE,
    GRADE,
    OUTPUT,
    PAIR,
    RATING,
    RESULT,
    Format,
    Label,
    Parser,
    Verdict,
    majority,
    other,
    parse,
    rating,
)

_ORDERED = (("judgment_ab", "judgment_ba"), ("g1_judgment", "g2_judgment"))
_ANSWERS = (*RESPONSES, CHOSEN)
_JUDGMENTS = (*(name for names in _ORDERED for name in names), "judgments", "results", "votes", "ratings")
_IDS = ("id", "pair_id")
_QUESTION = "question_id"
_OF_QUESTION = ("model_1", "model_2", "model_a", "model_b", "turn")
"""Fields that make a question's id unique; without it they are no ids."""
_CONTENT = ("instruction", "prompt", "input", "question", *(name for names in _ANSWERS for name in names))
"""Fields that tell two examples without ids apart."""
_NO_WINNER = "no winner"
"""Why a line of `stj judge` is not scored: its file does not say which response is better."""
_WORDINGS = (PAIR, FIVE_ALONE, RESULT, OUTPUT, GRADE)
_KNOWN = Fields(
    required=(),
    optional=tuple(
        dict.fromkeys(
            (
                *(name for names in (*_ORDERED, *_ANSWERS) for name in names),
                *("judgments", "results", "ratings", "num_correct", "winner", "label", "subset", "source", "domain"),
                *("response_model", "styles", *_IDS, _QUESTION, *_OF_QUESTION),
                *("instruction", "prompt", "input", "question", "votes", "error"),
                *(*JUDGE_FIELDS, *RESULT_FIELDS, *JUDGES_WINNERS),
            )
        )
    ),
)


def read_recorded(file: str) -> Iterator[SourceRecord]:
    """The rows of a file of recorded judgments, in order. Raises SourceError if the file cannot be read, or is empty."""
    return not_empty(read_records(file, "FILE", _KNOWN), f"{file}: holds no recorded judgments")


def judged_records(records: Iterable[SourceRecord], benchmark: Benchmark, parser: Parser) -> Iterator[JudgedExample]:
    """The verdicts of the rows, by one of the parsers.

    Raises SourceError if a row cannot be read, or if its id came before.
    """
    judge, examples = JudgeNames(), _Examples()
    silent: SourceRecord | None = None  # The first record, until something was asked.
    asked = False
    for number, given in enumerate(records):
        record = without_nulls(given)
        judge.check(record)
        subset = benchmark.subset(record)
        row_id = _recorded_id(record, benchmark, subset)
        examples.check(row_id, subset, record)
        example = JudgedExample(id=row_id or (numbered(number),), subset=subset, verdicts={})
        judged = _judged(record, benchmark, parser, example)
        asked = asked or judged.unjudged != NOT_ASKED
        silent = silent or given
        yield judged
    if silent and not asked:
        raise _nothing_asked(silent, benchmark)


class _Examples:
    """The examples read so far. They are told apart by their ids; rows without ids only between the files of a directory."""

    def __init__(self) -> None:
        self._ids, self._contents, self._in_files = Seen(), Seen(), Seen()

    def check(self, row_id: RowId | None, subset: str, record: SourceRecord) -> None:
        """Raises SourceError if an earlier row has the id, or an earlier file the same pair without an id."""
        if row_id is not None:
            refuse_seen(row_id, "id", record.where, self._ids)
            return
        content = tuple(repr(record.values[name]) for name in _CONTENT if name in record.values)
        new_in_file = self._in_files.add((record.origin, subset, *content))
        if content and not self._contents.add((subset, *content)) and new_in_file:
            raise SourceError(
                f"{record.where}: an earlier file has the same pair, both without an id: the judgments of several judges are "
                "not pooled; give the file of one judge"
            )


def _nothing_asked(record: SourceRecord, benchmark: Benchmark) -> SourceError:
    """The error for a file without any judgment."""
    wanted = ("judgments", "ratings") if benchmark.candidates else _JUDGMENTS
    if empty := [repr(name) for name in wanted if name in record.values]:
        return SourceError(f"{record.where}: no judgment was asked for: no row has a text in {', '.join(empty)}")
    fields = ", ".join(repr(name) for name in record.values) or "none"
    if benchmark.candidates:
        return SourceError(f"{record.where}: no field 'judgments', and no 'ratings'; the fields there are {fields}")
    return SourceError(
        f"{record.where}: no judgments: give 'judgment_ab' and 'judgment_ba', or FastChat's 'g1_judgment' and 'g2_judgment'; "
        f"the fields there are {fields}"
    )


def seen_instead(file: str, benchmark: Benchmark) -> str:
    """A line about a file without any verdict: the form that its first judgment has instead, and the end of that judgment."""
    first = next((text for record in map(without_nulls, read_recorded(file)) for text in _written(record)), "")
    forms = [wording.form for wording in _WORDINGS if parse(first, wording, "distinct") is not None]
    seen = f"this file seems to have {forms[0]}" if forms else "this file has no known form"
    end = visible_line(first.strip()[-60:])
    return f'no verdict in any judgment: {benchmark.name} expects {benchmark.wording.form}, and {seen}; one ends with "{end}"'


def _written(record: SourceRecord) -> Iterator[str]:
    for votes in _texts(record):
        yield from (text for text in votes if text)


def _judged(record: SourceRecord, benchmark: Benchmark, parser: Parser, example: JudgedExample) -> JudgedExample:
    if benchmark.candidates:
        return _judged_candidates(record, benchmark.wording, parser, example)
    texts = _texts(record)
    if benchmark.recorded_verdict is not None and "winner" in record.values and not any(texts):
        return replace(example, verdicts={"A": [benchmark.recorded_verdict(record)]}, orders_known=False)
    if "votes" in record.values and (unscored := _unscored_result(record)):
        return replace(example, verdicts={"A": [None], "B": [None]} if unscored == "failed" else {}, unjudged=unscored)
    better = benchmark.better(record)
    orders: tuple[Label, Label] = (better, other(better))
    asked = {order: votes for order, votes in zip(orders, texts, strict=True) if votes}
    if not asked:
        return replace(example, unjudged=NOT_ASKED)
    verdicts = _verdicts(asked, _wording(record, benchmark), parser)
    return replace(example, verdicts=verdicts, sizes=_sizes(record.values, better))


def _unscored_result(record: SourceRecord) -> str | None:
    """Why a line of `stj judge` cannot be scored: its pair failed, or its better response is not known."""
    if "error" in record.values:
        return "failed"
    return _NO_WINNER if better_response(record.values, record.where) is None else None


def _wording(record: SourceRecord, benchmark: Benchmark) -> Format:
    """The form of a row's verdicts: that of its prompt for the lines of `stj judge`."""
    prompt = record.values.get("prompt") if "votes" in record.values else None
    return VARIANTS[prompt].wording if isinstance(prompt, str) and prompt in VARIANTS else benchmark.wording


def _judged_candidates(record: SourceRecord, wording: Format, parser: Parser, example: JudgedExample) -> JudgedExample:
    if "ratings" in record.values:
        rated = _ratings(record)
        if None in rated:
            return replace(example, unjudged=NOT_ASKED if not any(rated) else "not all rated")
        ratings = tuple(rating(_parsed(r, RATING, parser)) if isinstance(r, str) else r for r in rated)
        return replace(example, ratings=ratings, good=_good(record, len(ratings)))
    texts = {label: _votes(text, f"judgments.{label}", record.where) for label, text in _by_place(record).items()}
    asked = {label: votes for label, votes in texts.items() if votes}
    if not asked:
        return replace(example, unjudged=NOT_ASKED)
    return replace(example, verdicts=_verdicts(asked, wording, parser))


def _verdicts(texts: Mapping[Label, list[str]], wording: Format, parser: Parser) -> VerdictsByOrder:
    """One verdict for each order: the majority of its texts."""
    return {label: [majority([_parsed(text, wording, parser) for text in votes])] for label, votes in texts.items()}


def _parsed(text: str, wording: Format, parser: Parser) -> Verdict | None:
    return parse(answer_of(text), wording, parser)


def _texts(record: SourceRecord) -> tuple[list[str], list[str]]:
    """The texts with the first response shown as A, and those with the second; none for an order that was not asked."""
    for names in _ORDERED:
        if any(name in record.values for name in names):
            first, second = (_votes(record.values.get(name), name, record.where) for name in names)
            return first, second
    for name, reader in _SCHEMAS.items():
        if name in record.values:
            try:
                first, second = (_votes(text, name, record.where) for text in reader(record.values[name]))
            except (KeyError, IndexError, TypeError, ValueError, AttributeError):
                raise SourceError(f"{record.where}: field '{name}' is not in its benchmark's schema") from None
            return first, second
    return [], []


def _votes(value: object, field: str, where: str) -> list[str]:
    """The texts of one order, without those that were not asked for."""
    texts: list[Any] = [text for text in (value if isinstance(value, list) else [value]) if text is not None]
    for text in texts:
        if not isinstance(text, str):
            raise wrong_type(text, field, "the judge's text, a list of texts, or null", where)
    return texts


def _judgebench(games: Any) -> tuple[Any, Any]:
    """The responses of one or two games; None for a game that was not played."""
    first, *others = [_member(_member(game, "judgment", "decision"), "response", "judge_model", "prompt") for game in games]
    if len(others) > 1:
        raise ValueError("more than two games")
    return first, others[0] if others else None


def _llmbar(results: Any) -> tuple[Any, Any]:
    """The completions of the last result, each a text or a list of text and stop reason."""
    if not results:
        return None, None
    orders = [_member(results[-1], f"swap = {swapped}", f"swap = {not swapped}") for swapped in (False, True)]
    first, second = (_member(order, "completion", "winner") for order in orders)
    return first if isinstance(first, str) else first and first[0], second if isinstance(second, str) else second and second[0]


def _result_votes(votes: Any) -> tuple[Any, Any]:
    """The votes of a line of `stj judge`, by the response that each vote's judge saw first."""
    if any(vote["shown_first"] not in ("A", "B") for vote in votes):
        raise ValueError("a response that is neither A nor B")
    first, second = ([vote["text"] for vote in votes if vote["shown_first"] == label] for label in ("A", "B"))
    return first, second


def _member(value: Any, name: str, *others: str) -> Any:
    """A member of an object, None if the object or the member is null. Raises KeyError if it has none of these members."""
    if value is None or (value and value.get(name) is None and not value.keys().isdisjoint((name, *others))):
        return None
    return value[name] if value else None


_SCHEMAS: dict[str, Callable[[Any], tuple[Any, Any]]] = {"judgments": _judgebench, "results": _llmbar, "votes": _result_votes}


def _by_place(record: SourceRecord) -> dict[Label, Any]:
    """RewardBench 2's texts, by the place of the good answer."""
    texts = record.values.get("judgments", {})
    if not isinstance(texts, dict) or not texts.keys() <= set("ABCD"):
        raise wrong_type(texts, "judgments", "an object from A, B, C and D to texts", record.where)
    return dict(sorted(texts.items()))


def _ratings(record: SourceRecord) -> list[str | float | None]:
    """The ratings of the answers: texts, numbers, or None for an answer whose rating was not asked for."""
    ratings = record.values["ratings"]
    if not isinstance(ratings, list) or not all(isinstance(rated, str | None) or _is_rating(rated) for rated in ratings):
        raise wrong_type(ratings, "ratings", "a list of texts, or numbers from 1 to 10", record.where)
    return [rated if isinstance(rated, str | None) else float(rated) for rated in ratings]


def _good(record: SourceRecord, ratings: int) -> int:
    """The number of good answers among the rated ones."""
    good = record.values.get("num_correct") or 1
    if isinstance(good, float) and good.is_integer():  # pandas writes whole numbers so, if the column has a gap.
        good = int(good)
    if isinstance(good, bool) or not isinstance(good, int) or not 1 <= good < ratings:
        wanted = f"a number from 1 to {ratings - 1}, below the number of ratings"
        raise wrong_type(good, "num_correct", wanted, record.where)
    return good


def _is_rating(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 10


def _sizes(values: Mapping[str, Any], better: Label) -> tuple[int, int] | None:
    for names in _ANSWERS:
        first, second = (values.get(name) for name in names)
        if isinstance(first, str) and isinstance(second, str):
            return (len(first), len(second)) if better == "A" else (len(second), len(first))
    return None


def _recorded_id(record: SourceRecord, benchmark: Benchmark, subset: str) -> RowId | None:
    """The id of a row; None if it has none."""
    if benchmark.recorded_id is not None:
        return benchmark.recorded_id(record)
    for name in _IDS:
        if name in record.values:
            return subset, id_of(record.values[name], name, record.where)
    if _QUESTION not in record.values:
        return None
    others = [str(record.values.get(name, "")) for name in _OF_QUESTION]
    return subset, _QUESTION, id_of(record.values[_QUESTION], _QUESTION, record.where), *others
