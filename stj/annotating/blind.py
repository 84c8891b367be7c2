"""The pairs to label, and where chance puts them: nothing here depends on which response is better.

Who reads the file of labels, or all that the page sends, learns nothing of the truth:

    A and B         the order in the file of pairs. Where that is chosen and rejected, it would be the truth: there the texts
                    are sorted by a draw for each text.
    first, second   which of A and B an annotator sees first: drawn for each annotator and pair
    the order       in which an annotator sees the pairs: drawn for each annotator

All are functions of the seed, the pair's id and the annotator's name, so that they are the same after a restart.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from stj.errors import SourceError
from stj.pair_fields import OWN_FIELDS, PairFields
from stj.randomness import uniform
from stj.rows import Row, Turn
from stj.sources.dialogue import usable
from stj.sources.files import not_empty
from stj.sources.ids import joined_id
from stj.sources.pairs import ALL, GivenPair, given_pairs, pair_records

SAME_TEXT = "same_text"
_WANTED = "each row has instruction, response_a and response_b, or chosen and rejected"


@dataclass(frozen=True, kw_only=True)
class BlindPair:
    """Two responses, without anything that says which is better or who wrote them."""

    id: str
    subset: str | None
    turns: tuple[Turn, ...]
    response_a: str
    response_b: str

    @cached_property
    def key(self) -> str:
        """The pair's name among all: an id is unique in its subset."""
        return key_of(self.subset, self.id)

    @property
    def record(self) -> dict[str, Any]:
        """The fields of a label's line that are those of its pair."""
        subset = {} if self.subset is None else {"subset": self.subset}
        responses = {"response_a": self.response_a, "response_b": self.response_b}
        return {"id": self.id, "instruction": self._instruction(), **responses, **subset}

    def _instruction(self) -> str | list[dict[str, str]]:
        if [turn.role for turn in self.turns] == ["user"]:
            return self.turns[0].content
        return [{"role": turn.role, "content": turn.content} for turn in self.turns]


class BlindPairs(NamedTuple):
    """What a place holds for annotators."""

    pairs: Sequence[BlindPair]
    skipped: Counter[str]
    """Pairs that nobody can label, by reason."""


def read_blind_pairs(location: str, seed: int, limit: int | None = None, fields: PairFields = OWN_FIELDS) -> BlindPairs:
    """The pairs of a file or a directory that can be labelled, at most `limit` of them.

    Raises SourceError, with file and line, if a row cannot be read or no pair can be labelled.
    """
    skipped: Counter[str] = Counter()
    pairs: list[BlindPair] = []
    for pair in _given(location, fields):
        if len(pairs) == limit:
            break
        if reason := _unusable(pair):
            skipped[reason] += 1
        else:
            pairs.append(_blind(pair, seed))
    if not pairs:
        raise SourceError(f"{location}: no pair can be labelled: {reasons(skipped)}; give pairs of two different responses")
    return BlindPairs(pairs, skipped)


def in_order(pairs: Sequence[BlindPair], seed: int, annotator: str) -> list[BlindPair]:
    """The pairs in the order in which this annotator sees them."""
    return sorted(pairs, key=lambda pair: uniform(seed, pair.key, f"annotate/order/{annotator}"))


def shows_b_first(pair: BlindPair, seed: int, annotator: str) -> bool:
    """Whether this annotator sees response B first."""
    return uniform(seed, pair.key, f"annotate/side/{annotator}") < 0.5


def key_of(subset: str | None, pair_id: str) -> str:
    """The name of a pair among all of its file."""
    return joined_id(subset or ALL, pair_id)


def reasons(skipped: Counter[str]) -> str:
    """Counts by reason in words."""
    return ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())


def _given(location: str, fields: PairFields) -> Iterator[GivenPair]:
    return not_empty(given_pairs(pair_records(location, "PAIRS", fields), fields), f"{location}: holds no pairs; {_WANTED}")


def _unusable(pair: GivenPair) -> str | None:
    """Why nobody can label a pair: no response is better, or `stj judge` could not read its dialogue either."""
    if pair.first == pair.second:
        return SAME_TEXT
    return usable(Row(id=pair.id, position=pair.position, turns=pair.turns)).dropped


def _blind(pair: GivenPair, seed: int) -> BlindPair:
    responses = [pair.first, pair.second]
    if pair.ranked_by_file:
        key = key_of(pair.subset, pair.id)
        responses.sort(key=lambda text: uniform(seed, key, f"annotate/response/{text}"))
    return BlindPair(id=pair.id, subset=pair.subset, turns=pair.turns, response_a=responses[0], response_b=responses[1])
