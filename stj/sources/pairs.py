"""Pairs of responses to an instruction, from any file: the one reader of all that takes pairs.

instruction or prompt                a string, or a dialogue as a list of {role, content}
response_a and response_b            two responses, or
chosen and rejected                  the better response and the worse one
winner or label                      the better response (stj/sources/truth.py), or a tie, if it is known
id, subset                           optional; an id is unique in its subset
chosen_finish_reason, ...            optional, of any of the four responses: "length" if max_tokens cut it
annotators                           several people's labels: {name: label} or a list. Without a winner, that of most of them

Fields of other names are given by PairFields (stj/pair_fields.py).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stj.errors import SourceError
from stj.pair_fields import OWN_FIELDS, PairFields, Ties
from stj.rows import GIVEN, TIED, TIED_HALF, Pair, Turn
from stj.sources.dialogue import optional_text, text_of, turns_from
from stj.sources.directory import files_at
from stj.sources.files import read_files
from stj.sources.ids import Seen, id_of, joined_id, numbered, refuse_seen
from stj.sources.records import Fields, Located, listed
from stj.sources.truth import CHOSEN, JUDGE_FIELDS, JUDGES_WINNERS, better_response, is_judges_word, required_better
from stj.sources.votes import ANNOTATORS, UNSURE, label_of_most, label_word, members_of, pair_label
from stj.verdict import TIE, Label

ALL = "all"
"""The subset of pairs without one."""
SAME_ANSWERS = "same_answers"
"""Why a pair has no better response: both are the same text."""
HUMAN_TIE = "human_tie"
"""Why a pair has no better response: people called it a tie."""
NO_WINNER = "no_winner"
"""Why a pair has no better response: people disagree, or none of them could tell."""
_INSTRUCTION = ("instruction", "prompt")
OPEN_RESPONSES = ("response_a", "response_b")
"""The fields of two responses in an order that says nothing."""
_CUT = "length"  # The finish_reason of APIs and of vLLM for a text that max_tokens cut.
_LONG_FORM = ("annotator", "annotator_id", "annotator_name")


def _finish_field(response: str) -> str:
    """The field of why a response ended."""
    return f"{response}_finish_reason"


_OWN = (
    *(*_INSTRUCTION, *OPEN_RESPONSES, *CHOSEN, "winner", "label", "id", "subset"),
    *(*JUDGES_WINNERS, *JUDGE_FIELDS, ANNOTATORS, *map(_finish_field, (*OPEN_RESPONSES, *CHOSEN))),
)


@dataclass(frozen=True, kw_only=True)
class GivenPair:
    """Two responses to an instruction, as a file has them."""

    id: str
    """The row's id, or its number in the source."""
    subset: str | None
    row_id: str
    """An id that no other pair of the source has: its own, or its subset and id if another subset had that id before."""
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

    def judged(self, ties: Ties) -> tuple[Pair, str | None]:
        """The pair that a judge is measured by, and why it is not judged; None if it is."""
        chosen, rejected = self.ranked
        tied = self.undecided == HUMAN_TIE and ties != "skip" and self.first != self.second
        method = {"count": TIED, "half": TIED_HALF}[ties] if tied else GIVEN
        reason = SAME_ANSWERS if self.first == self.second else None if tied else self.undecided
        return Pair(method=method, chosen=chosen, rejected=rejected), reason


def pair_records(location: str, key: str, fields: PairFields = OWN_FIELDS) -> Iterator[Located]:
    """The records of a file or a directory; `key` names the setting in errors.

    Raises SourceError: at once if a file is missing, later if it cannot be read.
    """
    return read_files(files_at(location, key).files, fields_to_read(fields))


def fields_to_read(fields: PairFields = OWN_FIELDS) -> Fields:
    """The fields of a pair: those that are named are in each row, and of the others each row has some."""
    responses = (fields.response_a, fields.response_b, fields.chosen, fields.rejected)
    ends = (_finish_field(name) for name in responses if name is not None)
    return Fields(required=fields.named, optional=tuple(name for name in (*_OWN, *ends) if name not in fields.named))


