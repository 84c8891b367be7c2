"""Pairs to judge: an instruction and two responses, with or without a label of the better one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from stj.rows import OPEN, Pair, Row
from stj.sources.dialogue import text_of, turns_from, usable, wrong_type
from stj.sources.directory import files_at
from stj.sources.files import Fields, not_empty, read_files
from stj.sources.ids import Seen, given_id, numbered
from stj.verdict import Label

_FIELDS = Fields(required=("instruction", "response_a", "response_b"), optional=("id", "winner"))
_KEY = "FILE"


def read_responses(location: str, prompts: Sequence[str]) -> Iterator[Row]:
    """The pairs of a file, once for each judge prompt; the prompt is a row's task and the beginning of its id.

    Raises SourceError, with file and line, if a row cannot be read or the file has no rows.
    """
    for row, _ in _pairs(location):
        for prompt in prompts:
            yield replace(row, id=f"{prompt}/{row.id}", task=prompt)


def read_winners(location: str) -> dict[str, Label | None]:
    """The better response by id, or None if the file does not name it. Reads and checks the whole file."""
    return {row.id: winner for row, winner in _pairs(location)}


def responses_identity(location: str) -> str:
    """Hash of the file, for keys. Raises SourceError if it is missing."""
    return files_at(location, _KEY).identity()


def _pairs(location: str) -> Iterator[tuple[Row, Label | None]]:
    return not_empty(_rows(location), f"{location}: holds no pairs; each row has instruction, response_a and response_b")


def _rows(location: str) -> Iterator[tuple[Row, Label | None]]:
    seen = Seen()
    for position, (where, record) in enumerate(read_files(files_at(location, _KEY).files, _FIELDS)):
        given = numbered(position) if record.get("id") is None else record["id"]
        first, second = (text_of(record[name], name, where) for name in ("response_a", "response_b"))
        row = Row(
            id=given_id(given, "id", where, seen),
            position=position,
            turns=turns_from(record["instruction"], "instruction", where),
            pair=Pair(method=OPEN, chosen=first, rejected=second),
        )
        yield usable(row), _winner(record.get("winner"), where)


def _winner(value: object, where: str) -> Label | None:
    match value:
        case "A":
            return "A"
        case "B":
            return "B"
        case None | "":
            return None
    raise wrong_type(value, "winner", "A, B or null", where)
