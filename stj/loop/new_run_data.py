"""What `stj init` sees in the files that it is given: which field is what, from names and from values."""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice, permutations
from typing import Any

from stj.config import SourceConfig
from stj.errors import SourceError, StjError
from stj.pair_fields import OWN_FIELDS, PairFields
from stj.sources.directory import files_at
from stj.sources.files import read_files
from stj.sources.hub import check_reachable, is_hub_dataset, read_hub
from stj.sources.pairs import ALL, OPEN_RESPONSES, given_pairs, pair_records, response_words
from stj.sources.records import Fields, Located, listed, with_members
from stj.sources.truth import CHOSEN
from stj.sources.votes import ANNOTATORS, label_word, pair_label

_LOOKED_AT = 100
"""Records by which fields are guessed."""
_EVERY_FIELD = Fields(required=())
_INSTRUCTION = ("instruction", "prompt", "question", "query", "messages", "conversation", "conversations", "input", "text")
_ENDS = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"))
"""What tells the names of two responses apart."""
_RANKED = (
    *(("chosen", "rejected"), ("preferred", "rejected"), ("preferred", "dispreferred"), ("better", "worse"), ("good", "bad")),
    *(("win", "lose"), ("winning", "losing"), ("positive", "negative"), ("best", "worst")),
)
"""The same, where it says which response is better."""
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W\d_a-zA-Z]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]{4}")
"""Words of Thai, Lao, Burmese, Khmer, Japanese and Chinese, which have no spaces between them."""
_WINNER = ("winner", "label", "preference", "preferred", "better", "choice", "verdict", "gold", "vote", "judgment")
_SUBSETS = ("subset", "category", "domain", "topic", "source", "kind", "type", "group")
_ID = ("id", "pair_id", "uid", "uuid", "key")
_NO_HUB = "not seen, as the hub did not answer or has no such data set"
_MOST_SUBSETS = 50  # Of more, a table has no use.


class UnknownField(SourceError):
    """Nothing says which field of a file holds a part of a pair."""


@dataclass(frozen=True, kw_only=True)
class InstructionsSeen:
    """The instructions of a place."""

    place: str
    kind: str = "instructions"
    field: str | None
    """The field of the text; None if nothing says which it is."""
    fields: tuple[str, ...] = ()
    """All fields that the first record has; none if nobody could look."""
    not_seen: str = ""
    """Why nobody could look, in words."""


