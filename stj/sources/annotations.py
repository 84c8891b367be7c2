"""Labels that several annotators gave to the same pairs, from any files. A row has one of two forms.

    long        annotator (annotator_id, annotator_name) and label: one label a row, in one or several files
    wide        annotators: {name: label}, or a list of labels, whose names are then 1, 2, ...; or columns annotator_NAME or
                annotation_NAME. All labels of a pair are in one row, or in several
    MT-Bench    judge and winner, with question_id, turn, model_a and model_b: a vote, as published

    label       A, B or tie in the words of stj/sources/truth.py, or unsure; upper and lower case and spaces around do not
                matter. Null or an empty text is no label. A LabelSet allows other labels
    id, subset  name the pair; an id is unique in its subset. Without an id the texts name it
    texts       instruction or prompt, response_a and response_b: optional. They are the same in all rows of a pair

`unsure` is kept apart from other labels. A later label by the same annotator for the same pair replaces the earlier one.

Of a million rows memory holds a few numbers each. No text is kept: `pair_rows` reads the files again.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stj.errors import ConfigError, SourceError
from stj.sources.dialogue import clean, text_of, turns_from, wrong_type
from stj.sources.directory import files_at
from stj.sources.files import read_files
from stj.sources.ids import id_of, joined_id
from stj.sources.pairs import ALL
from stj.sources.records import Fields, Record, listed
from stj.sources.truth import CHOSEN
from stj.sources.votes import ANNOTATORS, UNSURE, label_word, members_of, pair_label
from stj.verdict import TIE

Ints = npt.NDArray[np.int64]

PAIR_LABELS = ("A", TIE, "B")
GROUP_FIELDS = ("subset", "category")
"""The fields of which the first that a row has is its group, if no other is named."""
_KEY = "FILE"
_LONG = ("annotator", "annotator_id", "annotator_name")
_COLUMNS = ("annotator_", "annotation_")
_VOTE = ("judge", "winner", "question_id", "turn", "model_a", "model_b")
_RESPONSES = ("response_a", "response_b")
_SWAPPED = {"A": "B", "B": "A", TIE: TIE}
_MOST_LABELS = 100  # Different labels: text that was taken for labels has more, and no agreement.
_ROW_BITS = 40  # A place in the files is a number: the file's, and below it the row's in these bits.
_NO_TEXT = 0


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The labels that a file may hold, beside `unsure`."""

    names: tuple[str, ...]
    """All of them in order; none if any is allowed."""

    @property
    def is_of_pairs(self) -> bool:
        """Whether a label says which of two responses is better."""
        return self.names == PAIR_LABELS

    def read(self, value: object, name: str, where: str) -> str | None:
        """The label that a value means; None if there is none. Raises SourceError for one outside the set."""
        if value is None or value == "":
            return None
        if self.is_of_pairs:
            return pair_label(value, name, where, "; labels=any takes any label")
        word = label_word(value)
        if word.casefold() == UNSURE:
            return UNSURE
        if not word or (self.names and word not in self.names):
            raise wrong_type(value, name, self._wanted(), where)
        return word

    def _wanted(self) -> str:
        if self.names:
            return f"one of {listed(self.names)} or '{UNSURE}'; labels=any takes any label"
        return "text, a number, true or false, and not blank"


PAIRS = LabelSet(names=PAIR_LABELS)
"""Labels that say which response is better."""


def label_set(words: str) -> LabelSet:
    """The set that a setting names: "pair", "any", or labels with commas between them. Raises ConfigError."""
    if words in ("pair", "any"):
        return PAIRS if words == "pair" else LabelSet(names=())
    names = tuple(dict.fromkeys(word.strip() for word in words.split(",")))
    if len(names) < 2 or "" in names or UNSURE in map(str.casefold, names):
        raise ConfigError(f"labels={words}: must be pair, any, or two or more labels as yes,no; '{UNSURE}' is always allowed")
    return LabelSet(names=names)


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The labels of all pairs, as numbers. Labels come pair by pair, then annotator by annotator."""

    labels: tuple[str, ...]
    """The names of the labels, without `unsure`."""
    annotators: tuple[str, ...]
    groups: tuple[str, ...]
    pairs: int
    """Number of pairs, with labels or without."""
    group: Ints
    """The group of each pair, by its place in `groups`; -1 if it has none."""
    place: Ints
    """Where each pair's texts are in the files."""
    with_texts: int
    """Number of pairs of which both responses are known."""
    pair: Ints
    """The pair of each label."""
    annotator: Ints
    """The annotator of each label, by its place in `annotators`."""
    label: Ints
    """Each label, by its place in `labels`; -1 is `unsure`."""
    replaced: int
    """Number of earlier labels that later ones by the same annotator replaced."""

    def labels_of(self, pair: int) -> dict[str, str]:
        """The label of each annotator of a pair, `unsure` too."""
        first, last = (int(end) for end in np.searchsorted(self.pair, (pair, pair + 1)))
        names = (*self.labels, UNSURE)
        return {self.annotators[self.annotator[i]]: names[self.label[i]] for i in range(first, last)}


