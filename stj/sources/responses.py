"""The pairs of a file as rows to judge, with or without a label of the better response."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stj.pair_fields import OWN_FIELDS, PairFields, Ties
from stj.rows import OPEN, Pair, Row
from stj.sources.dialogue import usable
from stj.sources.directory import files_at
from stj.sources.files import not_empty
from stj.sources.pairs import HUMAN_TIE, GivenPair, given_pairs, pair_records
from stj.verdict import TIE, Label, Verdict

_KEY = "FILE"


class PairLabel(NamedTuple):
    """What a file says about a pair, beside its texts."""

    id: str
    subset: str | None
    winner: Verdict | None
    """The better response, or TIE if ties count; None if it is not known."""


def read_responses(location: str, prompts: Sequence[str], fields: PairFields = OWN_FIELDS) -> Iterator[Row]:
    """The pairs of a file, once for each judge prompt; the prompt is a row's task and the beginning of its id.

    Raises SourceError, with file and line, if a row cannot be read or the file has no rows.
    """
    for pair in _pairs(location, fields):
        for prompt in prompts:
            yield usable(
                Row(
                    id=f"{prompt}/{pair.row_id}",
                    position=pair.position,
                    task=prompt,
                    subset=pair.subset,
                    turns=pair.turns,
                    pair=Pair(method=OPEN, chosen=pair.first, rejected=pair.second),
                )
            )


def read_labels(location: str, fields: PairFields = OWN_FIELDS, ties: Ties = "skip") -> dict[str, PairLabel]:
    """The label of each pair by the id of its row in a task. Reads and checks the whole file."""
    return {pair.row_id: PairLabel(pair.id, pair.subset, _winner(pair, ties)) for pair in _pairs(location, fields)}


def read_winners(location: str, fields: PairFields = OWN_FIELDS) -> dict[str, Label | None]:
    """The better response of each pair by the id of its row in a task, None if it is not known. Reads and checks the file."""
    return {pair.row_id: pair.winner for pair in _pairs(location, fields)}


def responses_identity(location: str) -> str:
    """Hash of the file, for keys. Raises SourceError if it is missing."""
    return files_at(location, _KEY).identity()


def _winner(pair: GivenPair, ties: Ties) -> Verdict | None:
    return TIE if pair.undecided == HUMAN_TIE and ties != "skip" and pair.first != pair.second else pair.winner


def _pairs(location: str, fields: PairFields) -> Iterator[GivenPair]:
    wanted = "each row has instruction, response_a and response_b, or chosen and rejected"
    pairs = given_pairs(pair_records(location, _KEY, fields), fields)
    return not_empty(pairs, f"{location}: holds no pairs; {wanted}")