@dataclass(frozen=True, kw_only=True)
class PairsSeen:
    """The held-out pairs of a place."""

    place: str
    """As `heldout.path` names it."""
    names: PairFields
    pairs: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Pairs without a better response, by reason."""
    subsets: dict[str, int] = field(default_factory=dict)
    not_seen: str = ""
    """Why nobody could look, in words."""


def look_at_instructions(place: str, given: str | None) -> InstructionsSeen:
    """The instructions of a file, a directory or a data set of the hub, with their field as given or as it is guessed.

    Raises SourceError if there is nothing to read, or if it has no such field.
    """
    try:
        records = _first_records(place, "source.path", split="train")
    except StjError:
        if not is_hub_dataset(place):
            raise
        return InstructionsSeen(place=place, field=given, not_seen=_NO_HUB)
    names = _names(records)
    if given is not None:
        Fields(required=(given,)).check(names, records[0][0])
    elif "conversation_hash" in names and "conversation" in names:
        return InstructionsSeen(place=place, kind="wildchat", field=None, fields=names)
    return InstructionsSeen(place=place, field=given or _instruction_field(records), fields=names)


def look_at_pairs(place: str, given: Mapping[str, str | tuple[str, ...]]) -> PairsSeen:
    """The pairs of a file, with their fields as they are given by role, and the others as they are guessed.

    Raises SourceError if they cannot be read, with what is missing and what is there.
    """
    try:
        records = _first_records(place, "heldout.path")
    except StjError:
        if not is_hub_dataset(place):
            raise
        return PairsSeen(place=f"pairs:{place}", names=PairFields(**given), not_seen=_NO_HUB)  # type: ignore[arg-type]
    names = _pair_fields(records, given)
    if is_hub_dataset(place):
        seen = PairsSeen(place=f"pairs:{place}", names=names, not_seen=f"only its first {len(records)} rows were read")
        return _counted(seen, records)
    return _counted(PairsSeen(place=place, names=names), pair_records(place, "heldout.path", names))


def _counted(seen: PairsSeen, records: Iterable[Located]) -> PairsSeen:
    pairs, dropped, subsets = 0, Counter[str](), Counter[str]()
    for pair in given_pairs(records, seen.names, labelled=True):
        pairs += 1
        subsets[pair.subset or ALL] += 1
        if reason := pair.judged("skip")[1]:
            dropped[reason] += 1
    if not pairs:
        raise SourceError(f"heldout.path={seen.place}: holds no pairs")
    if pairs == dropped.total():
        raise SourceError(f"heldout.path={seen.place}: none of its {pairs:,} pairs has a better response")
    return replace(seen, pairs=pairs, dropped=dict(dropped), subsets=dict(subsets))


def _first_records(place: str, key: str, split: str = "all") -> list[Located]:
    """The first records of a place with all their fields and members. Raises SourceError if there are none."""
    if is_hub_dataset(place):
        source = SourceConfig(path=place)
        check_reachable(source, key)
        records = list(islice(read_hub(source, _EVERY_FIELD, key=key), _LOOKED_AT // 10))
    else:
        records = list(islice(read_files(files_at(place, key, split=split).files, _EVERY_FIELD), _LOOKED_AT))
    if not records:
        raise SourceError(f"{key}={place}: holds no rows")
    return [(where, with_members(record)) for where, record in records]


def _names(records: Sequence[Located]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(name) for _, values in records for name in values))


def _instruction_field(records: Sequence[Located], taken: Iterable[str] = ()) -> str | None:
    """The field that holds the instruction: by its name, the only one with sentences, or the only one with text.

    None if several may. A member of an object is taken only if no field may be it, and one word, which may be an id, only if
    nothing else is there.
    """
    names = _names(records)
    able = [name for name in names if name not in taken and _holds(records, name, _is_prompt)]
    fields = [name for name in able if name.partition(".")[0] not in names or "." not in name]
    found = _asked(records, fields) or _asked(records, able)
    return found or (able[0] if len(able) == 1 else None)


def _asked(records: Sequence[Located], names: Sequence[str]) -> str | None:
    named = [name for wanted in _INSTRUCTION for name in names if name.lower() == wanted]
    partly = [name for wanted in _INSTRUCTION for name in names if wanted in re.split(r"[\W_]+", name.lower())]
    if found := named or partly:
        return found[0]
    spoken = [name for name in names if _holds(records, name, _is_sentence)]
    return spoken[0] if len(spoken) == 1 else None


def _pair_fields(records: Sequence[Located], given: Mapping[str, str | tuple[str, ...]]) -> PairFields:
    """The fields of a pair: those that are given, stj's own, and those that names and values say.

    Raises SourceError if one that is needed cannot be told.
    """
    names, where = _names(records), records[0][0]
    Fields(required=PairFields(**given).named).check(names, where)  # type: ignore[arg-type]
    roles: dict[str, str | tuple[str, ...]] = dict(given)
    if not {"response_a", "chosen"} & roles.keys():
        roles |= _responses(records, roles)
    words = response_words(*(str(roles[name]) for name in (*OPEN_RESPONSES, *CHOSEN) if name in roles))
    if "chosen" not in roles and not {"winner", "annotators"} & roles.keys():
        roles |= _winner(records, [name for name in names if name not in _flat(roles)], words)
    if "instruction" not in roles:
        asked = _instruction_field(records, taken=_flat(roles))
        if asked is None:
            raise _untold(where, names, "the instruction", "instruction")
        roles["instruction"] = asked
    rest = [name for name in names if name not in _flat(roles)]
    if "id" not in roles and (named := _by_name(rest, _ID)) and _is_unique(records, named):
        roles["id"] = named
    parts = [name for name in _all_by_name(rest, _SUBSETS) if _divides(records, name)]
    if "subset" not in roles and parts:
        roles["subset"] = parts[0]
    return _without_own(roles)


def _without_own(roles: Mapping[str, str | tuple[str, ...]]) -> PairFields:
    """The names, but for those that stj takes by itself; a setting of both responses has both."""
    own = {"instruction": ("instruction", "prompt"), "winner": ("winner", "label")}
    kept = {role: name for role, name in roles.items() if name not in own.get(role, (role,))}
    for first, second in (OPEN_RESPONSES, CHOSEN):
        if {first, second} & kept.keys():
            kept |= {first: roles[first], second: roles[second]}
    if kept.keys() & {*OPEN_RESPONSES} and "winner" in roles:
        kept["winner"] = roles["winner"]
    return replace(OWN_FIELDS, **kept)  # type: ignore[arg-type]


def _responses(records: Sequence[Located], roles: Mapping[str, str | tuple[str, ...]]) -> dict[str, str]:
    """The fields of the two responses, by the role of each: of several that may be, those with the longest texts."""
    names = _names(records)
    able = [name for name in names if name not in _flat(roles) and _holds(records, name, _is_text)]
    able = [name for name in able if not _divides(records, name) and not _holds(records, name, _is_own_label, empty=True)]
    for ends, (first, second) in ((_RANKED, CHOSEN), (_ENDS, OPEN_RESPONSES)):
        told = [pair for words in ends for pair in permutations(able, 2) if _differ_by(*pair, *words)]
        if told:
            one, two = max(told, key=lambda pair: sum(_characters(records, name) for name in pair))
            return {first: one, second: two}
    spoken = [name for name in able if _holds(records, name, _is_sentence)]
    if len(alike := [pair for pair in combinations(spoken, 2) if _differ_in_one_word(*pair)]) == 1:
        return dict(zip(OPEN_RESPONSES, alike[0], strict=True))
    raise _untold(records[0][0], names, "the two responses", *OPEN_RESPONSES)


def _differ_by(one: str, two: str, first: str, second: str) -> bool:
    """Whether two names are the same but for these words, as answerA and answerB are but for a and b."""
    words, others = ([word.lower() for word in _WORDS.findall(name)] for name in (one, two))
    if first not in words or second not in others:
        return False
    words.remove(first)
    others.remove(second)
    return words == others


def _differ_in_one_word(one: str, two: str) -> bool:
    """Whether two names have several words, all but one of which are the same."""
    words, others = _WORDS.findall(one), _WORDS.findall(two)
    return len(words) == len(others) > 1 and sum(word != other for word, other in zip(words, others, strict=True)) == 1


def _characters(records: Sequence[Located], name: str) -> int:
    return sum(len(values.get(name) or "") for _, values in records)


def _winner(records: Sequence[Located], rest: Sequence[str], words: Container[str]) -> dict[str, str | tuple[str, ...]]:
    """The field of the winner, or those of several annotators. Raises SourceError if no field holds labels."""
    if ANNOTATORS in rest and "winner" not in rest:
        return {}
    labels = [name for name in rest if _holds(records, name, lambda value: _is_label(value, words), empty=True)]
    named = _by_name(labels, _WINNER)
    if named:
        return {"winner": named}
    several = _alike(labels)
    if len(several) > 1:
        return {"annotators": several}
    if len(labels) == 1:
        return {"winner": labels[0]}
    raise _untold(records[0][0], _names(records), "which response is better", "winner", "annotators")


def _alike(names: Sequence[str]) -> tuple[str, ...]:
    """The largest group of names that begin with the same letters, as rater_1 and rater_2 do."""
    groups: dict[str, list[str]] = {}
    for name in names:
        stem = re.match(r"[^\W\d_]+", name)
        groups.setdefault(stem[0].lower() if stem else "", []).append(name)
    largest = sorted(groups.values(), key=len, reverse=True)
    return tuple(largest[0]) if largest else ()


def _flat(roles: Mapping[str, str | tuple[str, ...]]) -> list[str]:
    return [name for given in roles.values() for name in (given if isinstance(given, tuple) else (given,))]


def _by_name(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next(iter(_all_by_name(names, wanted)), None)


def _all_by_name(names: Sequence[str], wanted: Sequence[str]) -> Iterator[str]:
    return (name for word in wanted for name in names if word == name.lower() or word in re.split(r"[\W_]+", name.lower()))


def _holds(records: Sequence[Located], name: str, right: Any, *, empty: bool = False) -> bool:
    """Whether all values of a field are right, apart from those that are missing; one must be there."""
    values = [values.get(name) for _, values in records]
    there = [value for value in values if value not in (None, "")]
    return bool(there) and all(map(right, there)) and (empty or 2 * len(there) > len(values))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_sentence(value: object) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and (len(value.split()) > 1 or bool(_UNSPACED.search(value))))


def _is_prompt(value: object) -> bool:
    if not isinstance(value, list):
        return isinstance(value, str)
    return bool(value) and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in value)


def _is_label(value: object, words: Container[str]) -> bool:
    if isinstance(value, bool | list | dict):
        return False
    if label_word(value) in words:
        return True
    try:
        return pair_label(value, "", "") is not None
    except SourceError:
        return False


def _is_own_label(value: object) -> bool:
    return _is_label(value, ())


def _is_unique(records: Sequence[Located], name: str) -> bool:
    values = [values.get(name) for _, values in records]
    able = all(isinstance(value, str | int) and not isinstance(value, bool) for value in values)
    return able and len(set(values)) == len(values)


def _divides(records: Sequence[Located], name: str) -> bool:
    """Whether a field has a few values that come again and again."""
    values = [values.get(name) for _, values in records]
    if not all(value is None or isinstance(value, str) for value in values):
        return False
    return 1 < len({value for value in values if value}) <= min(_MOST_SUBSETS, len(values) / 2)


def _untold(where: str, names: Sequence[str], what: str, *roles: str) -> UnknownField:
    ways = ["annotators: [FIELD, FIELD, ...]"] if "annotators" in roles else []
    ways.insert(0, ", ".join(f"{role}: FIELD" for role in roles if role != "annotators"))
    remedy = " or ".join(f"'{{{way}}}'" for way in ways)
    return UnknownField(
        f"{where}: no field is known to hold {what}; the fields there are {listed(names)}. Name it: --pair-fields {remedy}"
    )
