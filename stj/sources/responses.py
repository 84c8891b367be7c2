"""The pairs of a file as rows to judge, with or without a label of the better response."""

from collections.abc import Iterator, Sequence

from stj.rows import OPEN, Pair, Row
from stj.sources.dialogue import usable
from stj.sources.directory import files_at
from stj.sources.files import not_empty, read_files
from stj.sources.ids import id_in_task, id_parts, joined_id
from stj.sources.pairs import PAIR_FIELDS, GivenPair, given_pairs
from stj.verdict import Label

_KEY = "FILE"


def read_responses(location: str, prompts: Sequence[str]) -> Iterator[Row]:
    """The pairs of a file, once for each judge prompt; the prompt is a row's task and the beginning of its id.

    Raises SourceError, with file and line, if a row cannot be read or the file has no rows.
    """
    for pair in _pairs(location):
        for prompt in prompts:
            yield usable(
                Row(
                    id=f"{prompt}/{_id(pair)}",
                    position=pair.position,
                    task=prompt,
                    subset=pair.subset,
                    turns=pair.turns,
                    pair=Pair(method=OPEN, chosen=pair.first, rejected=pair.second),
                )
            )


def read_winners(location: str) -> dict[str, Label | None]:
    """The better response by the row's id in its task, None if it is not known. Reads and checks the whole file."""
    return {_id(pair): pair.winner for pair in _pairs(location)}


def source_id(row: Row) -> str:
    """The id of a row as its file has it."""
    within = id_in_task(row)
    return within if row.subset is None else id_parts(within, 2)[1]


def responses_identity(location: str) -> str:
    """Hash of the file, for keys. Raises SourceError if it is missing."""
    return files_at(location, _KEY).identity()


def _pairs(location: str) -> Iterator[GivenPair]:
    pairs = given_pairs(read_files(files_at(location, _KEY).files, PAIR_FIELDS))
    wanted = "each row has instruction, response_a and response_b, or chosen and rejected"
    return not_empty(pairs, f"{location}: holds no pairs; {wanted}")


def _id(pair: GivenPair) -> str:
    return pair.id if pair.subset is None else joined_id(pair.subset, pair.id)
