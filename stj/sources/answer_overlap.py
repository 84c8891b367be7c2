"""Answers that repeat a benchmark: 20 words in a row of its texts, unless many different instructions are answered with them.

What a user wrote is compared by 13 words (overlap.py). Answers need a stricter rule, because assistants have set phrases. Two
things make an answer's match telling. It is long: of 1,117 answers of assistants in WildChat, 2 share 13 words with one of
12,000 texts of six benchmarks, and none shares 20. And it is rare: a phrase that the benchmarks have in texts of more than two
instructions ("I'm sorry, but as an AI language model I cannot ...") is a set phrase, and shows no overlap.

An answer shorter than 20 words is never found.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from stj.rows import Row
from stj.sources.overlap import BENCHMARK_OVERLAP, Hashes, Place, among, drop_overlaps, hashes_of, phrases_of

WORDS = 20
"""Length of a phrase of an answer."""
_MOST_INSTRUCTIONS = 2
"""Instructions whose texts may share a phrase that tells: benchmarks hold some instructions in two forms."""


class AnswerPhrases:
    """The telling phrases of benchmarks, 8 bytes each; 24 while they are counted."""

    def __init__(self, places: Iterable[Place]) -> None:
        """Reads the places. Raises SourceError if one cannot be read."""
        read = [(place.location, *_phrases_by_instruction(place)) for place in places if place.with_answers]
        common = _set_phrases([phrases for _, phrases, _ in read], [owners for *_, owners in read])
        self._known = [(location, _without(np.unique(phrases), common)) for location, phrases, _ in read]

    def first_overlap(self, row: Row) -> str | None:
        """The place and the words that an answer of a row repeats; None if no answer does."""
        return next(self._overlaps(answers_of(row)), None)

    def _overlaps(self, answers: Iterable[str]) -> Iterator[str]:
        for answer in answers if self._known else ():
            phrases = phrases_of(answer, WORDS)
            hashes = hashes_of(phrases)
            for location, there in self._known:
                yield from (f"{location}, in an answer: {phrases[index]}" for index in np.flatnonzero(among(hashes, there)))


def drop_repeats(rows: Iterable[Row], kept_out: Sequence[Place]) -> Iterator[Row]:
    """The same rows; one whose user or whose answers repeat a text to keep out is a tombstone with the place and the words."""
    known = AnswerPhrases(kept_out)
    for row in drop_overlaps(rows, kept_out):
        overlap = None if row.dropped else known.first_overlap(row)
        yield row.drop(BENCHMARK_OVERLAP, overlap) if overlap else row


def answers_of(row: Row) -> list[str]:
    """The answers that a training row holds: of its pair, of a graded row, and of the assistant in its dialogue."""
    pair = [row.pair.chosen, row.pair.rejected] if row.pair else []
    response = [] if row.response is None else [row.response]
    return [*pair, *response, *(turn.content for turn in row.turns if turn.role == "assistant")]


def _phrases_by_instruction(place: Place) -> tuple[Hashes, Hashes]:
    """The phrases of a place, each once for an instruction, and the hashes of those instructions."""
    phrases, owners = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for instruction, texts in place.by_instruction():
        of_one = np.unique(np.concatenate([hashes_of(phrases_of(text, WORDS)) for text in texts]))
        phrases.append(of_one)
        owners.append(np.full(len(of_one), hashes_of([instruction])[0]))
    return np.concatenate(phrases), np.concatenate(owners)


def _set_phrases(phrases: Sequence[Hashes], owners: Sequence[Hashes]) -> Hashes:
    """The phrases that texts of more than two instructions have, of all places together."""
    if not phrases:
        return np.empty(0, np.uint64)
    pairs = np.unique(np.stack([np.concatenate(phrases), np.concatenate(owners)], axis=1), axis=0)
    values, counts = np.unique(pairs[:, 0], return_counts=True)
    return values[counts > _MOST_INSTRUCTIONS]


def _without(phrases: Hashes, common: Hashes) -> Hashes:
    return phrases[~among(phrases, common)]
