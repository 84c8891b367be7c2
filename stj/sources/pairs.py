"""Pairs of responses to an instruction, from any file: one reader for `stj judge`, `stj eval pairs:FILE` and held-out pairs.

instruction or prompt                a string, or a dialogue as a list of {role, content}
response_a and response_b            two responses, or
chosen and rejected                  the better response and the worse one
winner or label                      the better response (stj/sources/truth.py), if it is known
id, subset                           optional; an id is unique in its subset
chosen_finish_reason, ...            optional, of any of the four responses: "length" if max_tokens cut it
annotators                           people's labels, as `stj agree` writes them: beside them winner may be a tie or null
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stj.rows import Turn
from stj.sources.dialogue import optional_text, text_of, turns_from
from stj.sources.ids import Seen, id_of, numbered, refuse_seen
from stj.sources.records import Fields, Located
from stj.sources.truth import CHOSEN, JUDGE_FIELDS, JUDGES_WINNERS, better_response, required_better
from stj.verdict import TIE, Label

ALL = "all"
"""The subset of pairs without one."""
HUMAN_TIE = "human_tie"
"""Why a pair has no better response: people called it a tie."""
NO_WINNER = "no_winner"
"""Why a pair has no better response: people disagree, or none of them could tell."""
_ANNOTATORS = "annotators"
_INSTRUCTION = ("instruction", "prompt")
_OPEN = ("response_a", "response_b")
_CUT = "length"  # The finish_reason of APIs and of vLLM for a text that max_tokens cut.
_FINISH = {name: f"{name}_finish_reason" for name in (*_OPEN, *CHOSEN)}
PAIR_FIELDS = Fields(
    required=(),
    optional=(
        *(*_INSTRUCTION, *_OPEN, *CHOSEN, "winner", "label", "id", "subset"),
        *(*JUDGES_WINNERS, *JUDGE_FIELDS, _ANNOTATORS, *_FINISH.values()),
    ),
)
"""The fields of a pair, of which each row has some."""


@dataclass(frozen=True, kw_only=True)
class GivenPair:
    """Two responses to an instruction, as a file has them."""

    id: str
    """The row's id, or its number in the source."""
    subset: str | None
    position: int
    place: str
    """Its file and line, or item, in words."""
    turns: tuple[Turn, ...]
    first: str
    second: str
    winner: Label | None
    """The better response, A for the first one; None if it is not known, or if both are the same text."""
    ranked_by_file: bool = False
    """Whether the file names the responses chosen and rejected, so that their order is the truth."""
    undecided: str | None = None
    """HUMAN_TIE or NO_WINNER if people's labels name no better response."""
    truncated: bool = False
    """Whether the file says that max_tokens cut one of them."""

    @property
    def ranked(self) -> tuple[str, str]:
        """The better response and the worse one."""
        return (self.second, self.first) if self.winner == "B" else (self.first, self.second)


def given_pairs(records: Iterable[Located], *, labelled: bool = False, in_subsets: bool = True) -> Iterator[GivenPair]:
    """The pairs of a source's records; if they must be `labelled`, each has a winner, but for equal texts and undecided pairs.

    An id is unique `in_subsets`, or else in the whole source.

    Raises SourceError, with file and line, if a pair cannot be read or if its id came before.
    """
    seen = Seen()
    for position, (where, values) in enumerate(records):
        pair = _pair(values, where, position)
        key = (pair.subset or ALL, pair.id) if in_subsets else (pair.id,)
        refuse_seen(key, "id", where, seen, shown=pair.id)
        if labelled and pair.first != pair.second and not pair.undecided:
            required_better(values, where)
        yield pair


def _pair(values: Mapping[str, Any], where: str, position: int) -> GivenPair:
    asked = _first_given(values, _INSTRUCTION) or _INSTRUCTION[0]
    names = _OPEN if any(values.get(name) is not None for name in _OPEN) or _first_given(values, CHOSEN) is None else CHOSEN
    Fields(required=(asked, *names)).check(values, where)
    first, second = (text_of(values[name], name, where) for name in names)
    undecided = _undecided(values)
    winner = None if undecided else better_response(values, where)
    return GivenPair(
        id=numbered(position) if values.get("id") is None else id_of(values["id"], "id", where),
        subset=optional_text(values.get("subset"), "subset", where) or None,
        position=position,
        place=where,
        turns=turns_from(values[asked], asked, where),
        first=first,
        second=second,
        winner=None if first == second else winner,
        ranked_by_file=names == CHOSEN,
        undecided=undecided,
        truncated=any(_finish_reason(values, name, where) == _CUT for name in names),
    )


def _finish_reason(values: Mapping[str, Any], name: str, where: str) -> str | None:
    return optional_text(values.get(_FINISH[name]), _FINISH[name], where)


def _undecided(values: Mapping[str, Any]) -> str | None:
    """Why the row, one of `stj agree`, has no better response; None if it may have one."""
    aggregated = values.get(_ANNOTATORS) is not None and "winner" in values
    if not aggregated or any(values.get(name) is not None for name in ("label", *CHOSEN)):
        return None
    return NO_WINNER if values["winner"] is None else HUMAN_TIE if values["winner"] == TIE else None


def _first_given(values: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((name for name in names if values.get(name) is not None), None)
