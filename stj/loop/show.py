"""Rows of any artifact, as a person reads them in a terminal: `stj show`.

The texts in an artifact were written by strangers and by models. A Passage shows the code of every character that steers a
terminal or hides text (escape sequences, bidirectional overrides, invisible characters). So data cannot act on the terminal.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any

from stj.errors import ConfigError, NoArtifact
from stj.loop.row_selection import RowSelection
from stj.models.removed import removal_note
from stj.rows import Example, Grade, Judgment, Opinion, Pair, Rationale, Row, example_from_dict, row_from_dict
from stj.storage.artifacts import MANIFEST, Artifact
from stj.text import Passage, Span

_LONGEST_TEXT = 1200  # characters; a longer text would push its neighbours off the screen
_RULE = "─" * 60


def _needed(cls: type[Row | Example]) -> set[str]:
    """The fields that every record has, also one of an older version."""
    return {field.name for field in fields(cls) if field.default is MISSING and field.default_factory is MISSING}


_ROW, _EXAMPLE = _needed(Row), _needed(Example)


def show_rows(artifact: Artifact, selection: RowSelection) -> Iterator[Passage]:
    """A line about the artifact, then the selected rows; its manifest if it has no rows, as a model.

    Raises NoArtifact if there is no artifact, and ConfigError if the selection does not fit it.
    """
    state, _ = artifact.state()
    if state == "absent":
        raise NoArtifact(f"{artifact.folder.uri}: no artifact here (no {MANIFEST}); `stj status` lists those of a run")
    if _finished(artifact) and not artifact.parts() and (selection.where or selection.columns):
        given = f"--where {selection.where}" if selection.where else f"--columns {','.join(selection.columns)}"
        raise ConfigError(f"{given}: {artifact.folder.uri} holds no rows; leave it out")
    if selection.columns:
        next(selection.records(artifact), None)  # a wrong name is an error before anything is shown
    yield _headline(artifact, selection)
    if not artifact.parts():
        yield from _facts(artifact.manifest() if _finished(artifact) else artifact.key)
        return
    found = False
    for record in selection.records(artifact):
        found = True
        yield _line("")
        yield _line(_RULE, "dim")
        yield from _record(record)
    if not found and selection.limit:
        yield _line(f"no such row{_reasons(artifact) if (selection.where or '').startswith('dropped') else ''}")


def _line(text: str, style: str = "") -> Passage:
    return Passage(line=[Span(text, style)])


def _text(title: str, text: str, style: str = "bold") -> Passage:
    """A title, and the text below it, cut if it is long."""
    return Passage(line=[Span(title, style)], text=_cut(text))


def _headline(artifact: Artifact, selection: RowSelection) -> Passage:
    where = Span(f"{artifact.folder.uri}: ", "bold")
    if not _finished(artifact):
        rest = ", the rows committed so far" if artifact.parts() else ", nothing committed yet"
        return Passage(line=[where, Span("NOT FINISHED", "bold yellow"), Span(rest)])
    if note := removal_note(artifact.folder):
        return Passage(line=[where, Span("finished", "green"), Span(f", weights removed {note}", "yellow")])
    rows = artifact.manifest().get("rows", 0)
    shown = max(0, min(selection.limit, rows - selection.offset))
    counted = f"of {rows:,} rows those with {selection.where}" if selection.where else f"{shown:,} of {rows:,} rows"
    counted = f", {counted}" if artifact.parts() else ""
    return Passage(line=[where, Span("finished", "green"), Span(counted)])


def _reasons(artifact: Artifact) -> str:
    """The reasons for which rows were dropped, with their counts, in words."""
    counts = Counter(str(reason) for record in artifact.records(["dropped"]) if (reason := record.get("dropped")) is not None)
    words = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
    return f"; dropped there: {words or 'none'}"


def _finished(artifact: Artifact) -> bool:
    return artifact.folder.exists(MANIFEST)


def _record(record: Mapping[str, Any]) -> Iterator[Passage]:
    if record.keys() >= _ROW:
        return _row(row_from_dict(record))
    if record.keys() >= _EXAMPLE:
        return _example(record)
    return _facts(record)


def _row(row: Row) -> Iterator[Passage]:
    """A row's story, dimmed up to its outcome if it was dropped."""
    for passage in _story(row):
        yield replace(passage, dim=row.dropped is not None)
    yield from _outcome(row)


