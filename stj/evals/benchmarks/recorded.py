"""Recorded judgments: any judge's texts, read from a file without a model.

A row holds the texts of both orders, and which response is better. It has one field, or one pair of fields, of each kind:

    texts    judgment_ab, judgment_ba    the first response shown as A, the second shown as A. A list of texts is votes, and
                                         their majority is the verdict; null is a judgment that was not asked for, "" one
                                         without a verdict. One of the two alone is a judgment in one order (as RewardBench's
                                         own, whose order is random)
             g1_judgment, g2_judgment    FastChat's names for these
             judgments                   JudgeBench: one or two of {"judgment": {"response": text}, "decision": "A>B"}, of
                                         which a reward model has only the decision; rewardbench2: an object from the label
                                         under which the good answer was shown (A to D) to the text
             results                     LLMBar: the last member's "swap = False" and "swap = True", with completion and
                                         winner; a Rating evaluator has score_1 and score_2 instead of completions
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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.asked import NOT_ASKED, without_nulls
from stj.evals.benchmarks.base import Benchmark, JudgedExample, SourceRecord, read_records
from stj.evals.benchmarks.judge_names import RESULT_FIELDS, JudgeNames
from stj.evals.benchmarks.ppe_human import PPE_HUMAN
from stj.evals.benchmarks.recorded_verdicts import TEXT_FIELDS, Judgments, ReadAs, judgments_of, recorded_judgments
from stj.evals.benchmarks.rewardbench2 import is_tied
from stj.evals.benchmarks.unread import Unread
from stj.evals.metrics import VerdictsByOrder
from stj.prompts.variants import VARIANTS
from stj.sources.dialogue import wrong_type
from stj.sources.files import not_empty
from stj.sources.ids import RowId, Seen, id_of, numbered, refuse_seen
from stj.sources.records import Fields
from stj.sources.truth import CHOSEN, JUDGE_FIELDS, JUDGES_WINNERS, RESPONSES, better_response
from stj.thoughts import answer_of
from stj.verdict import BEST_OF_FOUR, FORMATS, RATING, Format, Label, Parser, majority, other, parse, rating

_ANSWERS = (*RESPONSES, CHOSEN)
_JUDGMENTS = (*(name for names in TEXT_FIELDS for name in names), "judgments", "results", "votes", "ratings")
_IDS = ("id", "pair_id")
_QUESTION = "question_id"
_OF_QUESTION = ("model_1", "model_2", "model_a", "model_b", "turn")
"""Fields that make a question's id unique; without it they are no ids."""
_CONTENT = ("instruction", "prompt", "input", "question", *(name for names in _ANSWERS for name in names))
"""Fields that tell two examples without ids apart."""
_NO_WINNER = "no winner"
"""Why a line of `stj judge` is not scored: its file does not say which response is better."""
_KNOWN = Fields(
    required=(),
    optional=tuple(
        dict.fromkeys(
            (
                *(name for names in (*TEXT_FIELDS, *_ANSWERS) for name in names),
                *("judgments", "results", "ratings", "num_correct", "winner", "label", "subset", "source", "domain"),
                *("response_model", "styles", *_IDS, _QUESTION, *_OF_QUESTION),
                *("instruction", "prompt", "input", "question", "votes", "error", "format"),
                *PPE_HUMAN.fields.optional,
                *(*JUDGE_FIELDS, *RESULT_FIELDS, *JUDGES_WINNERS),
            )
        )
    ),
)


def read_recorded(file: str) -> Iterator[SourceRecord]:
    """The rows of a file of recorded judgments, in order. Raises SourceError if the file cannot be read, or is empty."""
    records = read_records(file, "FILE", _KNOWN, _without_statistics)
    return not_empty(records, f"{file}: holds no recorded judgments")


def judged_records(
    records: Iterable[SourceRecord], benchmark: Benchmark, parser: Parser, read_as: ReadAs | None = None
) -> Iterator[JudgedExample]:
    """The verdicts of the rows, by one of the parsers; if no format is given, in that of their judge or benchmark.

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
        reading = read_as or ReadAs(wording=wording_of(record, benchmark))
        unscored = benchmark.without_better(record)
        judged = replace(example, unjudged=unscored) if unscored else _judged(record, benchmark, reading, parser, example)
        asked = asked or judged.unjudged != NOT_ASKED
        silent = silent or given
        yield judged
    if silent and not asked:
        raise _nothing_asked(silent, benchmark)


def wording_of(record: SourceRecord, benchmark: Benchmark) -> Format:
    """The format of the judge or the prompt that a row names, else the benchmark's own."""
    return benchmark.recorded_wording(record) or _wording_of_prompt(record) or benchmark.wording


def _without_statistics(paths: Sequence[PurePath]) -> Sequence[PurePath]:
    """The files of a folder; LLMBar keeps the statistics.json of an evaluator beside its result.json."""
    folders = {path.parent for path in paths if path.name == "result.json"}
    return [path for path in paths if path.name != "statistics.json" or path.parent not in folders]


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


