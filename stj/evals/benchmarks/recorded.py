"""Recorded judgments: any judge's texts, read from a file without a model.

A row holds the texts of both orders, and which response is better. It has one field, or one pair of fields, of each kind:

    texts    judgment_ab, judgment_ba    the first response shown as A, the second shown as A. A list of texts is votes, and
                                         their majority is the verdict; null is a judgment without text. One of the two alone
                                         is a judgment in one order (as RewardBench's own, whose order is random)
             g1_judgment, g2_judgment    FastChat's names for these
             judgments                   JudgeBench: one or two of {"judgment": {"response": text}}; rewardbench2: an object
                                         from the label under which the good answer was shown (A to D) to the text
             results                     LLMBar: the last member's "swap = False" and "swap = True"
             ratings                     rewardbench2: the text, or the number from 1 to 10, of each answer, the good ones first
    better   winner or label             A, B, response_a, model_a, A>B, 1, ...; not needed if the first response is the
                                         benchmark's `chosen` one (rewardbench, rmbench, hhh). mtbench takes human votes instead
    subset   the benchmark's own fields  subset, source and response_model, question_id and turn, domain and styles
    id       id, pair_id or the like     optional; unique in its subset
    answers  response_a and response_b, chosen and rejected, response_A and ..., output_1 and ...: optional, for the baselines
    num_correct                          rewardbench2's Ties: the number of ratings of good answers

Of a text by a thinking model, only the answer behind its thought is read.

mtbench rows without texts may have `winner`, a combined verdict (lmsys's gpt4_pair).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, JudgedExample, SourceRecord, id_of, read_records
from stj.evals.metrics import VerdictsByOrder
from stj.sources.dialogue import wrong_type
from stj.sources.files import Fields, not_empty
from stj.sources.ids import Seen, given_id, joined_id, numbered
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
_ANSWERS = (("response_a", "response_b"), ("chosen", "rejected"), ("response_A", "response_B"), ("output_1", "output_2"))
_IDS = ("id", "pair_id", "question_id", "model_1", "model_2", "model_a", "model_b", "turn")
_WORDINGS = (PAIR, FIVE_ALONE, RESULT, OUTPUT, GRADE)
_KNOWN = Fields(
    required=(),
    optional=tuple(
        dict.fromkeys(
            (
                *(name for names in (*_ORDERED, *_ANSWERS) for name in names),
                *("judgments", "results", "ratings", "num_correct", "winner", "label", "subset", "source", "domain"),
                "response_model",
                *("styles", *_IDS),
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
    seen = Seen()
    for number, record in enumerate(records):
        subset = benchmark.subset(record)
        row_id = _recorded_id(record, benchmark, subset)
        if row_id is not None:
            given_id(row_id, "id", record.where, seen)
        example = JudgedExample(id=row_id or numbered(number), subset=subset, verdicts={})
        if (reason := benchmark.without_better(record)) is not None:
            yield replace(example, unjudged=reason)
        else:
            yield _judged(record, benchmark, parser, example)


def seen_instead(file: str, benchmark: Benchmark) -> str:
    """A line about a file without any verdict: the form that its first judgment has instead, and the end of that judgment."""
    first = next((text for record in read_recorded(file) for text in _written(record)), "")
    forms = [wording.form for wording in _WORDINGS if parse(first, wording, "distinct") is not None]
    seen = f"this file seems to have {forms[0]}" if forms else "this file has no known form"
    end = visible_line(first.strip()[-60:])
    return f'no verdict in any judgment: {benchmark.name} expects {benchmark.wording.form}, and {seen}; one ends with "{end}"'


def _written(record: SourceRecord) -> Iterator[str]:
    if _has_texts(record.values):
        for votes in _texts(record):
            yield from (text for text in votes or () if text)


def _judged(record: SourceRecord, benchmark: Benchmark, parser: Parser, example: JudgedExample) -> JudgedExample:
    if benchmark.candidates:
        return _judged_candidates(record, benchmark.wording, parser, example)
    if benchmark.recorded_verdicts is not None and "winner" in record.values and not _has_texts(record.values):
        return replace(example, verdicts=benchmark.recorded_verdicts(record))
    better = benchmark.better(record)
    orders: tuple[Label, Label] = (better, other(better))
    texts = {order: votes for order, votes in zip(orders, _texts(record), strict=True) if votes is not None}
    verdicts = _verdicts(texts, benchmark.wording, parser)
    return replace(example, verdicts=verdicts, sizes=_sizes(record.values, better))


def _judged_candidates(record: SourceRecord, wording: Format, parser: Parser, example: JudgedExample) -> JudgedExample:
    if record.values.get("ratings") is not None:
        ratings, good = _ratings(record, parser)
        return replace(example, ratings=ratings, good=good)
    Fields(required=("judgments",)).check(record.values, record.where)
    texts = {label: _votes(text, f"judgments.{label}", record.where) for label, text in _by_place(record).items()}
    return replace(example, verdicts=_verdicts(texts, wording, parser))


def _verdicts(texts: Mapping[Label, list[str | None]], wording: Format, parser: Parser) -> VerdictsByOrder:
    """One verdict for each order: the majority of its texts."""
    return {label: [majority([_parsed(text, wording, parser) for text in votes])] for label, votes in texts.items()}


def _parsed(text: str | None, wording: Format, parser: Parser) -> Verdict | None:
    return None if text is None else parse(answer_of(text), wording, parser)


def _has_texts(values: Mapping[str, Any]) -> bool:
    return any(values.get(name) is not None for names in (*_ORDERED, ("judgments", "results")) for name in names)


def _texts(record: SourceRecord) -> list[list[str | None] | None]:
    """The texts with the first response shown as A, and with the second; None for an order without judgments."""
    for names in _ORDERED:
        if any(name in record.values for name in names):
            return [_votes(record.values[name], name, record.where) if name in record.values else None for name in names]
    for name, reader in _PUBLISHED_SCHEMAS.items():
        if name in record.values:
            try:
                texts = [_votes(text, name, record.where) for text in reader(record.values[name])]
            except (KeyError, IndexError, TypeError, ValueError, AttributeError):
                raise SourceError(f"{record.where}: field '{name}' is not in its benchmark's schema") from None
            return [*texts, None][:2]
    raise SourceError(
        f"{record.where}: no judgments: give 'judgment_ab' and 'judgment_ba', or FastChat's 'g1_judgment' and 'g2_judgment'; "
        f"the fields there are {', '.join(repr(name) for name in record.values) or 'none'}"
    )


def _votes(value: object, field: str, where: str) -> list[str | None]:
    texts = value if isinstance(value, list) and value else [value]
    wrong = [text for text in texts if text is not None and not isinstance(text, str)]
    if wrong:
        raise wrong_type(wrong[0], field, "the judge's text, a list of texts, or null", where)
    return list(texts)


def _judgebench(games: Any) -> list[Any]:
    first, *second = games
    if len(second) > 1:
        raise ValueError("more than two games")
    return [game and game["judgment"]["response"] for game in (first, *second)]


def _llmbar(results: Any) -> list[Any]:
    completions = [results[-1][f"swap = {swapped}"]["completion"] for swapped in (False, True)]
    return [text if isinstance(text, str) else text[0] for text in completions]  # A text, or a list of text and stop reason.


_PUBLISHED_SCHEMAS: dict[str, Callable[[Any], list[Any]]] = {"judgments": _judgebench, "results": _llmbar}


def _by_place(record: SourceRecord) -> dict[Label, Any]:
    """RewardBench 2's texts, by the place of the good answer."""
    texts = record.values["judgments"]
    if not isinstance(texts, dict) or not texts or not texts.keys() <= set("ABCD"):
        raise wrong_type(texts, "judgments", "an object from A, B, C and D to texts", record.where)
    return dict(sorted(texts.items()))