def _story(row: Row) -> Iterator[Passage]:
    yield Passage(line=[Span(row.id, "bold cyan"), Span(f"  position {row.position}, {row.task}{_source_facts(row)}")])
    if row.origin:
        yield _line(f"of {row.origin.source}: {row.origin.place}, labelled by {row.origin.labelled_by.replace('_', ' ')}")
        if row.origin.policy:
            yield _line(f"answered by {row.origin.policy}")
    if row.category:
        yield _line(f"category {row.category.name}, complexity {row.category.complexity}, length {row.category.length}")
    yield _text("instruction", row.instruction)
    yield from _given(row)
    if row.pair:
        if row.pair.modified_instruction:
            yield _text("modified instruction", row.pair.modified_instruction)
        yield from _pair(row.pair)
    for number, answer in enumerate(row.candidates.answers if row.candidates else ()):
        yield _text(f"answer {number}, {'good' if row.candidates and number < row.candidates.good else 'bad'}", answer)
    is_open = row.pair is not None and not row.pair.ranked
    for place, judgment in enumerate(row.judgments):
        title = _vote_title(judgment) if is_open else _judgment_title(judgment, kept=place == row.kept)
        if judgment.thought:
            yield _text(f"thought of judgment {judgment.index}", judgment.thought, "dim")
        yield Passage(line=title, text=_cut(judgment.text))
    for opinion in row.opinions:
        yield from _opinion(opinion)
    for rationale in row.rationales:
        yield from _rationale(rationale)
    for grade in row.grades:
        if grade.thought:
            yield _text(f"thought of grade {grade.index}", grade.thought, "dim")
        yield Passage(line=_grade_title(grade, row, is_open=is_open), text=_cut(grade.text))


def _opinion(opinion: Opinion) -> Iterator[Passage]:
    """What a member of the panel says, which is never learned."""
    judgment = opinion.judgment
    if judgment.thought:
        yield _text(f"thought of opinion {judgment.index} of {opinion.member}", judgment.thought, "dim")
    title = Span(f"opinion {judgment.index} of {opinion.member}, chosen shown as {judgment.winner}, ", "bold")
    ending = Span(f", {judgment.output_tokens:,} tokens{_cut_short(judgment)}")
    yield Passage(line=[title, _verdict(judgment), ending], text=_cut(judgment.text))


def _rationale(rationale: Rationale) -> Iterator[Passage]:
    """A judgment with the label known, the verdicts by its reasons, and whether it trains the next judge."""
    judgment = rationale.judgment
    if judgment.thought:
        yield _text(f"thought of rationale {judgment.index}", judgment.thought, "dim")
    title = Span(f"rationale {judgment.index}, told that {judgment.winner} is better{checks_words(rationale)}, ", "bold")
    outcome = (
        Span(f"not learned: {rationale.rejected}", "bold yellow") if rationale.rejected else Span("RESCUED", "bold magenta")
    )
    tokens = Span(f", {judgment.output_tokens:,} tokens{_cut_short(judgment)}")
    yield Passage(line=[title, outcome, tokens], text=_cut(judgment.text))


def checks_words(rationale: Rationale) -> str:
    """How many of the verdicts by the reasons alone are the label, for a reader; empty if nobody was asked."""
    found = sum(check.correct for check in rationale.checks)
    return f", confirmed by {found} of {len(rationale.checks)}" if rationale.checks else ""


def _given(row: Row) -> Iterator[Passage]:
    """What a judge sees beside the instruction and a pair."""
    for name, text in (("context", row.context), ("reference", row.reference), ("response", row.response)):
        if text is not None:
            yield _text(name, text)


def _grade_title(grade: Grade, row: Row, *, is_open: bool) -> list[Span]:
    """The rubric, what was graded, the score and the true one, and whether it trains the next judge."""
    names = {"chosen": "response A", "rejected": "response B"} if is_open else {}
    answer = "" if grade.answer == "response" else f" of {names.get(grade.answer, f'the {grade.answer} answer')}"
    score = Span("no score", "bold yellow") if grade.score is None else Span(f"score {grade.score}", "bold")
    true = "" if row.label is None or grade.answer != "response" else f" (true score {row.label:g})"
    ended = "" if grade.finish_reason == "stop" else f", ended by {grade.finish_reason}"
    kept = row.kept_grades == grade.index and grade.answer != "response"
    title = f"grade {grade.index}, {grade.purpose}{answer}, {grade.rubric}, "
    return [Span(title, "bold"), score, Span(true + ended), *([Span(", KEPT", "bold magenta")] if kept else [])]


