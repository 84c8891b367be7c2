"""Plain instructions: one a row, in a field of any name."""

from collections.abc import Iterable, Iterator

from stj.config import SourceConfig
from stj.rows import Row, Turn
from stj.sources.dialogue import NOT_TEXT, ContentNotText, clean, turns_from, usable
from stj.sources.ids import ContentIds, Seen, given_id, training_id
from stj.sources.records import Fields, Record, Scanned
from stj.sources.unread import read_each


def instruction_fields(config: SourceConfig) -> Fields:
    """The fields to read: the text, and the id if `source.id_field` names one."""
    named = (config.instruction_field, config.id_field) if config.id_field else (config.instruction_field,)
    return Fields(required=named)


def rows_by_field(records: Iterable[Scanned], config: SourceConfig) -> Iterator[Row]:
    """Rows of instructions; each is a string, or a dialogue as a list of {role, content}."""
    text_field, id_field = config.instruction_field, config.id_field
    seen, content_ids = Seen(), ContentIds()

    def row_of(position: int, where: str, record: Record) -> Row:
        given = training_id(given_id(record[id_field], id_field, where, seen), id_field, where) if id_field else None
        turns, fault = tuple[Turn, ...](), ""
        try:
            turns = turns_from(record[text_field], text_field, where)
        except ContentNotText as error:
            fault = clean(str(error))  # a file may have any name
        row = Row(id=given or content_ids.of(turns), position=position, turns=turns)  # once: a copy takes longer than all else
        return row.drop(NOT_TEXT, fault) if fault else usable(row)

    return read_each(records, row_of)