@dataclass(frozen=True)
class _Named:
    """What names a pair."""

    id: str
    subset: str | None
    row_id: str
    position: int


def given_pairs(records: Iterable[Located], fields: PairFields = OWN_FIELDS, *, labelled: bool = False) -> Iterator[GivenPair]:
    """The pairs of a source's records; if they must be `labelled`, each has a winner, but for equal texts and undecided pairs.

    Raises SourceError, with file and line, if a pair cannot be read or if its id came before in its subset.
    """
    seen, seen_rows = Seen(), Seen()
    for position, (where, values) in enumerate(records):
        rest = {name: value for name, value in values.items() if name not in fields.named}
        given_id = values.get(fields.id) if fields.id else rest.get("id")
        pair_id = numbered(position) if given_id is None else id_of(given_id, fields.id or "id", where)
        part = values.get(fields.subset) if fields.subset else rest.get("subset")
        subset = optional_text(part, fields.subset or "subset", where) or None
        if not seen.add((subset or ALL, pair_id)):
            raise _seen_before(values, fields.id or "id", pair_id, where)
        row_id = pair_id
        if not seen_rows.add(row_id):
            row_id = joined_id(subset or ALL, pair_id)
            refuse_seen((row_id,), fields.id or "id", where, seen_rows)
        yield _pair(values, rest, where, fields, _Named(pair_id, subset, row_id, position), labelled=labelled)


def _pair(
    values: Mapping[str, Any], rest: Mapping[str, Any], where: str, fields: PairFields, named: _Named, *, labelled: bool
) -> GivenPair:
    """The pair of a record; `rest` are the fields that no setting names."""
    asked, names = _text_fields(rest, fields)
    _check_given(values, (asked, *names), fields, where)
    first, second = (text_of(values[name], name, where) for name in names)
    winner, undecided = _truth(values, rest, names, fields, where)
    if labelled and winner is None and undecided is None and first != second:
        required_better(rest, where)
    return GivenPair(
        id=named.id,
        subset=named.subset,
        row_id=named.row_id,
        position=named.position,
        place=where,
        turns=turns_from(values[asked], asked, where),
        first=first,
        second=second,
        winner=None if first == second else winner,
        ranked_by_file=fields.response_a is None and (fields.chosen is not None or names == CHOSEN),
        undecided=undecided,
        truncated=any(optional_text(rest.get(_finish_field(name)), _finish_field(name), where) == _CUT for name in names),
    )


def _text_fields(rest: Mapping[str, Any], fields: PairFields) -> tuple[str, tuple[str, str]]:
    """The field of the instruction, and those of the two responses; `rest` are the fields that no setting names."""
    asked = fields.instruction or _first_given(rest, _INSTRUCTION) or _INSTRUCTION[0]
    if fields.response_a is not None and fields.response_b is not None:
        return asked, (fields.response_a, fields.response_b)
    if fields.chosen is not None and fields.rejected is not None:
        return asked, (fields.chosen, fields.rejected)
    opened = any(rest.get(name) is not None for name in OPEN_RESPONSES)
    return asked, OPEN_RESPONSES if opened or _first_given(rest, CHOSEN) is None else CHOSEN


def _check_given(values: Mapping[str, Any], names: Iterable[str], fields: PairFields, where: str) -> None:
    """Raises SourceError if a field of a text is missing, which names it, the fields that are there, and the remedy."""
    Fields(required=fields.named).check(values, where)
    for name in names:
        if name not in values:
            raise SourceError(
                f"{where}: no field '{name}'; the fields there are {listed(list(map(str, values)))}. If another field holds "
                f"it, name that one: fields.{name}=FIELD"
            )