def _source_facts(row: Row) -> str:
    marks = [row.subset, row.language, "toxic" if row.toxic else None, "redacted" if row.redacted else None]
    return "".join(f", {mark}" for mark in marks if mark)


def _pair(pair: Pair) -> Iterator[Passage]:
    known = pair.ranked
    yield _text("chosen, the better answer" if known else "response A", pair.chosen)
    made = f"{pair.method}, attacked: {pair.attack}" if pair.attack else pair.method
    yield _text(f"rejected, the worse answer ({made})" if known else "response B", pair.rejected)


def _vote_title(judgment: Judgment) -> list[Span]:
    """The order and the verdict, for a pair whose better answer nobody knows."""
    verdict = "no verdict" if judgment.verdict is None else f"verdict {judgment.verdict}"
    title = f"judgment {judgment.index}, {judgment.purpose}, response A shown as {judgment.winner}, "
    return [Span(title, "bold"), Span(verdict, "bold" if judgment.verdict else "bold yellow"), Span(_cut_short(judgment))]


def _judgment_title(judgment: Judgment, *, kept: bool) -> list[Span]:
    """Purpose and number, the order, and whether the verdict is right."""
    title = f"judgment {judgment.index}, {judgment.purpose}, chosen shown as {judgment.winner}, "
    ending = Span(f", {judgment.output_tokens:,} tokens{_cut_short(judgment)}")
    return [Span(title, "bold"), _verdict(judgment), ending, *([Span(", KEPT", "bold magenta")] if kept else [])]


def _verdict(judgment: Judgment) -> Span:
    if not judgment.verdict:
        return Span("no verdict", "bold yellow")
    if judgment.purpose == "rating":
        return Span(f"verdict {judgment.verdict}", "bold")
    right = bool(judgment.correct)
    return Span(f"verdict {judgment.verdict}: {'right' if right else 'wrong'}", "bold green" if right else "bold red")


def _cut_short(judgment: Judgment) -> str:
    return "" if judgment.finish_reason == "stop" else f", ended by {judgment.finish_reason}"


def _outcome(row: Row) -> Iterator[Passage]:
    if row.dropped:
        yield _line(f"DROPPED: {row.dropped}", "bold yellow")
    if row.detail:
        yield replace(_text("detail", row.detail), dim=row.dropped is not None)
    if row.error:
        yield _text("FAILED", row.error, "bold red")
    yield _line(f"{row.prompt_tokens:,} prompt tokens, {row.output_tokens:,} output tokens", "dim")


def _example(record: Mapping[str, Any]) -> Iterator[Passage]:
    example = example_from_dict(record)
    about = f"score {example.score}" if example.winner is None else f"better answer shown as {example.winner}"
    yield Passage(line=[Span(example.id, "bold cyan"), Span(f"  {example.kind}, {about}")])
    for turn in example.messages:
        yield _text(turn.role, turn.content)
    if example.thought:
        yield _text("thought, which is learned", example.thought, "bold green")
    yield _text("completion, which is learned", example.completion, "bold green")
    if example.rejected_thought:
        yield _text("rejected thought", example.rejected_thought, "bold red")
    if example.rejected is not None:
        yield _text(f"rejected, the wrong {example.kind}", example.rejected, "bold red")


def _facts(value: object, name: str = "") -> Iterator[Passage]:
    """Any other record: one line a field under its dotted name, long texts below theirs."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _facts(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, str) and ("\n" in value or len(value) > 80):
        yield _text(name, value, "cyan")
    else:
        written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        yield Passage(line=[Span(name, "cyan"), Span(f": {_cut(written)}")])


def _cut(text: str) -> str:
    left_out = len(text) - _LONGEST_TEXT
    return f"{text[:_LONGEST_TEXT]}… (+{left_out:,} characters)" if left_out > 0 else text
