"""Clues that have to be learned: openings and words of answers, fitted on some instructions and scored on others.

    folds          pairs of one instruction are in one of five folds, by the seed; a fold is scored by what the others taught
    opening        the first words of an answer; the score of an opening is the log-odds of being the better answer's
    bag of words   tf-idf of single words, answers of unit length; logistic regression on the difference of the two answers

A score says which answer is better; two equal scores are one half right.
"""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stj.evals.clue_features import opening
from stj.randomness import uniform
from stj.thoughts import shown_response

FOLDS = 5
FEWEST_INSTRUCTIONS = 20
"""With fewer, a fold has too few to say anything about: nothing is learned."""
_MOST_WORDS = 20_000  # The most frequent ones. More make the fit slower, and are too rare to tell.
_MOST_CHARACTERS = 8000  # Of an answer: its beginning, which bounds the time for very long ones.
_SHOWN_WORDS = 8


class AnswerPair(NamedTuple):
    """A pair whose better answer is known."""

    id: str
    instruction: str
    chosen: str
    rejected: str
    first: float | None = None
    """Share of its judgments that were shown the better answer as A; None if it was not judged."""


@dataclass(frozen=True, kw_only=True)
class TellingWords:
    """The words by which a bag of words tells the better answers, the strongest first."""

    better: tuple[str, ...]
    worse: tuple[str, ...]


def folds_of(pairs: Sequence[AnswerPair], seed: int) -> list[int] | None:
    """The fold of each pair; None if there are too few instructions to learn from."""
    by_instruction = {pair.instruction: int(FOLDS * uniform(seed, pair.instruction, "fold")) for pair in pairs}
    enough = len(by_instruction) >= FEWEST_INSTRUCTIONS and len(set(by_instruction.values())) > 1
    return [by_instruction[pair.instruction] for pair in pairs] if enough else None


def opening_outcomes(pairs: Sequence[AnswerPair], folds: Sequence[int]) -> list[float]:
    """For each pair 1 if the openings choose the better answer, 0 if the worse one, one half if neither."""
    openings = [(opening(shown_response(pair.chosen)), opening(shown_response(pair.rejected))) for pair in pairs]
    outcomes = []
    learned = {fold: _odds(openings, folds, fold) for fold in set(folds)}
    for (better, worse), fold in zip(openings, folds, strict=True):
        odds = learned[fold]
        outcomes.append(_outcome(odds.get(better, 0.0) - odds.get(worse, 0.0)))
    return outcomes


def word_outcomes(pairs: Sequence[AnswerPair], folds: Sequence[int]) -> tuple[list[float], TellingWords] | None:
    """The same for a bag of words, and its words; None if no word occurs in two answers."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # Takes a second to import.

    texts = [shown_response(text)[:_MOST_CHARACTERS] for pair in pairs for text in (pair.chosen, pair.rejected)]
    vectorizer = TfidfVectorizer(min_df=2, max_features=_MOST_WORDS, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        matrix = vectorizer.fit_transform(texts)  # (2 * pairs, words); counts words, and sees no label
    except ValueError:  # no words, or none that two answers share
        return None
    differences = matrix[0::2] - matrix[1::2]
    of_fold = np.array(folds)
    scores = np.zeros(len(pairs))
    for fold in sorted(set(folds)):
        held = of_fold == fold
        scores[held] = differences[held] @ _weights(differences[~held])
    weights = _weights(differences)
    return [_outcome(score) for score in scores], _telling(vectorizer.get_feature_names_out(), weights)


def _odds(openings: Sequence[tuple[str, str]], folds: Sequence[int], held: int) -> dict[str, float]:
    """The log-odds of each opening outside a fold; two answers with the same one teach nothing."""
    better, worse = Counter[str](), Counter[str]()
    for (first, second), fold in zip(openings, folds, strict=True):
        if fold != held and first != second:
            better[first] += 1
            worse[second] += 1
    return {name: math.log((better[name] + 1) / (worse[name] + 1)) for name in better.keys() | worse.keys()}


def _weights(differences: Any) -> Any:
    """The weight of each word, from rows that are better answer minus worse answer: (pairs, words) -> (words,)."""
    from sklearn.linear_model import LogisticRegression

    signs = np.where(np.arange(differences.shape[0]) % 2, 1.0, -1.0)  # Without an intercept it does not matter which.
    model = LogisticRegression(fit_intercept=False, solver="liblinear", max_iter=200, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # One that has not fully converged is a clue all the same.
        return model.fit(differences.multiply(signs[:, None]).tocsr(), signs).coef_[0]


def _telling(names: Any, weights: Any) -> TellingWords:
    order = sorted(range(len(names)), key=lambda place: (-weights[place], names[place]))
    better = [str(names[place]) for place in order[:_SHOWN_WORDS] if weights[place] > 0]
    worse = [str(names[place]) for place in order[: -_SHOWN_WORDS - 1 : -1] if weights[place] < 0]
    return TellingWords(better=tuple(better), worse=tuple(worse))


def _outcome(lead: float) -> float:
    return 0.5 if lead == 0 else float(lead > 0)