def _truth(
    values: Mapping[str, Any], rest: Mapping[str, Any], names: tuple[str, str], fields: PairFields, where: str
) -> tuple[Label | None, str | None]:
    """The better response, A for the first one, and why there is none, if people's labels name none."""
    if fields.chosen is not None:
        return "A", None
    if fields.winner is not None:
        return _decided(_named_label(values[fields.winner], fields.winner, names, where))
    if fields.annotators:
        return _decided(label_of_most(_peoples_labels(values, names, fields, where)))
    if calls_a_tie(rest, where):
        return None, HUMAN_TIE
    if rest.get(ANNOTATORS) is not None and not _is_labelled(rest):
        if "winner" in rest:
            return _decided(pair_label(rest["winner"], "winner", where))
        members = members_of(rest[ANNOTATORS], where)
        return _decided(label_of_most(pair_label(label, name, where) for _, name, label in members))
    return _by_truth(values, rest, names, where), None


def _peoples_labels(values: Mapping[str, Any], names: tuple[str, str], fields: PairFields, where: str) -> Iterator[str | None]:
    """The labels in the fields of annotators: one each, or those of several people in an object or a list."""
    for field in fields.annotators:
        several = isinstance(values[field], Mapping | list)
        for _, name, label in members_of(values[field], where, field) if several else [("", field, values[field])]:
            yield _named_label(label, name, names, where)


def calls_a_tie(values: Mapping[str, Any], where: str) -> bool:
    """Whether a row of stj's own fields calls the pair a tie: its label or, without one, a winner that no judge wrote."""
    if _is_labelled(values):
        return _is_tie(values, "label", where)
    return not is_judges_word(values) and _is_tie(values, "winner", where)


def _is_labelled(values: Mapping[str, Any]) -> bool:
    return any(values.get(name) not in (None, "") for name in ("label", *CHOSEN))


def _by_truth(values: Mapping[str, Any], rest: Mapping[str, Any], names: tuple[str, str], where: str) -> Label | None:
    shown = {} if names == CHOSEN else dict(zip(OPEN_RESPONSES, (values[name] for name in names), strict=True))
    return better_response({**rest, **shown}, where)


def response_words(first: str, second: str) -> dict[str, Label]:
    """The words that mean the responses in these two fields: their names, and of dotted names the part that differs."""
    words: dict[str, Label] = {first: "A", second: "B"}
    parts = list(zip(first.split("."), second.split("."), strict=False))
    differing = [part for part in parts if part[0] != part[1]]
    if first.count(".") == second.count(".") and len(differing) == 1:
        words |= {differing[0][0]: "A", differing[0][1]: "B"}
    return words


def _named_label(value: object, name: str, responses: tuple[str, str], where: str) -> str | None:
    """The label of a value, which may also name a response's field."""
    words = response_words(*responses)
    return words.get(label_word(value)) or pair_label(value, name, where, f", or {' or '.join(words)}")


def _decided(label: str | None) -> tuple[Label | None, str | None]:
    if label is None or label == UNSURE:
        return None, NO_WINNER
    return (None, HUMAN_TIE) if label == TIE else ("A" if label == "A" else "B", None)


def _is_tie(values: Mapping[str, Any], name: str, where: str) -> bool:
    """Whether a field calls the pair a tie; what it says else is read by stj/sources/truth.py."""
    try:
        return pair_label(values.get(name), name, where) == TIE
    except SourceError:
        return False


def _seen_before(values: Mapping[str, Any], field: str, pair_id: str, where: str) -> SourceError:
    several = any(values.get(name) is not None for name in _LONG_FORM)
    remedy = ". If each row is one person's label, `stj agree FILE --out PAIRS.jsonl` makes one pair of them" if several else ""
    return SourceError(
        f"{where}: field '{field}' is {pair_id[:60]!r}, which an earlier row has too; ids must be unique{remedy}"
    )


def _first_given(values: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((name for name in names if values.get(name) is not None), None)