def annotation_files(locations: Sequence[str]) -> tuple[Path, ...]:
    """The files at some paths, each once. Raises SourceError if one is missing or cannot be read."""
    files = [file for location in locations for file in files_at(location, _KEY).files]
    return tuple({file.resolve(): file for file in files}.values())


def read_annotations(files: Sequence[Path], allowed: LabelSet = PAIRS, by: str | None = None) -> Annotations:
    """The labels of files; a pair's group is the field `by`, else its subset or category.

    Raises SourceError, with file and line, if a row cannot be read or contradicts another row of its pair, and if there are no
    labels or no row has the field `by`.
    """
    table = _Table()
    fields: Sequence[str] = ()
    for place, where, values in _located(files):
        fields = fields or list(values)
        table.add(place, _parsed(where, values, allowed, by))
        if len(table.labels) > _MOST_LABELS:
            raise SourceError(
                f"{where}: more than {_MOST_LABELS} different labels so far, the last of them {list(table.labels)[-1][:60]!r}; "
                "agreement is of a few labels: name the fields that hold them"
            )
    shown = ", ".join(map(str, files))
    if not table.pairs:
        raise SourceError(f"{shown}: holds no annotations; a row has annotator and label, or annotators")
    if by and not table.groups:
        raise SourceError(f"by={by}: no row of {shown} has this field; the fields of the first row are {listed(fields)}")
    return table.annotations(allowed)


def pair_rows(files: Sequence[Path], annotations: Annotations) -> Iterator[tuple[int, Record]]:
    """Each pair's number with the fields of the row that has its texts, in the order of the files.

    Raises SourceError if a file has changed since the annotations were read.
    """
    order = np.argsort(annotations.place)
    wanted = iter(zip(annotations.place[order].tolist(), order.tolist(), strict=True))
    next_place, pair = next(wanted, (None, -1))
    for place, where, values in _located(files):
        if place == next_place:
            yield pair, _in_our_fields(values, where)
            next_place, pair = next(wanted, (None, -1))
    if next_place is not None:
        raise SourceError(f"{', '.join(map(str, files))}: changed while it was read; run the same command again")


class _Row(NamedTuple):
    """What a row says about one pair."""

    where: str
    key: object
    """What names the pair; None if the row is the only one about it."""
    shown: str
    texts: int
    """A digest of its texts, or _NO_TEXT."""
    group: str | None
    labels: Mapping[str, str]