def _judged(
    record: SourceRecord, benchmark: Benchmark, read_as: ReadAs, parser: Parser, example: JudgedExample
) -> JudgedExample:
    if benchmark.candidates:
        return _judged_candidates(record, read_as, parser, example)
    judgments = recorded_judgments(record)
    if benchmark.recorded_verdict is not None and "winner" in record.values and not any(judgments):
        return replace(example, verdicts={"A": [benchmark.recorded_verdict(record)]}, orders_known=False)
    if "votes" in record.values and (unscored := _unscored_result(record)):
        return replace(example, verdicts={"A": [None], "B": [None]} if unscored == "failed" else {}, unjudged=unscored)
    if (reason := benchmark.without_better(record)) is not None:
        return replace(example, unjudged=reason)
    better = benchmark.better(record)
    orders: tuple[Label, Label] = (better, other(better))
    asked = {order: votes for order, votes in zip(orders, judgments, strict=True) if votes}
    if not asked:
        # JudgeBench writes null for a game that failed, and its authors count a pair of them as not right.
        unread: VerdictsByOrder = {"A": [None], "B": [None]} if record.values.get("judgments") else {}
        return replace(example, verdicts=unread, unjudged=NOT_ASKED)
    sizes, alone = _sizes(record.values, better), _is_decision_alone(judgments)
    return _with_verdicts(example, asked, read_as, parser, sizes=sizes, orders_known=not alone)


def _is_decision_alone(judgments: tuple[Judgments, Judgments]) -> bool:
    """Whether the judge saw each response alone, in no order: a pointwise judge, or a reward model, which writes no text."""
    (first, second) = judgments
    if first and all(judgment.scores is not None for judgment in first):
        return True
    return len(first) == 1 and not second and first[0].decided and not first[0].text


def _unscored_result(record: SourceRecord) -> str | None:
    """Why a line of `stj judge` cannot be scored: its pair failed, or its better response is not known."""
    if "error" in record.values:
        return "failed"
    return _NO_WINNER if better_response(record.values, record.where) is None else None


def _wording_of_prompt(record: SourceRecord) -> Format | None:
    """The format of the prompt of a line of `stj judge`; None for other rows, and for a prompt that is not known here."""
    if "votes" not in record.values:
        return None
    prompt, wording = record.values.get("prompt"), record.values.get("format")
    if isinstance(prompt, str) and prompt in VARIANTS:
        return VARIANTS[prompt].wording
    return FORMATS[wording] if isinstance(wording, str) and wording in FORMATS else None


def _judged_candidates(record: SourceRecord, read_as: ReadAs, parser: Parser, example: JudgedExample) -> JudgedExample:
    if "ratings" in record.values:
        rated = _ratings(record)
        if None in rated:
            return replace(example, unjudged=NOT_ASKED if not any(rated) else "not all rated")
        return _with_ratings(example, [r for r in rated if r is not None], _good(record, len(rated)), read_as, parser)
    texts = {label: judgments_of(text, f"judgments.{label}", record.where) for label, text in _by_place(record).items()}
    asked = {label: votes for label, votes in texts.items() if votes}
    if not asked:
        return replace(example, unjudged=NOT_ASKED)
    of_four = read_as if read_as.wording.answers == len("ABCD") else replace(read_as, wording=BEST_OF_FOUR)
    return _with_verdicts(example, asked, of_four, parser)


def _with_verdicts(
    example: JudgedExample,
    asked: Mapping[Label, Judgments],
    read_as: ReadAs,
    parser: Parser,
    *,
    sizes: tuple[int, int] | None = None,
    orders_known: bool = True,
) -> JudgedExample:
    """The example with one verdict for each order: the majority of its judgments."""
    read = {label: [(vote, read_as.verdict(vote, parser)) for vote in votes] for label, votes in asked.items()}
    return replace(
        example,
        sizes=sizes,
        orders_known=orders_known,
        verdicts={label: [majority([verdict for _, verdict in votes])] for label, votes in read.items()},
        judgments=sum(map(len, read.values())),
        unread=tuple(read_as.unread(vote) for votes in read.values() for vote, verdict in votes if verdict is None),
    )


def _with_ratings(
    example: JudgedExample, rated: Sequence[str | float], good: int, read_as: ReadAs, parser: Parser
) -> JudgedExample:
    """The example with the ratings of its answers, each a number or a text."""
    wording = read_as.wording if read_as.wording.answers == 1 else RATING
    ratings = tuple(rating(parse(answer_of(r), wording, parser)) if isinstance(r, str) else r for r in rated)
    unread = tuple(
        Unread(answer_of(r), wording) for r, read in zip(rated, ratings, strict=True) if read is None and isinstance(r, str)
    )
    judgments = sum(isinstance(r, str) for r in rated)
    return replace(example, ratings=ratings, good=good, judgments=judgments, unread=unread)


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
    """The number of good answers among the rated ones: one, except in the rows "tied" of Ties, which must say it."""
    if is_tied(record):
        Fields(required=("num_correct",)).check(record.values, record.where)
    good = record.values.get("num_correct", 1)
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
