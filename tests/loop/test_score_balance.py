"""Graded pairs are balanced over scores, whatever their order."""

import math
import random
from collections import Counter
from collections.abc import Iterable
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from stj.loop.score_balance import Point, ScoreBalance

Scores = tuple[int, int]
PAIRS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=120)
"""Scores in any order, and equal ones too: `judge.keep=random` keeps every pair with two scores."""


def points(scores: Scores, scale: str = "1-5") -> tuple[Point, Point]:
    return (scale, scores[0]), (scale, scores[1])


def balanced(pairs: Iterable[tuple[str, Scores]], seed: int, most: int | None = None) -> tuple[set[str], int]:
    pairs = list(pairs)
    balance = ScoreBalance(seed)
    for row_id, scores in pairs:
        balance.add(row_id, points(scores))
    balance.settle()
    if most is not None:
        balance.limit(most)
    return {row_id for row_id, scores in pairs if balance.has(row_id, points(scores))}, balance.size


@given(PAIRS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_no_score_has_more_examples_than_the_middle_one(scores: list[Scores], seed: int, rng: random.Random) -> None:
    pairs = [(f"row-{i}", of) for i, of in enumerate(scores)]
    kept, size = balanced(pairs, seed)
    assert size == len(kept)
    before = Counter(score for _, of in pairs for score in of)
    after = Counter(score for row_id, of in pairs if row_id in kept for score in of)
    most = math.floor(median(before.values())) if before else 0
    assert all(count <= most for count in after.values())
    left_out = [of for row_id, of in pairs if row_id not in kept]
    full = [any(after[score] + of.count(score) > most for score in of) for of in left_out]
    assert all(full), "a pair was left out although both had room"
    rng.shuffle(pairs)
    assert balanced(pairs, seed) == (kept, size)


@given(PAIRS, st.integers(0, 5), st.integers(0, 60))
def test_a_limit_keeps_as_many_of_those(scores: list[Scores], seed: int, most: int) -> None:
    pairs = [(f"row-{i}", of) for i, of in enumerate(scores)]
    kept, _ = balanced(pairs, seed)
    limited, size = balanced(pairs, seed, most)
    assert limited <= kept
    assert len(limited) == size == min(most, len(kept))


def test_equal_scores_take_two_places() -> None:
    kept, size = balanced([(f"row-{i}", (4, 4)) for i in range(7)] + [(f"other-{i}", (5, 1)) for i in range(5)], 0)
    assert len(kept) == size == 7
    assert sum(row_id.startswith("row") for row_id in kept) == 2


def test_one_number_is_not_learned() -> None:
    often, rare = [(5, 1)] * 80 + [(5, 2)] * 10, [(4, 3)] * 20 + [(3, 2)] * 10
    pairs = [(f"row-{i}", of) for i, of in enumerate([*often, *rare])]
    kept, _ = balanced(pairs, 0)
    counts = Counter(score for row_id, of in pairs if row_id in kept for score in of)
    assert max(counts.values()) == 30
    assert counts[5] == counts[1] + counts[2] - 10


def test_a_score_of_one_scale_takes_no_room_of_another() -> None:
    """The 1 of a binary scale is its best score, and that of a scale from 1 to 5 its worst."""
    balance = ScoreBalance(0)
    for number in range(100):
        balance.add(f"binary-{number}", points((1, 0), "binary"))
    for number in range(10):
        balance.add(f"five-{number}", points((5, 1)))
    balance.settle()
    assert sum(balance.has(f"five-{number}", points((5, 1))) for number in range(10)) == 10


def sorts_kept(pairs: list[Scores], most: int | None = None) -> Counter[Scores]:
    named = {f"row-{i}": of for i, of in enumerate(pairs)}
    return Counter(named[row_id] for row_id in balanced(named.items(), 0, most)[0])


def test_a_rare_score_stays_though_the_score_beside_it_is_common() -> None:
    """Every better answer has a 5 here, which has room for 180."""
    pairs = [(5, 2)] * 300 + [(5, 3)] * 60 + [(5, 1)] * 30
    assert sorts_kept(pairs) == {(5, 2): 90, (5, 3): 60, (5, 1): 30}
    assert sorts_kept(pairs, most=100) == {(5, 2): 35, (5, 3): 35, (5, 1): 30}
    assert sorts_kept(pairs, most=2) == {(5, 3): 1, (5, 1): 1}


@given(PAIRS, st.integers(0, 60))
def test_a_limit_takes_from_the_sorts_that_have_most(scores: list[Scores], most: int) -> None:
    kept, limited = sorts_kept(scores), sorts_kept(scores, most)
    left_out = [of for of in kept if limited[of] < kept[of]]
    assert all(limited[of] >= max(limited.values(), default=0) - 1 for of in left_out)
