"""Rankings: the maximum of the likelihood, its intervals, and tournaments that need fewer comparisons."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from stj.errors import ConfigError, SourceError
from stj.generate import Sampling
from stj.judging.ranking import Comparison, Tournament, all_pairs, strengths
from stj.rows import Turn
from tests.judging.test_judge import scripted

SIZE = 5
COMPARISONS = st.lists(
    st.builds(
        lambda pair, share: Comparison(first=pair[0], second=pair[1], share=share),
        st.sampled_from(all_pairs(SIZE)),
        st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    ),
    max_size=25,
)


def loss(values: np.ndarray, comparisons: Sequence[Comparison]) -> float:
    def log_odds(gap: float) -> float:
        return -math.log1p(math.exp(-gap))

    whole = sum(0.5 * log_odds(value) + 0.5 * log_odds(-value) for value in values)
    for met in comparisons:
        gap = values[met.first] - values[met.second]
        whole += met.share * log_odds(gap) + (1 - met.share) * log_odds(-gap)
    return -whole


@given(COMPARISONS)
def test_strengths_are_those_of_a_general_optimizer(comparisons: list[Comparison]) -> None:
    ranked = strengths(SIZE, comparisons)
    expected = minimize(loss, np.zeros(SIZE), args=(comparisons,), tol=1e-10).x
    expected -= expected.mean()
    assert {response.place: response.strength for response in ranked} == pytest.approx(dict(enumerate(expected)), abs=1e-3)
    falls = np.diff([response.strength for response in ranked])
    assert falls.max() < 1e-9
    assert all(low < response.strength < high for response in ranked for low, high in [response.ci95])
    assert sum(response.comparisons for response in ranked) == 2 * len(comparisons)


@given(COMPARISONS)
def test_the_order_of_comparisons_and_of_their_responses_changes_nothing(comparisons: list[Comparison]) -> None:
    turned = [Comparison(first=met.second, second=met.first, share=1 - met.share) for met in reversed(comparisons)]
    first, second = ({r.place: r.strength for r in strengths(SIZE, given)} for given in (comparisons, turned))
    assert first == pytest.approx(second, abs=1e-8)


def test_more_comparisons_narrow_an_interval_and_they_cover_the_truth() -> None:
    """200 worlds of 6 responses with known strengths: 95% of the intervals hold the strength, give or take 3 points."""
    random = np.random.default_rng(0)
    inside = []
    for _ in range(200):
        truth = random.normal(0, 1, 6)
        truth -= truth.mean()
        comparisons = [
            Comparison(first=a, second=b, share=float(random.random() < 1 / (1 + math.exp(truth[b] - truth[a]))))
            for a, b in all_pairs(6)
            for _ in range(8)
        ]
        inside += [r.ci95[0] <= truth[r.place] <= r.ci95[1] for r in strengths(6, comparisons)]
    assert 0.92 <= np.mean(inside) <= 0.99
    one, eight = ([Comparison(first=0, second=1, share=1.0), Comparison(first=0, second=1, share=0.0)] * n for n in (1, 8))
    assert strengths(2, eight)[0].ci95[1] < strengths(2, one)[0].ci95[1]


@pytest.mark.parametrize("size", [2, 3, 8, 9, 16, 33])
def test_a_tournament_finds_the_order_with_fewer_comparisons(size: int) -> None:
    tournament, comparisons = Tournament(size), list[Comparison]()
    for _ in range(tournament.rounds):
        pairs = tournament.next_round(comparisons)
        assert len({place for pair in pairs for place in pair}) == 2 * len(pairs)
        comparisons += [Comparison(first=a, second=b, share=float(a < b)) for a, b in pairs]
    met = [frozenset((met.first, met.second)) for met in comparisons]
    assert len(met) == len(set(met))
    assert len(met) <= tournament.rounds * size / 2
    ranked = [response.place for response in strengths(size, comparisons)]
    assert ranked[0] == 0
    assert np.corrcoef(ranked, range(size))[0, 1] > 0.8


def longest(messages: Sequence[Turn], sampling: Sampling) -> str:
    first, second = messages[-1].content.split("[The Start of Assistant")[1:]
    return f"[[{'A' if first.count('x') > second.count('x') else 'B' if first.count('x') < second.count('x') else 'C'}]]"


@pytest.mark.parametrize("method", ["all", "tournament"])
def test_a_judge_ranks_a_list(method: str) -> None:
    with scripted(longest) as judge:
        ranked = judge.rank("Write x.", ["x", "xxx", "xx", "xxxx"], method)  # type: ignore[arg-type]
        assert [response.place for response in ranked] == [3, 1, 2, 0]
        assert judge.rank("Write x.", ["x"])[0].comparisons == 0
        assert judge.rank("Write x.", []) == []
        tied = judge.rank("Write x.", ["xx", "xx", "xx"])
        assert [(response.place, response.strength) for response in tied] == [(0, 0), (1, 0), (2, 0)]
        with pytest.raises(SourceError, match="'response_b' is int 5"):
            judge.rank("Write x.", ["x", 5])  # type: ignore[list-item]


def test_a_judge_whose_words_cannot_be_read_compares_nothing() -> None:
    """Its votes are no ties: the strengths would seem to be equal, and sure."""
    with scripted(
        lambda messages, sampling: longest(messages, sampling) if "xxx" in messages[-1].content else "Well."
    ) as judge:
        ranked = judge.rank("Write x.", ["x", "xx", "xxx"])
        assert {response.place: response.comparisons for response in ranked} == {0: 1, 1: 1, 2: 2}


def test_what_is_not_a_list_or_a_method_is_one_line() -> None:
    with scripted(longest) as judge:
        with pytest.raises(ConfigError, match="method=swiss: must be one of 'all', 'tournament'"):
            judge.rank("Write x.", ["x", "xx"], "swiss")  # type: ignore[arg-type]
        with pytest.raises(SourceError, match="responses is one text"):
            judge.rank("Write x.", "xxx")


def test_judgments_without_a_verdict_are_no_tie() -> None:
    def silent(messages: Sequence[Turn], sampling: Sampling) -> str:
        return "I cannot say." if "xx" in messages[-1].content else "[[A=B]]"

    with scripted(silent, prompt="arena") as judge:
        ranked = {response.place: response for response in judge.rank("Write.", ["x", "xx", "y"])}
    assert [ranked[place].comparisons for place in range(3)] == [1, 0, 1]


def test_a_ranking_asks_all_votes() -> None:
    """Votes that stop once they are settled have a share further from one half than all of them."""
    asked: list[int] = []

    def first(messages: Sequence[Turn], sampling: Sampling) -> str:
        asked.append(1)
        return longest(messages, sampling)

    with scripted(first, votes=8, stop="exact") as judge:
        judge.rank("Write x.", ["x", "xx"])
    assert len(asked) == 16
