"""The pairs of a file as rows to judge, with or without a label of the better response."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stj.rows import OPEN, Pair, Row
from stj.sources.dialogue import usable
from stj.sources.directory import files_at
from stj.sources.files import not_empty, read_files
from stj.sources.ids import Seen, joined_id, refuse_seen
from stj.sources.pairs import ALL, PAIR_FIELDS, GivenPair, given_pairs
from stj.verdict import Label

_KEY = "FILE"


class PairLabel(NamedTuple):
    """What a file says about a pair, beside its texts."""

    id: str
    subset: str | None
    winner: Label | None
    """The better response; None if it is not known."""


def read_responses(location: str, prompts: Sequence[str]) -> Iterator[Row]:
    """The pairs of a file, once for each judge prompt; the prompt is a row's task and the beginning of its id.

    Raises SourceError, with file and line, if a row cannot be read or the file has no rows.
    """
    for row_id, pair in _pairs(location):
        for prompt in prompts:
            yield usable(
                Row(
                    id=f"{prompt}/{row_id}",
                    position=pair.position,
                    task=prompt,
                    subset=pair.subset,
                    turns=pair.turns,
                    pair=Pair(method=OPEN, chosen=pair.first, rejected=pair.second),
                )
            )


def read_labels(location: str) -> dict[str, PairLabel]:
    """The label of each pair by the id of its row in a task. Reads and checks the whole file."""
    return {row_id: PairLabel(pair.id, pair.subset, pair.winner) for row_id, pair in _pairs(location)}


def read_winners(location: str) -> dict[str, Label | None]:
    """The better response of each pair by the id of its row in a task, None if it is not known. Reads and checks the file."""
    return {row_id: label.winner for row_id, label in read_labels(location).items()}


def responses_identity(location: str) -> str:
    """Hash of the file, for keys. Raises SourceError if it is missing."""
    return files_at(location, _KEY).identity()


def _pairs(location: str) -> Iterator[tuple[str, GivenPair]]:
    """The pairs with the ids of their rows: the pair's own id, or its subset and id if another subset had that id before."""
    pairs = given_pairs(read_files(files_at(location, _KEY).files, PAIR_FIELDS))
    wanted = "each row has instruction, response_a and response_b, or chosen and rejected"
    seen = Seen()
    for pair in not_empty(pairs, f"{location}: holds no pairs; {wanted}"):
        row_id = pair.id
        if not seen.add(row_id):
            row_id = joined_id(pair.subset or ALL, pair.id)
            refuse_seen((row_id,), "id", location, seen)
        yield row_id, pair
