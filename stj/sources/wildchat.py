"""WildChat (section 4.1): real conversations. The dialogue up to the last user turn is the instruction.

Only the fields named here are read. Moderation scores, IP addresses, browser headers, places and times never leave the reader.
This holds for the conversation and for each utterance.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from stj.rows import Row
from stj.sources.dialogue import NOT_TEXT, optional_bool, optional_text, with_turns
from stj.sources.ids import ContentIds, Seen, training_id
from stj.sources.records import Fields, Record, Scanned
from stj.sources.unread import read_each

WILDCHAT_FIELDS = Fields(
    required=("conversation_hash", "conversation"),
    optional=("language", "toxic", "redacted"),
    parts={"conversation": ("role", "content")},
)


def wildchat_rows(records: Iterable[Scanned]) -> Iterator[Row]:
    """Rows of conversations; a repeated hash makes a tombstone with a new id."""
    seen, content_ids = Seen(), ContentIds()

    def row_of(position: int, where: str, record: Record) -> Row:
        given = optional_text(record["conversation_hash"], "conversation_hash", where)
        row = Row(
            id=training_id(given or "", "conversation_hash", where),
            position=position,
            turns=(),
            language=optional_text(record.get("language"), "language", where),
            toxic=optional_bool(record.get("toxic"), "toxic", where),
            redacted=optional_bool(record.get("redacted"), "redacted", where),
        )
        if isinstance(record["conversation"], str):
            row = row.drop(NOT_TEXT, f"{where}: 'conversation' is one text, not a list of {{role, content}}")
        else:
            row = with_turns(row, record["conversation"], "conversation", where)
        if not given:
            row = replace(row, id=content_ids.of(row.turns))
        fresh = seen.add(row.id)
        return row if fresh else replace(row, id=_unique(row.id, position, seen)).drop("duplicate")

    return read_each(records, row_of)


def _unique(row_id: str, position: int, seen: Seen) -> str:
    row_id = f"{row_id}-{position}"
    return row_id if seen.add(row_id) else _unique(row_id, position, seen)
