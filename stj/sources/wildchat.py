"""WildChat (section 4.1): real conversations. The dialogue up to the last user turn is the instruction.

Only the fields named here are read. Moderation scores, IP addresses, browser headers, places and times never leave the reader.
This holds for the conversation and for each utterance.
"""

from collections.abc import Iterable, Iterator

from stj.rows import Row
from stj.sources.dialogue import optional_bool, optional_text, with_turns
from stj.sources.files import Fields, Located
from stj.sources.ids import Seen, numbered, training_id

WILDCHAT_FIELDS = Fields(
    required=("conversation_hash", "conversation"),
    optional=("language", "toxic", "redacted"),
    parts={"conversation": ("role", "content")},
)


def wildchat_rows(records: Iterable[Located]) -> Iterator[Row]:
    """Rows of conversations; a repeated hash makes a tombstone with a new id.

    Raises SourceError if a hash, language or mark has the wrong type, or if a hash looks like the id of a held-out pair.
    """
    seen = Seen()
    for position, (where, record) in enumerate(records):
        given = optional_text(record["conversation_hash"], "conversation_hash", where) or numbered(position)
        row_id = training_id(given, "conversation_hash", where)
        fresh = seen.add(row_id)
        row = Row(
            id=row_id if fresh else _unique(row_id, position, seen),
            position=position,
            turns=(),
            language=optional_text(record.get("language"), "language", where),
            toxic=optional_bool(record.get("toxic"), "toxic", where),
            redacted=optional_bool(record.get("redacted"), "redacted", where),
        )
        if isinstance(record["conversation"], str):
            row = row.drop("content_not_text", f"{where}: 'conversation' is one text, not a list of {{role, content}}")
        else:
            row = with_turns(row, record["conversation"], "conversation", where)
        yield row if fresh else row.drop("duplicate")


def _unique(row_id: str, position: int, seen: Seen) -> str:
    row_id = f"{row_id}-{position}"
    return row_id if seen.add(row_id) else _unique(row_id, position, seen)
