"""Sorting more examples than fit in memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stj.loop.external_sort
from stj.loop.external_sort import sorted_by_id, sorted_by_position
from stj.rows import Example, Row, Turn


@settings(max_examples=20)
@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=400)), unique_by=lambda each: each[0], max_size=120))
def test_examples_come_in_the_order_of_their_ids_for_any_runs(found: list[tuple[str, str]]) -> None:
    examples = [
        Example(id=name, winner="A", messages=(Turn(role="user", content=text),), completion=text, rejected=None)
        for name, text in found
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stj.loop.external_sort, "_RUN_CHARACTERS", 500)
        assert list(sorted_by_id(examples)) == sorted(examples, key=lambda example: example.id)


@settings(max_examples=20)
@given(st.permutations(range(60)), st.text(max_size=400))
def test_rows_come_in_the_order_of_their_positions_for_any_runs(order: list[int], text: str) -> None:
    rows = [Row(id=str(place), position=place, turns=(Turn(role="user", content=text),)) for place in order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stj.loop.external_sort, "_RUN_CHARACTERS", 500)
        assert list(sorted_by_position(rows)) == sorted(rows, key=lambda row: row.position)
