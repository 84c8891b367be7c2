"""Rows of any artifact, as a person reads them in a terminal: `stj show`.

The texts in an artifact were written by strangers and by models. Characters that steer a terminal or hide what is written
(escape sequences, bidirectional overrides, invisible ones) are shown by their code, so that nothing in the data can act.
"""

import json
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from stj.errors import ArtifactError
from stj.rows import EXAMPLE_SCHEMA, OPEN, ROW_SCHEMA, Judgment, Pair, Row, example_from_dict, row_from_dict
from stj.storage.artifacts import MANIFEST, Artifact

_WIDTH = 120
_LONGEST_TEXT = 1200
_RULE = "─" * 60
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # control, format (bidi too), surrogate, private use, line and paragraph ends
_HARMLESS = "\n\t\u200c\u200d"  # the joiners belong to Persian and to emoji


def show_rows(artifact: Artifact, limit: int) -> Iterator[str]:
    """A line about the artifact, then its first `limit` rows, one block of lines each; a model's manifest where it has no rows.

    Raises ArtifactError where there is no artifact.
    """
    state, _ = artifact.state()
    if state == "absent":
        raise ArtifactError(f"{artifact.folder.uri}: no artifact here (no {MANIFEST}); `stj status` lists those of a run")
    yield _headline(artifact, limit)
    if not artifact.parts():
        yield "\n".join(_facts(artifact.manifest() if _finished(artifact) else artifact.key))
        return
    for record in islice(artifact.records(), limit):
        yield f"\n{_RULE}\n" + "\n".join(_record(record))


def visible(text: str) -> str:
    """The text with every character that a terminal would obey, or not show, written as its code: ESC as `\\x1b`."""
    lines_ended = text.replace("\r\n", "\n")
    return "".join(_code(c) if unicodedata.category(c) in _INVISIBLE and c not in _HARMLESS else c for c in lines_ended)


def _one_line(text: str) -> str:
    """The text, visible, without the line ends by which data could pretend to be a line of ours."""
    return visible(text).replace("\n", "\\n")


def _headline(artifact: Artifact, limit: int) -> str:
    where = _one_line(artifact.folder.uri)
    if not _finished(artifact):
        return f"{where}: NOT FINISHED" + (", the rows committed so far" if artifact.parts() else ", nothing committed yet")
    rows = artifact.manifest().get("rows", 0)
    return f"{where}: finished, {min(limit, rows):,} of {rows:,} rows" if artifact.parts() else f"{where}: finished"


def _finished(artifact: Artifact) -> bool:
    return artifact.folder.exists(MANIFEST)


def _record(record: Mapping[str, Any]) -> Iterator[str]:
    if record.keys() >= set(ROW_SCHEMA.names):
        return _row(row_from_dict(record))
    if record.keys() >= set(EXAMPLE_SCHEMA.names) - {"kind"}:  # which older artifacts do not have
        return _example(record)
    return _facts(record)


def _row(row: Row) -> Iterator[str]:
    yield _one_line(f"{row.id}  position {row.position}, {row.task}{_source_facts(row)}")
    if row.category:
        yield _one_line(f"category {row.category.name}, complexity {row.category.complexity}, length {row.category.length}")
    yield from _text("instruction", row.instruction)
    if row.pair:
        if row.pair.modified_instruction:
            yield from _text("modified instruction", row.pair.modified_instruction)
        yield from _pair(row.pair)
    for number, answer in enumerate(row.candidates.answers if row.candidates else ()):
        yield from _text(f"answer {number}, {'good' if row.candidates and number < row.candidates.good else 'bad'}", answer)
    asked = row.pair is not None and row.pair.method == OPEN
    for place, judgment in enumerate(row.judgments):
        title = _vote_title(judgment) if asked else _judgment_title(judgment, kept=place == row.kept)
        yield from _text(title, judgment.text)
    yield from _outcome(row)


def _source_facts(row: Row) -> str:
    marks = [row.subset, row.language, "toxic" if row.toxic else None, "redacted" if row.redacted else None]
    return "".join(f", {mark}" for mark in marks if mark)


def _pair(pair: Pair) -> Iterator[str]:
    known = pair.method != OPEN
    yield from _text("chosen, the better answer" if known else "response A", pair.chosen)
    yield from _text(f"rejected, the worse answer ({pair.method})" if known else "response B", pair.rejected)


def _vote_title(judgment: Judgment) -> str:
    """Of a judgment of which nobody knows whether it is right: the order, and what it says."""
    cut = "" if judgment.finish_reason == "stop" else f", ended by {judgment.finish_reason}"
    said = "no verdict" if judgment.verdict is None else f"verdict {judgment.verdict}"
    return f"judgment {judgment.index}, {judgment.purpose}, response A shown as {judgment.winner}, {said}{cut}"


def _judgment_title(judgment: Judgment, *, kept: bool) -> str:
    """Its purpose and number, the order, and how it came out."""
    outcome = "" if judgment.purpose == "rating" else ": right" if judgment.correct else ": wrong"
    said = f"verdict {judgment.verdict}{outcome}" if judgment.verdict else "no verdict"
    cut = "" if judgment.finish_reason == "stop" else f", ended by {judgment.finish_reason}"
    title = f"judgment {judgment.index}, {judgment.purpose}, chosen shown as {judgment.winner}, {said}"
    return f"{title}, {judgment.output_tokens:,} tokens{cut}{', KEPT' if kept else ''}"


def _outcome(row: Row) -> Iterator[str]:
    if row.dropped:
        yield _one_line(f"DROPPED: {row.dropped}")
    if row.detail:
        yield from _text("detail", row.detail)
    if row.error:
        yield from _text("FAILED", row.error)
    yield f"{row.prompt_tokens:,} prompt tokens, {row.output_tokens:,} output tokens"


def _example(record: Mapping[str, Any]) -> Iterator[str]:
    example = example_from_dict(record)
    yield _one_line(f"{example.id}  {example.kind}, better answer shown as {example.winner}")
    for turn in example.messages:
        yield from _text(turn.role, turn.content)
    yield from _text("completion, what is learned", example.completion)
    if example.rejected is not None:
        yield from _text(f"rejected, the wrong {example.kind}", example.rejected)


def _facts(value: object, name: str = "") -> Iterator[str]:
    """Anything else, one line a field under its dotted name; long texts below theirs."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _facts(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, str) and ("\n" in value or len(value) > 80):
        yield from _text(name, value)
    else:
        written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        yield _one_line(f"{name}: {_cut(written)}")


def _text(title: str, text: str) -> Iterator[str]:
    """A title, and the text below it: wrapped, indented, cut where it is long."""
    yield f"{_one_line(title)}:"
    for line in visible(_cut(text)).split("\n"):
        yield textwrap.indent("\n".join(textwrap.wrap(line, _WIDTH - 4, replace_whitespace=False)), "    ")


def _cut(text: str) -> str:
    left_out = len(text) - _LONGEST_TEXT
    return f"{text[:_LONGEST_TEXT]}… (+{left_out:,} characters)" if left_out > 0 else text


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
