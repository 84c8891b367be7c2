"""Ids: compared part by part, seen once, and read again from an artifact."""

import random

from hypothesis import given
from hypothesis import strategies as st

from stj.sources import ids
from stj.sources.ids import Seen, id_parts, joined_id

PARTS = st.lists(st.text("ab/%2F5é\ud800", max_size=5), min_size=1, max_size=4).map(tuple)


@given(PARTS)
def test_the_text_of_an_id_is_read_again(parts: tuple[str, ...]) -> None:
    assert id_parts(joined_id(*parts), len(parts)) == parts


@given(st.lists(PARTS, max_size=20))
def test_an_id_is_new_once(given_ids: list[tuple[str, ...]]) -> None:
    seen = Seen()
    assert [seen.add(row_id) for row_id in given_ids] == [
        row_id not in given_ids[:place] for place, row_id in enumerate(given_ids)
    ]


def test_ids_stay_seen_after_they_were_sorted() -> None:
    count = 5 * ids._RECENT + 17
    seen = Seen()
    assert all(seen.add(f"id-{number}") for number in range(count))
    assert not any(seen.add(f"id-{number}") for number in random.Random(0).sample(range(count), 500))
    assert seen.add("another")
    assert [len(digests) // ids._RECENT for digests in seen._sorted] == [4, 1]
