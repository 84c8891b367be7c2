"""What an annotator sees and says: one pair at a time, in an order of their own, as texts without names."""

import threading
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, cast, get_args

from stj.annotating.blind import BlindPair, in_order, shows_b_first
from stj.annotating.labels import LabelFile, PersonLabel
from stj.errors import ConfigError
from stj.text import visible

Choice = Literal["1", "2", "tie", "unsure"]
"""What an annotator says of the two responses in the order in which they are shown."""
LONGEST_NAME = 60
_LONGEST_TEXT = 200_000  # characters of one text; nobody reads more, and a browser shows this at once
_ORDERS = 64  # annotators whose order is kept in memory
_PLAIN: Mapping[Choice, PersonLabel] = {"1": "A", "2": "B", "tie": "tie", "unsure": "unsure"}
_SWAPPED: Mapping[Choice, PersonLabel] = {**_PLAIN, "1": "B", "2": "A"}


def annotator_name(text: object) -> str:
    """The name of an annotator in its one form. Raises ConfigError unless it is 1 to 60 printable characters."""
    name = unicodedata.normalize("NFC", text).strip() if isinstance(text, str) else ""
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise ConfigError(f"name={text!r:.80}: give 1 to {LONGEST_NAME} printable characters")
    return name


class Session:
    """The pairs of a place and the labels in a file, for any number of annotators."""

    def __init__(self, pairs: Sequence[BlindPair], labels: LabelFile, seed: int) -> None:
        self._labels = labels
        self._seed = seed
        self._ordering = threading.Lock()
        self._order = lru_cache(_ORDERS)(lambda annotator: in_order(pairs, seed, annotator))

    def shown(self, annotator: str, number: int | None = None) -> dict[str, Any]:
        """The pair with this number in the annotator's order, from 1, or the first one without a label by them.

        `number` is null in the answer if all pairs have one. Raises IndexError if there is no such pair.
        """
        self._labels.read()
        order, labels = self._ordered(annotator), self._labels.of(annotator)
        count = {"of": len(order), "labelled": sum(pair.key in labels for pair in order)}
        if number is None:
            number = next((place for place, pair in enumerate(order, start=1) if pair.key not in labels), None)
        if number is None:
            return {"number": None, **count}
        pair = self._pair(annotator, number)
        return {"number": number, **count, **self._texts(annotator, pair), "choice": self._choice(annotator, pair)}

    def choose(self, annotator: str, number: int, choice: Choice, before: Choice | None) -> None:
        """Keeps what an annotator says of a pair; `before` is what they had said when the pair was shown.

        Raises LabelledElsewhere if they have said something else since then, in another tab.
        """
        pair = self._pair(annotator, number)
        label_of = self._labels_of_choices(annotator, pair)
        self._labels.put(annotator, pair, label_of[choice], label_of[before] if before else None)

    def _ordered(self, annotator: str) -> Sequence[BlindPair]:
        with self._ordering:  # two tabs that open at once sort only once
            return self._order(annotator)

    def _pair(self, annotator: str, number: int) -> BlindPair:
        order = self._ordered(annotator)
        if not 1 <= number <= len(order):
            raise IndexError(number)
        return order[number - 1]

    def _texts(self, annotator: str, pair: BlindPair) -> dict[str, Any]:
        responses = [pair.response_a, pair.response_b]
        if shows_b_first(pair, self._seed, annotator):
            responses.reverse()
        turns = [{"role": shown_text(turn.role), "text": shown_text(turn.content)} for turn in pair.turns]
        return {"turns": turns, "responses": [shown_text(text) for text in responses]}

    def _choice(self, annotator: str, pair: BlindPair) -> Choice | None:
        label = self._labels.label(annotator, pair.key)
        return next((choice for choice, of in self._labels_of_choices(annotator, pair).items() if of == label), None)

    def _labels_of_choices(self, annotator: str, pair: BlindPair) -> Mapping[Choice, PersonLabel]:
        return _SWAPPED if shows_b_first(pair, self._seed, annotator) else _PLAIN


def choice_of(value: object) -> Choice:
    """A choice of a request. Raises ValueError for any other value."""
    if value not in get_args(Choice):
        raise ValueError(value)
    return cast(Choice, value)


def shown_text(text: str) -> str:
    """The text for a reader: what controls or hides is shown as its code, and the end of one that nobody reads is cut."""
    cut = len(text) - _LONGEST_TEXT
    shown = visible(text[:_LONGEST_TEXT] if cut > 0 else text)
    return f"{shown}\n… (+{cut:,} characters)" if cut > 0 else shown