@dataclass
class _Table:
    """The rows so far, as numbers."""

    pairs: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    _annotators: dict[str, int] = field(default_factory=dict)
    _by_key: dict[int, int] = field(default_factory=dict)
    _place: "array[int]" = field(default_factory=lambda: array("q"))
    _texts: "array[int]" = field(default_factory=lambda: array("Q"))
    _group: "array[int]" = field(default_factory=lambda: array("q"))
    _pair: "array[int]" = field(default_factory=lambda: array("q"))
    _annotator: "array[int]" = field(default_factory=lambda: array("q"))
    _label: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, place: int, row: _Row) -> None:
        """Adds a row. Raises SourceError if an earlier row of its pair has other texts or another group."""
        pair = self.pairs if row.key is None else self._by_key.setdefault(_digest(row.key), self.pairs)
        if pair == self.pairs:
            self.pairs += 1
            self._place.append(place)
            self._texts.append(row.texts)
            self._group.append(self._group_number(row))
        else:
            self._join(pair, place, row)
        for name, label in row.labels.items():
            self._pair.append(pair)
            self._annotator.append(self._annotators.setdefault(name, len(self._annotators)))
            self._label.append(-1 if label == UNSURE else self.labels.setdefault(label, len(self.labels)))

    def _join(self, pair: int, place: int, row: _Row) -> None:
        if _NO_TEXT not in (row.texts, self._texts[pair]) and row.texts != self._texts[pair]:
            raise SourceError(
                f"{row.where}: {row.shown} has other texts than in an earlier row; different pairs need different ids, and the "
                "responses of a pair stand in the same order in all its rows"
            )
        if self._texts[pair] == _NO_TEXT and row.texts != _NO_TEXT:
            self._texts[pair], self._place[pair] = row.texts, place
        group = self._group_number(row)
        if -1 not in (group, self._group[pair]) and group != self._group[pair]:
            earlier = list(self.groups)[self._group[pair]]
            raise SourceError(
                f"{row.where}: {row.shown} is in the group {str(row.group)[:60]!r}, but in {earlier[:60]!r} in an earlier row; "
                "a pair has one group"
            )
        self._group[pair] = max(group, self._group[pair])

    def _group_number(self, row: _Row) -> int:
        return -1 if row.group is None else self.groups.setdefault(row.group, len(self.groups))

    def annotations(self, allowed: LabelSet) -> Annotations:
        """The rows as Annotations; names are in order, so that they do not depend on the order of the files."""
        labels = allowed.names or tuple(sorted(self.labels))
        annotators, groups = (tuple(sorted(names)) for names in (self._annotators, self.groups))
        pair, annotator = np.array(self._pair, dtype=np.int64), _renumbered(self._annotator, self._annotators, annotators)
        order = np.lexsort((annotator, pair))  # Stable: labels of the same annotator and pair stay in the order of the files.
        pair, annotator = pair[order], annotator[order]
        last = np.ones(len(order), dtype=bool)
        last[:-1] = (pair[1:] != pair[:-1]) | (annotator[1:] != annotator[:-1])
        return Annotations(
            labels=labels,
            annotators=annotators,
            groups=groups,
            pairs=self.pairs,
            group=_renumbered(self._group, self.groups, groups),
            place=np.array(self._place, dtype=np.int64),
            with_texts=sum(texts != _NO_TEXT for texts in self._texts),
            pair=pair[last],
            annotator=annotator[last],
            label=_renumbered(self._label, self.labels, labels)[order][last],
            replaced=int((~last).sum()),
        )


def _renumbered(numbers: "array[int]", old: Mapping[str, int], new: Sequence[str]) -> Ints:
    """Numbers of names in the order of `new`; -1 stays."""
    places = {name: place for place, name in enumerate(new)}
    table = np.full(len(old) + 1, -1, dtype=np.int64)
    for name, number in old.items():
        table[number] = places[name]
    return table[np.array(numbers, dtype=np.int64)]


def _located(files: Iterable[Path]) -> Iterator[tuple[int, str, Record]]:
    """The rows of files, each with its place. A file that grows at its end changes no other place."""
    for number, file in enumerate(files):
        for row, (where, values) in enumerate(read_files([file], Fields(required=()))):
            yield (number << _ROW_BITS) + row, where, values


def _parsed(where: str, given: Record, allowed: LabelSet, by: str | None) -> _Row:
    values = _in_our_fields(given, where)
    texts = _texts(values, where, of_pairs=allowed.is_of_pairs)
    labels, is_wide = _labels(values, allowed, where)
    subset = _name(values.get("subset"), "subset", where) or ALL
    digest = _NO_TEXT if texts is None else _digest(texts)
    if values.get("id") not in (None, ""):
        row_id = id_of(values["id"], "id", where)
        key: object = (subset, row_id)
        shown = f"id {row_id[:60]!r}"
    elif texts is not None:
        key, shown = (subset, texts), "the pair"
    elif is_wide:
        key, shown = None, "the pair"
    else:
        raise SourceError(
            f"{where}: no field 'id', nor 'response_a' and 'response_b', says which pair this label is of; the fields "
            f"there are {listed(list(values))}"
        )
    return _Row(where, key, shown, digest, _group(values, by, where), labels)