def _ratings(record: SourceRecord, parser: Parser) -> tuple[tuple[float | None, ...], int]:
    """The ratings, and the number of good answers among them."""
    ratings, good = record.values["ratings"], record.values.get("num_correct") or 1
    if not isinstance(ratings, list) or not all(isinstance(rated, str | None) or _is_rating(rated) for rated in ratings):
        raise wrong_type(ratings, "ratings", "a list of texts, or numbers from 1 to 10", record.where)
    if isinstance(good, bool) or not isinstance(good, int) or not 1 <= good < len(ratings):
        raise wrong_type(
            good, "num_correct", f"a number from 1 to {len(ratings) - 1}, below the number of ratings", record.where
        )
    return tuple(rating(_parsed(r, RATING, parser)) if isinstance(r, str | None) else float(r) for r in ratings), good


def _is_rating(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 10


def _sizes(values: Mapping[str, Any], better: Label) -> tuple[int, int] | None:
    for names in _ANSWERS:
        first, second = (values.get(name) for name in names)
        if isinstance(first, str) and isinstance(second, str):
            return (len(first), len(second)) if better == "A" else (len(second), len(first))
    return None


def _recorded_id(record: SourceRecord, benchmark: Benchmark, subset: str) -> str | None:
    """The id of a row in its subset; None if it has none."""
    if benchmark.recorded_id is not None:
        return benchmark.recorded_id(record)
    given = {name: id_of(record.values[name], name, record.where) for name in _IDS if record.values.get(name) is not None}
    unique = [given[name] for name in ("id", "pair_id") if name in given][:1]  # These need no other field to be unique.
    return joined_id(subset, *(unique or given.values())) if given else None
