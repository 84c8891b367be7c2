"""Recorded judgments: what somebody's judge wrote, read back from a file without a model.

A row holds the texts of both orders, and which response is the better one. The fields, of which a row has one of each kind:

    texts    judgment_ab, judgment_ba    the first response shown as A, the second shown as A. A list of texts is votes, and
                                         their majority is the verdict; null is a judgment without text. One of the two alone
                                         is a judgment in one order (as RewardBench's own, whose order is random)
             g1_judgment, g2_judgment    FastChat's own names for these
             judgments                   JudgeBench's: one or two of {"judgment": {"response": text}}; rewardbench2: an object
                                         from the label under which the good answer was shown (A to D) to the text
             results                     LLMBar's: the last one's "swap = False" and "swap = True"
             ratings                     rewardbench2: the text, or the number from 1 to 10, of each answer, the good ones first
    better   winner or label             A, B, response_a, model_a, A>B, 1, ...; not needed where the first response is the
                                         benchmark's `chosen` one (rewardbench, rmbench, hhh). mtbench takes human votes instead
    subset   as the benchmark has it     subset, source and response_model, question_id and turn, domain and styles
    id       id, pair_id or the like     optional; unique in its subset
    answers  response_a and response_b, chosen and rejected, response_A and ..., output_1 and ...: optional, for the baselines
    num_correct                          rewardbench2's Ties: how many of the ratings are those of good answers

mtbench rows without texts may have `winner`, a combined verdict (lmsys's gpt4_pair).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, JudgedExample, SourceRecord, id_of, read_found
from stj.evals.metrics import VerdictsByOrder
from stj.sources.dialogue import wrong_type
from stj.sources.files import Fields, not_empty
from stj.sources.ids import Seen, given_id, numbered
from stj.verdict import RATING, Format, Label, Parser, Verdict, majority, other, parse, rating

Texts = dict[Label, list[str | None]]
"""What was written, by the label under which the better answer was shown."""
_ORDERED = (("judgment_ab", "judgment_ba"), ("g1_judgment", "g2_judgment"))
_ANSWERS = (("response_a", "response_b"), ("chosen", "rejected"), ("response_A", "response_B"), ("output_1", "output_2"))
_IDS = ("id", "pair_id", "question_id", "model_1", "model_2", "model_a", "model_b", "turn")
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
    """The rows of a file of recorded judgments, in order. Raises SourceError."""
    return not_empty(read_found(file, "FILE", _KNOWN), f"{file}: holds no recorded judgments")


def judged(found: Iterable[SourceRecord], benchmark: Benchmark, parser: Parser) -> Iterator[JudgedExample]:
    """What the rows say, by one of the two parsers.

    Raises SourceError for a row that cannot be read, and for one whose id came before.
    """
    seen = Seen()
    for number, one in enumerate(found):
        subset = benchmark.subset(one)
        row_id = _id(one, benchmark, subset)
        if row_id is not None:
            given_id(row_id, "id", one.where, seen)
        yield _judged(one, benchmark, parser, JudgedExample(id=row_id or numbered(number), subset=subset, said={}))


def _judged(found: SourceRecord, benchmark: Benchmark, parser: Parser, row: JudgedExample) -> JudgedExample:
    if benchmark.candidates:
        return _of_candidates(found, benchmark.wording, parser, row)
    if benchmark.said is not None and "winner" in found.record and not _has_texts(found.record):
        return replace(row, said=benchmark.said(found))
    better = benchmark.better(found)
    orders: tuple[Label, Label] = (better, other(better))
    texts = {order: own for order, own in zip(orders, _texts(found), strict=True) if own is not None}
    said = _said(texts, benchmark.wording, parser)
    return replace(row, said=said, sizes=_sizes(found.record, better))


def _of_candidates(found: SourceRecord, wording: Format, parser: Parser, row: JudgedExample) -> JudgedExample:
    if found.record.get("ratings") is not None:
        ratings, good = _ratings(found, parser)
        return replace(row, ratings=ratings, good=good)
    Fields(required=("judgments",)).check(found.record, found.where)
    texts = {label: _votes(text, f"judgments.{label}", found.where) for label, text in _by_place(found).items()}
    return replace(row, said=_said(texts, wording, parser))


def _said(texts: Mapping[Label, list[str | None]], wording: Format, parser: Parser) -> VerdictsByOrder:
    """One verdict an order: of several texts, the majority."""
    return {label: [majority([_parsed(text, wording, parser) for text in own])] for label, own in texts.items()}


def _parsed(text: str | None, wording: Format, parser: Parser) -> Verdict | None:
    return None if text is None else parse(text, wording, parser)


def _has_texts(record: Mapping[str, Any]) -> bool:
    return any(record.get(name) is not None for names in (*_ORDERED, ("judgments", "results")) for name in names)


def _texts(found: SourceRecord) -> list[list[str | None] | None]:
    """The texts with the first response shown as A, and with the second; None for an order that was not judged."""
    for names in _ORDERED:
        if any(name in found.record for name in names):
            return [_votes(found.record[name], name, found.where) if name in found.record else None for name in names]
    for name, reader in _OWN_SCHEMAS.items():
        if name in found.record:
            try:
                texts = [_votes(text, name, found.where) for text in reader(found.record[name])]
            except (KeyError, IndexError, TypeError, ValueError, AttributeError):
                raise SourceError(f"{found.where}: field '{name}' is not in its benchmark's schema") from None
            return [*texts, None][:2]
    raise SourceError(
        f"{found.where}: no judgments: give 'judgment_ab' and 'judgment_ba', or FastChat's 'g1_judgment' and 'g2_judgment'; "
        f"the fields there are {', '.join(repr(name) for name in found.record) or 'none'}"
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
    said = [results[-1][f"swap = {swapped}"]["completion"] for swapped in (False, True)]
    return [text if isinstance(text, str) else text[0] for text in said]  # the text alone, or beside why it ended


_OWN_SCHEMAS: dict[str, Callable[[Any], list[Any]]] = {"judgments": _judgebench, "results": _llmbar}


def _by_place(found: SourceRecord) -> dict[Label, Any]:
    """RewardBench 2's texts, by the place of the good answer."""
    texts = found.record["judgments"]
    if not isinstance(texts, dict) or not texts or not texts.keys() <= set("ABCD"):
        raise wrong_type(texts, "judgments", "an object from A, B, C and D to texts", found.where)
    return dict(sorted(texts.items()))


