"""Plain instructions: one a row, by field name."""

from collections.abc import Iterable, Iterator

from stj.config import SourceConfig
from stj.rows import Row
from stj.sources.dialogue import with_turns
from stj.sources.files import Fields, Located
from stj.sources.ids import Seen, given_id, numbered, training_id


def fields(config: SourceConfig) -> Fields:
    """The fields to read: the text, and the id where one is named."""
    named = (config.instruction_field, config.id_field) if config.id_field else (config.instruction_field,)
    return Fields(required=named)


def rows(records: Iterable[Located], config: SourceConfig) -> Iterator[Row]:
    """Rows of instructions: a string, or a dialogue as a list of {role, content}.

    Raises SourceError for an id that is no text, or comes twice.
    """
    seen = Seen()
    for position, (where, record) in enumerate(records):
        name = config.id_field
        row_id = training_id(given_id(record[name], name, where, seen), name, where) if name else numbered(position)
        row = Row(id=row_id, position=position, turns=())
        yield with_turns(row, record[config.instruction_field], config.instruction_field, where)
