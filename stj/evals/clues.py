"""How well simple features say which of two answers is better: what a judge could learn in place of judging.

A clue is right about a pair if it alone chooses the better answer; it is one half right if both answers look the same to it.
So chance is 50%, and a fixed rule that is much below it gives the better answer away as well as one above.

    length, markdown, refusals, language, unfinished    a fixed rule each (clue_features.py)
    position                                            whether the better answer is shown as A
    opening, words                                      learned on some instructions, scored on others (learned_clues.py)
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from stj.evals.clue_features import FEATURES, RULES, feature_sign
from stj.evals.intervals import Interval, clustered_ci95
from stj.evals.learned_clues import AnswerPair, TellingWords, folds_of, opening_outcomes, word_outcomes
from stj.randomness import uniform

MOST_PAIRS = 4000
"""Pairs that are looked at; of more, a sample by the seed. The 95% interval of a share near 50% is then 1.5 points wide on each
side, and a bag of words takes a few seconds."""


@dataclass(frozen=True, kw_only=True)
class Clue:
    """How often one feature alone chooses the better answer."""

    name: str
    rule: str
    """The answer that it chooses, in words."""
    differ: int
    """Pairs whose answers differ in it; the others are one half right each."""
    accuracy: float
    ci95: Interval
    """The 95% interval of the accuracy. Pairs of one instruction are a cluster."""
    learned: bool = False
    """Whether it was learned on other instructions."""

    @property
    def tells(self) -> bool:
        """Whether the interval is above 50%, which is chance; for a fixed rule also whether it is below.

        A learned clue below chance has learned what holds for no other instruction: few pairs often give one.
        """
        low, high = self.ci95
        return low > 0.5 or (high < 0.5 and not self.learned)


@dataclass(frozen=True, kw_only=True)
class PairClues:
    """The clues of one set of pairs."""

    pairs: int
    """Pairs with a known better answer."""
    looked_at: int
    """Those of them that were looked at."""
    clues: tuple[Clue, ...]
    telling_words: TellingWords | None
    """None if there are too few instructions to learn from."""


def clue_draw(seed: int, row_id: str) -> float:
    """The draw of a pair: those with the lowest ones are looked at."""
    return uniform(seed, row_id, "clues")


class PairSample:
    """At most MOST_PAIRS of the pairs that are added; which ones depends only on the seed and their ids."""

    def __init__(self, seed: int, most: int = MOST_PAIRS) -> None:
        self._seed = seed
        self._most = most
        self._lowest: list[tuple[float, str, AnswerPair]] = []
        self.pairs = 0
        """Pairs that were added."""

    def add(self, pair: AnswerPair) -> None:
        """Adds a pair; ids are unique."""
        self.pairs += 1
        item = (-clue_draw(self._seed, pair.id), pair.id, pair)
        if len(self._lowest) < self._most:
            heapq.heappush(self._lowest, item)
        else:
            heapq.heappushpop(self._lowest, item)

    def clues(self, whole: int | None = None) -> PairClues:
        """The clues of the sample; `whole` is the number of pairs if they were sampled before they were added."""
        pairs = sorted(pair for _, _, pair in self._lowest)  # never in the order of arrival
        clues = list(_clues_by_rule(pairs))
        folds = folds_of(pairs, self._seed)
        words = word_outcomes(pairs, folds) if folds else None
        if folds:
            outcomes = opening_outcomes(pairs, folds)
            clues += _clue(
                "opening", "the answer whose first words are more often those of better answers", pairs, outcomes, learned=True
            )
        if words:
            clues += _clue("words", "the answer that a bag of words prefers", pairs, words[0], learned=True)
        telling = words[1] if words else None
        return PairClues(pairs=whole or self.pairs, looked_at=len(pairs), clues=tuple(clues), telling_words=telling)


def _clues_by_rule(pairs: Sequence[AnswerPair]) -> Iterator[Clue]:
    for name in FEATURES:
        signs = (feature_sign(name, pair.instruction, pair.chosen, pair.rejected) for pair in pairs)
        yield from _clue(name, RULES[name], pairs, [(1 + sign) / 2 for sign in signs])
    shown = [pair for pair in pairs if pair.first is not None]
    yield from _clue("position", "the answer shown as A", shown, [pair.first for pair in shown if pair.first is not None])


def _clue(
    name: str, rule: str, pairs: Sequence[AnswerPair], outcomes: Sequence[float], *, learned: bool = False
) -> Iterator[Clue]:
    """The clue with these outcomes of these pairs; none without pairs."""
    if not pairs:
        return
    yield Clue(
        name=name,
        rule=rule,
        differ=sum(outcome != 0.5 for outcome in outcomes),
        accuracy=sum(outcomes) / len(outcomes),
        ci95=clustered_ci95(_clusters(pairs, outcomes)),
        learned=learned,
    )


def _clusters(pairs: Sequence[AnswerPair], outcomes: Sequence[float]) -> Iterable[Sequence[float]]:
    clusters: dict[str, list[float]] = {}
    for pair, outcome in zip(pairs, outcomes, strict=True):
        clusters.setdefault(pair.instruction, []).append(outcome)
    return clusters.values()