def _ratings(found: SourceRecord, parser: Parser) -> tuple[tuple[float | None, ...], int]:
    """The ratings, and how many of them are those of good answers."""
    ratings, good = found.record["ratings"], found.record.get("num_correct") or 1
    if not isinstance(ratings, list) or not all(isinstance(rated, str | None) or _is_rating(rated) for rated in ratings):
        raise wrong_type(ratings, "ratings", "a list of texts, or numbers from 1 to 10", found.where)
    if isinstance(good, bool) or not isinstance(good, int) or not 1 <= good < len(ratings):
        raise wrong_type(good, "num_correct", f"a number from 1 to {len(ratings) - 1}, below that of the ratings", found.where)
    return tuple(rating(_parsed(r, RATING, parser)) if isinstance(r, str | None) else float(r) for r in ratings), good


def _is_rating(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 10


def _sizes(record: Mapping[str, Any], better: Label) -> tuple[int, int] | None:
    for names in _ANSWERS:
        first, second = (record.get(name) for name in names)
        if isinstance(first, str) and isinstance(second, str):
            return (len(first), len(second)) if better == "A" else (len(second), len(first))
    return None


def _id(found: SourceRecord, benchmark: Benchmark, subset: str) -> str | None:
    """The id of a row in its subset; None where it has none."""
    if benchmark.recorded_id is not None:
        return benchmark.recorded_id(found)
    given = {name: id_of(found.record[name], name, found.where) for name in _IDS if found.record.get(name) is not None}
    own = [given[name] for name in ("id", "pair_id") if name in given][:1]  # unique by itself, whatever stands beside it
    return "/".join((subset, *(own or given.values()))) if given else None