def _in_our_fields(values: Record, where: str) -> Record:
    """The row; a vote of MT-Bench in our fields, its models in the order of their names."""
    if not all(values.get(name) is not None for name in _VOTE):
        return values
    first, second = (text_of(values[name], name, where) for name in ("model_a", "model_b"))
    verdict = PAIRS.read(values["winner"], "winner", where)
    label = _SWAPPED.get(str(verdict), verdict) if first > second else verdict
    pair_id = joined_id(values["question_id"], values["turn"], *sorted((first, second)))
    return {**values, "id": pair_id, "annotator": values["judge"], "label": label}


def _labels(values: Record, allowed: LabelSet, where: str) -> tuple[dict[str, str], bool]:
    """The labels of a row by annotator, and whether the row is in the wide form."""
    long = next((name for name in _LONG if values.get(name) not in (None, "")), None)
    if long and values.get(ANNOTATORS) not in (None, ""):
        raise SourceError(f"{where}: both '{long}' and '{ANNOTATORS}' name annotators; keep one of them")
    if long:
        if "label" not in values:
            Fields(required=("label",)).check(values, where)
        given = [(values[long], "label", values["label"])]
    else:
        given = list(_wide(values, where))
    labels: dict[str, str] = {}
    for spelled, column, value in given:
        name, label = _annotator(spelled, long or ANNOTATORS, where), allowed.read(value, column, where)
        if label is not None and labels.setdefault(name, label) != label:
            raise SourceError(f"{where}: two labels by the annotator {name[:60]!r}, {labels[name]!r} and {label!r}; keep one")
    return labels, not long


def _wide(values: Record, where: str) -> Iterator[tuple[object, str, object]]:
    """The name, the field and the label of each annotator of a row in the wide form."""
    members = None if values.get(ANNOTATORS) == "" else values.get(ANNOTATORS)
    columns = [(name, prefix) for name in values for prefix in _COLUMNS if name.startswith(prefix) and name != prefix]
    if members is None and not columns:
        raise SourceError(
            f"{where}: no labels: a row needs 'annotator' and 'label', or '{ANNOTATORS}', or columns annotator_NAME; the "
            f"fields there are {listed(list(values))}"
        )
    if members is None:
        yield from ((name.removeprefix(prefix), name, values[name]) for name, prefix in columns)
    else:
        yield from members_of(members, where)


def _texts(values: Record, where: str, *, of_pairs: bool) -> tuple[str, ...] | None:
    """The texts of a row; None if it lacks the responses. Raises SourceError if they tell which response is better."""
    given = [name for name in _RESPONSES if values.get(name) is not None]
    if not of_pairs:
        return tuple(repr(values.get(name)) for name in ("instruction", "prompt", *_RESPONSES)) if len(given) == 2 else None
    if not given and all(values.get(name) is not None for name in CHOSEN):
        raise SourceError(
            f"{where}: 'chosen' and 'rejected' tell which response is better, so no annotator was free to; give response_a and "
            "response_b, in the order in which they were shown"
        )
    if not given:
        return None
    Fields(required=_RESPONSES).check([name for name, value in values.items() if value is not None], where)
    asked = next((name for name in ("instruction", "prompt") if values.get(name) is not None), "instruction")
    turns = turns_from(values.get(asked), asked, where)
    return (repr(turns), *(text_of(values[name], name, where) for name in _RESPONSES))


def _group(values: Record, by: str | None, where: str) -> str | None:
    named = (_name(values.get(name), name, where) for name in ((by,) if by else GROUP_FIELDS))
    return next((name for name in named if name is not None), None)


def _name(value: object, name: str, where: str) -> str | None:
    """A name of a group; None if it is null or empty."""
    if value is None or value == "":
        return None
    if not isinstance(value, str | int):
        raise wrong_type(value, name, "text or a whole number", where)
    return clean(str(value))


def _annotator(value: object, name: str, where: str) -> str:
    text = id_of(value, name, where).strip()
    if not text:
        raise wrong_type(value, name, "the annotator's name, and not blank", where)
    return text


def _digest(value: object) -> int:
    """A digest of 8 bytes, as for ids (stj/sources/ids.py), and never _NO_TEXT."""
    return int.from_bytes(hashlib.blake2b(repr(value).encode(errors="surrogatepass"), digest_size=8).digest()) or 1
