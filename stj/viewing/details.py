"""One row as JSON values for the page: its instruction, its answers, and every judge's judgments with their verdicts marked."""

from collections.abc import Iterable, Iterator
from typing import Any

from stj.evals.contradictions import contradiction
from stj.loop.show import checks_words
from stj.rows import Grade, Judgment, Opinion, Rationale, Row
from stj.verdict import BEST_OF_FOUR, FIVE_WAY, FORMATS, OUTPUT, RESULT, Format, Verdict, distinct_verdicts

_TAGS: tuple[Format, ...] = (BEST_OF_FOUR, FIVE_WAY, RESULT, OUTPUT)
_END = 5  # One part in five of a text that is cut is its end.
_PLACES = {"A": "first", "B": "second", "C": "third", "D": "fourth"}


def row_details(row_id: str, judged: Iterable[tuple[str, Row]], longest: int) -> dict[str, Any]:
    """A row as each judge left it. Texts with more than `longest` characters are cut, and say so.

    The answers are those of the first judge's row. A judge that saw others has them beside its judgments.
    """
    copies = list(judged)
    shown = copies[0][1]
    return {
        "id": row_id,
        "facts": dict(_facts(shown)),
        "turns": [{"role": turn.role, "text": _cut(turn.content, longest)} for turn in shown.turns],
        "modified": _cut(shown.pair.modified_instruction, longest) if shown.pair and shown.pair.modified_instruction else None,
        "reference": _cut(shown.reference, longest) if shown.reference else None,
        "context": _cut(shown.context, longest) if shown.context else None,
        "answers": _answers(shown, longest),
        "judges": [
            _judge(name, row, shown, longest)
            for name, row in copies
            if row.judgments or row.opinions or row.grades or row.ended
        ],
    }


def _facts(row: Row) -> Iterator[tuple[str, str]]:
    yield "task", row.task
    if row.subset:
        yield "subset", row.subset
    if row.origin:
        yield "source", f"{row.origin.source}, labelled by {row.origin.labelled_by.replace('_', ' ')}"
        yield "place", row.origin.place
        if row.origin.policy:
            yield "policy", row.origin.policy
    if row.category:
        yield "category", row.category.name
        yield "complexity", str(row.category.complexity)
        yield "expected length", row.category.length
    if row.language:
        yield "language", row.language
    if row.pair and (row.pair.chosen or row.pair.rejected):
        yield "pair", row.pair.method
        if row.pair.attack:
            yield "worse answer attacked", row.pair.attack
        yield "length difference", f"{len(row.pair.chosen) - len(row.pair.rejected):+,} characters"


def _answers(row: Row, longest: int) -> list[dict[str, Any]]:
    if row.candidates:
        return [
            {"title": f"answer {number + 1}: {'good' if number < row.candidates.good else 'bad'}", "text": _cut(text, longest)}
            for number, text in enumerate(row.candidates.answers)
        ]
    if row.response is not None:
        return [{"title": "response", "text": _cut(row.response, longest)}]
    if row.pair is None or not (row.pair.chosen or row.pair.rejected):
        return []
    titles = ("better answer", "worse answer") if row.pair.ranked else ("response A", "response B")
    texts = row.pair.chosen, row.pair.rejected
    return [{"title": title, "text": _cut(text, longest)} for title, text in zip(titles, texts, strict=True)]


def _judge(name: str, row: Row, shown: Row, longest: int) -> dict[str, Any]:
    others = (row.turns, row.pair and (row.pair.chosen, row.pair.rejected)) != (
        shown.turns,
        shown.pair and (shown.pair.chosen, shown.pair.rejected),
    )
    return {
        "name": name,
        "dropped": row.dropped,
        "detail": _cut(row.detail, longest) if row.detail else None,
        "error": _cut(row.error, longest) if row.error else None,
        "answers": _answers(row, longest) if others else [],
        "judgments": [
            *(_judgment(judgment, row, place, longest) for place, judgment in enumerate(row.judgments)),
            *(_opinion(opinion, row, longest) for opinion in row.opinions),
            *(_rationale(rationale, row, longest) for rationale in row.rationales),
            *(_grade(grade, row, longest) for grade in row.grades),
        ],
    }


