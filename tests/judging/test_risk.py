"""Risk control: the exact tail, the thresholds, and by simulation the guarantee itself."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import ConfigError
from stj.judging.calibration import Calibration, Outcome, Outcomes
from stj.judging.risk import (
    Answers,
    RiskLimit,
    binomial_tail,
    certified,
    division_tail,
    lowest_risk,
    pairs_needed,
    possible_thresholds,
)
from stj.storage.artifacts import plain
from stj.use_config import VoteConfig

SPLITS = 400


def judge_of(votes: int) -> dict[str, object]:
    return {"vote": plain(VoteConfig(votes=votes))}


def answers_of(*counts: tuple[float, int, int]) -> list[Answers]:
    return [Answers(threshold=threshold, pairs=pairs, wrong=wrong) for threshold, pairs, wrong in counts]


@given(st.integers(1, 40), st.data(), st.floats(0.01, 0.99))
def test_the_tail_is_the_sum_of_the_binomial_probabilities(trials: int, data: st.DataObject, rate: float) -> None:
    successes = data.draw(st.integers(0, trials))
    exact = sum(math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(successes + 1))
    assert binomial_tail(successes, trials, rate) == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_the_tail_of_many_trials_is_a_probability() -> None:
    assert binomial_tail(100_000, 1_000_000, 0.1) == pytest.approx(0.5, abs=0.01)
    assert binomial_tail(0, 10**9, 0.5) == 0.0
    assert binomial_tail(10**6, 10**6, 0.001) == 1.0


def test_thresholds_are_what_the_votes_can_give_and_do_not_depend_on_data() -> None:
    assert possible_thresholds({"votes": 1}) == (1.0, 0.5)
    assert possible_thresholds({"votes": 2}) == (1.0, 0.75, 0.5, 0.25)
    fine = possible_thresholds({"votes": 1, "aggregate": "distribution"})
    assert list(fine) == sorted(set(fine), reverse=True)


def test_one_vote_spends_all_of_the_allowed_failure_on_agreement_of_both_orders() -> None:
    limit = RiskLimit(risk=0.1)
    assert pairs_needed(answers_of((1.0, 0, 0), (0.5, 0, 0)), limit) == 30
    assert certified(answers_of((1.0, 29, 0), (0.5, 29, 0)), limit) is None
    assert certified(answers_of((1.0, 30, 0), (0.5, 30, 0)), limit) == Answers(threshold=1.0, pairs=30, wrong=0)


@given(st.integers(1, 25), st.data())
def test_a_half_is_drawn_without_putting_back(pairs: int, data: st.DataObject) -> None:
    errors = data.draw(st.integers(0, 2 * pairs))
    wrong = data.draw(st.integers(0, pairs))
    ways = sum(math.comb(errors, k) * math.comb(2 * pairs - errors, pairs - k) for k in range(wrong + 1) if k <= pairs)
    assert division_tail(wrong, pairs, errors) == pytest.approx(ways / math.comb(2 * pairs, pairs), rel=1e-9, abs=1e-12)


@given(st.floats(1e-6, 0.9), st.floats(0.5, 0.999), st.integers(1, 32))
def test_the_pairs_that_are_needed_suffice_and_one_less_does_not(risk: float, confidence: float, votes: int) -> None:
    limit, thresholds = RiskLimit(risk=risk, confidence=confidence), possible_thresholds({"votes": votes})
    needed = pairs_needed(answers_of(*((threshold, 0, 0) for threshold in thresholds)), limit)
    assert certified(answers_of(*((threshold, needed, 0) for threshold in thresholds)), limit)
    fewer = answers_of(*((threshold, needed - 1, 0) for threshold in thresholds))
    assert certified(fewer, limit) is None or needed == 1


def test_a_threshold_that_answers_no_more_pairs_is_not_taken() -> None:
    chosen = certified(answers_of((1.0, 90, 0), (0.75, 90, 0), (0.5, 200, 5), (0.25, 200, 5)), RiskLimit(risk=0.1))
    assert chosen == Answers(threshold=0.5, pairs=200, wrong=5)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=12),
    st.floats(0.02, 0.5),
    st.floats(0.5, 0.99),
)
def test_what_is_certified_errs_less_than_the_risk_and_a_higher_risk_answers_as_much(
    counts: list[tuple[int, int]], risk: float, confidence: float
) -> None:
    steps = np.cumsum([(max(pair), min(pair)) for pair in counts], axis=0)
    size = len(counts)
    answers = answers_of(*((1 - place / (2 * size), int(n), int(k)) for place, (n, k) in enumerate(steps)))
    chosen = certified(answers, RiskLimit(risk=risk, confidence=confidence))
    if chosen:
        assert chosen.wrong / chosen.pairs < risk
        looser = certified(answers, RiskLimit(risk=min(0.99, risk * 1.5), confidence=confidence))
        assert looser
        assert looser.pairs >= chosen.pairs
        assert chosen.pairs >= pairs_needed(answers, RiskLimit(risk=risk, confidence=0.5)) / 4
    lowest = lowest_risk(answers, confidence)
    if lowest:
        assert certified(answers, RiskLimit(risk=lowest, confidence=confidence))


@pytest.mark.parametrize(
    ("risk", "confidence"), [(0, 0.9), (1, 0.9), (-0.1, 0.9), (math.nan, 0.9), (0.1, 0.4), (0.1, 1.0), (0.1, math.nan)]
)
def test_a_limit_that_means_nothing_is_refused(risk: float, confidence: float) -> None:
    with pytest.raises(ConfigError, match="must be a"):
        RiskLimit(risk=risk, confidence=confidence)


WORLDS: Mapping[str, tuple[int, tuple[float, ...]]] = {
    "errors fall with confidence": (8, (0.45, 0.4, 0.3, 0.25, 0.2, 0.1, 0.06, 0.02)),
    "every confidence errs just above the risk": (8, (0.101,) * 8),
    "the most confident verdicts are the worst": (8, (0.02,) * 7 + (0.3,)),
    "errors rise and fall": (8, (0.2, 0.03) * 4),
    "one greedy vote, just above the risk": (1, (0.101,)),
}
"""Votes in each order, and the share of errors at each confidence above a half, rising."""


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("pairs", [60, 400])
def test_the_risk_is_kept_in_nine_of_ten_calibrations_whatever_the_judge(world: str, pairs: int) -> None:
    """The true error above the threshold is known here. It may exceed the risk in at most 10% of all calibrations."""
    votes, errors = WORLDS[world]
    random = np.random.default_rng([pairs, *map(ord, world)])
    levels = np.arange(votes + 1, 2 * votes + 1) / (2 * votes)
    weights = np.exp(3 * levels) / np.exp(3 * levels).sum()
    above = 0
    for _ in range(SPLITS):
        shown = random.multinomial(pairs, weights)
        wrong = random.binomial(shown, errors)
        outcomes = Outcomes()
        for level, right, missed in zip(levels, shown - wrong, wrong, strict=True):
            outcomes += Outcomes({Outcome("A", "A", float(level)): int(right), Outcome("A", "B", float(level)): int(missed)})
        chosen = certified(Calibration(model="", judge=judge_of(votes), outcomes=outcomes).answers(), RiskLimit(risk=0.1))
        if chosen:
            answered = levels >= chosen.threshold
            above += float(weights[answered] @ np.array(errors)[answered]) > 0.1 * weights[answered].sum()
    assert above / SPLITS <= 0.1


@pytest.mark.parametrize("error", [0.06, 0.08, 0.09, 0.1])
@pytest.mark.parametrize("pairs", [60, 300])
def test_the_other_half_of_the_same_pairs_is_within_the_risk_too(error: float, pairs: int) -> None:
    """The error that a user sees, not the one in the long run: it exceeds the risk in at most 10% of 400 splits of one pool."""
    random = np.random.default_rng([int(100 * error), pairs])
    pool = np.arange(2 * pairs) < round(error * 2 * pairs)
    above = 0
    for _ in range(SPLITS):
        wrong = int(random.permutation(pool)[:pairs].sum())
        if certified(answers_of((1.0, pairs, wrong)), RiskLimit(risk=0.1)):
            above += (pool.sum() - wrong) / pairs > 0.1
    assert above / SPLITS <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / SPLITS)


def test_a_good_judge_answers_most_pairs() -> None:
    """The limit is not kept by silence: 400 pairs are enough for a judge whose confidence is calibrated."""
    outcomes = Outcomes(
        {Outcome("A", "A", 1.0): 294, Outcome("A", "B", 1.0): 6, Outcome("B", "B", 0.75): 70, Outcome("B", "A", 0.75): 30}
    )
    calibration = Calibration(model="", judge=judge_of(2), outcomes=outcomes)
    assert calibration.abstention(RiskLimit(risk=0.1)).threshold == 1.0
    assert calibration.abstention(RiskLimit(risk=0.15)).threshold == 0.75
