"""Plain instructions: one a row, in a field of any name."""

from collections.abc import Iterable, Iterator

from stj.config import SourceConfig
from stj.rows import Row
from stj.sources.dialogue import with_turns
from stj.sources.files import Fields, Located
from stj.sources.ids import Seen, given_id, numbered, training_id


def instruction_fields(config: SourceConfig) -> Fields:
    """The fields to read: the text, and the id if `source.id_field` names one."""
    named = (config.instruction_field, config.id_field) if config.id_field else (config.instruction_field,)
    return Fields(required=named)


def rows_by_field(records: Iterable[Located], config: SourceConfig) -> Iterator[Row]:
    """Rows of instructions; each is a string, or a dialogue as a list of {role, content}.

    Raises SourceError if an id is neither text nor a whole number, or if it is repeated.
    """
    seen = Seen()
    for position, (where, record) in enumerate(records):
        name = config.id_field
        row_id = training_id(given_id(record[name], name, where, seen), name, where) if name else numbered(position)
        row = Row(id=row_id, position=position, turns=())
        yield with_turns(row, record[config.instruction_field], config.instruction_field, where)
