"""Overlap with benchmarks: an instruction that shares 13 words in a row with a text that must not be trained on.

Many instructions have fewer words: 257 of AlpacaEval's 805, and 144 of 326 in LLMBar. Such a one overlaps if it is, word for
word, a whole text. So a copy is found, and a common phrase inside a text is not.

Only what the user wrote is compared in this way. Chat models have set phrases ("feel free to ask and I'll do my best to assist
you") that also occur in a benchmark's answers. They show no overlap with the benchmark. With `source.keep_out=all` answers are
compared too, by a rule of their own (answer_overlap.py).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from stj.config import HeldoutConfig, SourceConfig
from stj.rows import Row
from stj.sources.directory import files_at
from stj.sources.files import not_empty, read_files
from stj.sources.records import Fields

BENCHMARK_OVERLAP = "benchmark_overlap"

Hashes = npt.NDArray[np.uint64]

_WORDS = 13  # Length of a phrase.
_FEWEST_CHARACTERS = 16  # Of a whole text: "Thanks!" or "What is AI?" is no copy of anything.
_EVERY_FIELD = Fields(required=())


@dataclass(frozen=True)
class Place:
    """Texts that must not be trained on: a setting, and the file or directory that it names."""

    key: str
    location: str
    with_answers: bool = False
    """Whether the answers of training pairs must not repeat its texts either."""

    def identity(self) -> str:
        """Its content, for keys. Raises SourceError if it is missing."""
        return files_at(self.location, self.key).identity()

    def records(self) -> Iterator[object]:
        """Its records. Raises SourceError if they cannot be read."""
        return (record for _, record in read_files(files_at(self.location, self.key).files, _EVERY_FIELD))

    def by_instruction(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Its texts by their instruction. Raises SourceError if they cannot be read."""
        return ((repr(record), list(_texts(record))) for record in self.records())


def places(source: SourceConfig, heldout: HeldoutConfig) -> list[Place]:
    """The places of texts that must not be trained on: `source.keep_out`, the held-out pairs and the held-out grades."""
    named = [Place("source.keep_out", location) for location in source.keep_out]
    measured = {"heldout.path": heldout.path, "heldout.grades": heldout.grades}
    return named + [Place(key, location) for key, location in measured.items() if location is not None]


def places_identity(kept_out: Iterable[Place]) -> list[str]:
    """Hashes of these places, for keys. Raises SourceError if one is missing."""
    return [place.identity() for place in kept_out]


def read_texts(place: Place) -> Iterator[str]:
    """Every text in the records of a place, at any depth. Raises SourceError if they cannot be read or there are none."""
    texts = (text for record in place.records() for text in _texts(record))
    return not_empty(texts, f"{place.key}={place.location}: holds no texts; name a file with the texts to keep out")


def drop_overlaps(rows: Iterable[Row], kept_out: Sequence[Place]) -> Iterator[Row]:
    """The same rows; a row whose user repeats 13 words in a row of a place, or a shorter text of it as a whole, is a tombstone
    with that place and the words.

    Words are runs of letters, digits and underscores, in lower case. Phrases are compared by hashes of 64 bits, which take 8
    bytes of memory for each phrase of the places. With a million rows of 300 words and ten million phrases, the probability of
    a single false match is 0.0002.
    """
    known = [(place.location, _phrases_at(place)) for place in kept_out]
    for row in rows:
        overlap = None if row.dropped else next(_overlaps(row, known), None)
        yield row.drop(BENCHMARK_OVERLAP, overlap) if overlap else row


def _overlaps(row: Row, known: Sequence[tuple[str, Hashes]]) -> Iterator[str]:
    for turn in row.turns:
        if turn.role == "user":
            phrases = _phrases_or_whole(turn.content)
            hashes = hashes_of(phrases)
            for location, there in known:
                for index in np.flatnonzero(among(hashes, there)):
                    yield f"{location}: {phrases[index]}"


def among(hashes: Hashes, there: Hashes) -> npt.NDArray[np.bool_]:
    """Which of the hashes are among the sorted hashes `there`."""
    return np.not_equal(np.searchsorted(there, hashes, "left"), np.searchsorted(there, hashes, "right"))


def _phrases_at(place: Place) -> Hashes:
    """Hashes of the distinct phrases of a place, sorted."""
    return np.unique(np.concatenate([hashes_of(_phrases_or_whole(text)) for text in read_texts(place)]))


def _phrases_or_whole(text: str) -> list[str]:
    """The phrases of a text; of one with fewer words all of them, unless they are very short."""
    whole = " ".join(_words(text)) if (phrases := phrases_of(text)) == [] else ""
    return [whole] if len(whole) >= _FEWEST_CHARACTERS else phrases


def phrases_of(text: str, length: int = _WORDS) -> list[str]:
    """All runs of this many words in a text."""
    words = _words(text)
    return [" ".join(words[start : start + length]) for start in range(len(words) - length + 1)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def hashes_of(phrases: Sequence[str]) -> Hashes:
    """Hashes of texts, 64 bits each."""
    return np.fromiter((xxh3_64_intdigest(phrase.encode()) for phrase in phrases), np.uint64, len(phrases))


def _texts(record: object) -> Iterator[str]:
    left = [record]  # No recursion: JSON may be nested deeper than Python's stack.
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
