"""The cut lies between what is known to pass and what is not known to be rejected, in any order of reports."""

import random

from hypothesis import given
from hypothesis import strategies as st

from stj.passes.cut import SelectionCut


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 12), st.randoms(use_true_random=False))
def test_the_cut_lies_between_its_bounds_which_only_close_in(passing: list[bool], limit: int, rng: random.Random) -> None:
    positions = [position for position, passes in enumerate(passing) if passes]
    true_cut = positions[limit - 1] if len(positions) >= limit else None
    reports = list(range(len(passing))) + rng.sample(range(len(passing)), len(passing) // 3)  # some are asked again
    rng.shuffle(reports)
    cut = SelectionCut(limit)
    for position in reports:
        earliest, latest = cut.earliest, cut.latest
        (cut.passed if passing[position] else cut.rejected)(position)
        assert earliest <= cut.earliest
        assert latest is None or (cut.latest is not None and cut.latest <= latest)
        if true_cut is not None:
            assert cut.earliest <= true_cut
            assert cut.latest is None or true_cut <= cut.latest
    assert cut.latest == true_cut
    assert cut.earliest == (len(passing) + limit - len(positions) - 1 if true_cut is None else true_cut)


def test_rejected_rows_count_once_and_move_the_bound_beyond_all_of_them() -> None:
    cut = SelectionCut(3)
    for position in reversed(range(1000)):
        cut.rejected(position)
        cut.rejected(position)
    assert (cut.earliest, cut.latest) == (1002, None)
