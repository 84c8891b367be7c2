"""WildChat (section 4.1): real conversations, of which the dialogue up to the last user turn is the instruction.

Only the fields named here are read. Moderation scores, ip addresses, browser headers, places and times, of the conversation
and of each utterance, never leave the reader.
"""

from collections.abc import Iterable, Iterator

from stj.rows import Row
from stj.sources.dialogue import optional_bool, optional_text, with_turns
from stj.sources.files import Fields, Located
from stj.sources.ids import Seen, numbered, training_id

FIELDS = Fields(
    required=("conversation_hash", "conversation"),
    optional=("language", "toxic", "redacted"),
    parts={"conversation": ("role", "content")},
)


def rows(records: Iterable[Located]) -> Iterator[Row]:
    """Rows of conversations; one whose hash came before is a tombstone under an id of its own.

    Raises SourceError for a hash, language or mark of the wrong type, and for a hash that looks like the id of a held-out pair.
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
            row = row.drop("content_not_text", f"{where}: 'conversation' is one text, and no list of {{role, content}}")
        else:
            row = with_turns(row, record["conversation"], "conversation", where)
        yield row if fresh else row.drop("duplicate")


def _unique(row_id: str, position: int, seen: Seen) -> str:
    row_id = f"{row_id}-{position}"
    return row_id if seen.add(row_id) else _unique(row_id, position, seen)