def _grade(grade: Grade, row: Row, longest: int) -> dict[str, Any]:
    """A grade with the members of a judgment; nothing says whether it is right."""
    named = f", {grade.rubric}" if grade.rubric else ""  # an example holds the rubric in its prompt
    true = "" if row.label is None or grade.answer != "response" else f", true score {row.label:g}"
    return {
        "title": f"grade {grade.index}, {grade.purpose}{named}{true}",
        "order": {"response": "the response", "chosen": "response A", "rejected": "response B"}[grade.answer],
        "outcome": "unread" if grade.score is None else "given",
        "verdict": "no score" if grade.score is None else f"score {grade.score}",
        "kept": row.kept_grades == grade.index,
        "ended": None if grade.finish_reason == "stop" else grade.finish_reason,
        "tokens": grade.output_tokens,
        "probability": None,
        "thought": _cut(grade.thought, longest) if grade.thought else None,
        "parts": [{"text": _cut(grade.text, longest), "mark": False}],
        "contradiction": None,
    }


def _judgment(judgment: Judgment, row: Row, place: int, longest: int) -> dict[str, Any]:
    outcome, words = _outcome(judgment, row)
    return {
        "title": f"judgment {judgment.index}, {judgment.purpose}",
        "order": _order(judgment, row),
        "outcome": outcome,
        "verdict": words,
        "kept": place == row.kept,
        "ended": None if judgment.finish_reason == "stop" else judgment.finish_reason,
        "tokens": judgment.output_tokens,
        "probability": judgment.probability,
        "thought": _cut(judgment.thought, longest) if judgment.thought else None,
        "parts": marked(_cut(judgment.text, longest), judgment.verdict),
        "contradiction": contradiction(judgment),
    }


def _opinion(opinion: Opinion, row: Row, longest: int) -> dict[str, Any]:
    """What a member of the panel says, with the members of a judgment that is not kept."""
    return {
        **_judgment(opinion.judgment, row, -1, longest),
        "title": f"opinion {opinion.judgment.index} of {opinion.member}",
    }


def _rationale(rationale: Rationale, row: Row, longest: int) -> dict[str, Any]:
    """A judgment whose judge knew the label, with the members of any other."""
    outcome = f"not learned: {rationale.rejected}" if rationale.rejected else "rescued"
    return {
        **_judgment(rationale.judgment, row, -1, longest),
        "title": f"rationale {rationale.judgment.index}, label known{checks_words(rationale)}, {outcome}",
        "kept": rationale.rejected is None,
    }


def _order(judgment: Judgment, row: Row) -> str:
    if judgment.purpose == "rating":
        return f"rates answer {judgment.index + 1}"
    answer = "response A" if row.pair and not row.pair.ranked else "better answer"
    return f"{answer} shown {_PLACES[judgment.winner]}, as {judgment.winner}"


def _outcome(judgment: Judgment, row: Row) -> tuple[str, str]:
    """The kind of outcome for its colour, and the same in words."""
    if judgment.verdict is None:
        return "unread", "no verdict"
    if judgment.purpose == "rating":
        return "given", f"rating {judgment.verdict}"
    if row.pair is None or row.pair.ranked:
        return ("right", f"{judgment.verdict}: right") if judgment.correct else ("wrong", f"{judgment.verdict}: wrong")
    if judgment.verdict not in ("A", "B"):
        return "given", judgment.verdict
    return "given", f"{judgment.verdict}: for response {'A' if judgment.correct else 'B'}"


def marked(text: str, verdict: Verdict | None) -> list[dict[str, Any]]:
    """The text in parts; those with `mark` are verdicts, in the first format in which the text has this verdict.

    A text without a verdict has its tags marked all the same: two that differ are none.
    """
    readings = zip(FORMATS.values(), distinct_verdicts(text, FORMATS.values()), strict=True)
    fitting = [form for form, read in readings if read is not None and read == verdict]
    for form in (*fitting, *_TAGS):
        if tags := list(form.tag.finditer(text)):
            return list(_parts(text, [tag.span() for tag in (tags[-1:] if form.only_at_end else tags)]))
    return [{"text": text, "mark": False}]


def _parts(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    end = 0
    for start, stop in spans:
        if start > end:
            yield {"text": text[end:start], "mark": False}
        yield {"text": text[start:stop], "mark": True}
        end = stop
    if end < len(text):
        yield {"text": text[end:], "mark": False}


def _cut(text: str, longest: int) -> str:
    """The start and the end of a long text: a judgment has its verdict at its end."""
    left_out, end = len(text) - longest, longest // _END
    return f"{text[: longest - end]}… (+{left_out:,} characters) …{text[-end:]}" if left_out > 0 else text
