"""Near-duplicates: copies are dropped, other rows stay, and only earlier rows decide."""

import random
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import SourceConfig
from stj.rows import Row
from stj.sources import read_rows
from stj.sources.near_duplicates import drop_near_duplicates
from tests.conftest import make_row


def drops(rows: list[Row], threshold: float = 0.8) -> dict[str, str | None]:
    """Ids of the dropped rows, with the ids of the rows that they repeat."""
    checked = drop_near_duplicates(rows, threshold, lambda row: not row.toxic)
    return {row.id: row.detail for row in checked if row.dropped == "near_duplicate"}


def sentence(seed: int, words: int = 40) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices(ascii_lowercase, k=6)) for _ in range(words))


def rows_of(texts: list[str]) -> list[Row]:
    return [make_row(position, text) for position, text in enumerate(texts)]


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=8), st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_only_the_first_of_exact_copies_is_kept(texts: list[str], threshold: float) -> None:
    dropped = drops(rows_of(texts + texts), threshold)
    assert "row-0" not in dropped
    assert all(f"row-{len(texts) + index}" in dropped for index in range(len(texts)))
    assert all(int(earlier[4:]) < int(row_id[4:]) for row_id, earlier in dropped.items() if earlier)
    assert not set(dropped) & set(dropped.values())  # A dropped row hides no other.


@given(st.permutations(range(12)))
def test_the_order_of_unrelated_rows_does_not_matter(order: list[int]) -> None:
    assert drops(rows_of([sentence(seed) for seed in order])) == {}


@given(st.lists(st.sampled_from([sentence(seed, 8) for seed in range(3)]), max_size=12), st.integers(0, 12))
def test_a_row_is_decided_by_those_before_it(texts: list[str], end: int) -> None:
    before = drops(rows_of(texts[:end]))
    assert before == {row_id: earlier for row_id, earlier in drops(rows_of(texts)).items() if int(row_id[4:]) < end}


def test_case_and_space_are_no_difference_and_one_word_in_forty_is_little() -> None:
    text = sentence(1)
    changed = text.replace(text.split()[20], "something", 1)
    assert drops(rows_of([text, text.upper().replace(" ", "\n "), changed])) == {"row-1": "row-0", "row-2": "row-0"}
    assert drops(rows_of([text, changed]), threshold=1.0) == {}


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_pairs_around_the_threshold_are_dropped(threshold: float) -> None:
    def dropped_share(similarity: float) -> float:
        """The dropped share of 40 pairs of texts with about this similarity."""
        shared = round(2 * 150 * similarity / (1 + similarity))
        pairs = [(sentence(seed, 150), f"{sentence(seed, shared)} {sentence(100 + seed, 150 - shared)}") for seed in range(40)]
        return sum(bool(drops(rows_of(list(pair)), threshold)) for pair in pairs) / 40

    assert dropped_share(min(threshold + 0.15, 1)) >= 0.95
    assert dropped_share(threshold - 0.2) == 0


def test_rows_that_do_not_count_hide_no_row_and_are_unchanged() -> None:
    text = sentence(1)
    rows = [make_row(0, text, toxic=True), make_row(1, text).drop("duplicate"), make_row(2, text), make_row(3, text)]
    checked = list(drop_near_duplicates(rows, 0.8, lambda row: not row.toxic))
    assert checked[:3] == rows[:3]
    assert (checked[3].dropped, checked[3].detail) == ("near_duplicate", "row-2")


def test_rows_stream() -> None:
    endless = (make_row(position, "the same text again") for position in iter(int, 1))
    assert next(drop_near_duplicates(endless, 0.8, lambda row: True)).dropped is None


@pytest.mark.slow
def test_copies_of_real_conversations_are_dropped_and_hardly_any_others(test_data: Path) -> None:
    rows = list(read_rows(SourceConfig(path=str(test_data / "wildchat_a" / "wildchat.jsonl"))))
    usable = [row for row in rows if row.dropped is None]
    planted = [planted_copy(row, index) for index, row in enumerate(usable[::10])]
    dropped = drops([*rows, *planted])
    assert {row.id: row.id.removeprefix("copy-") for row in planted} == {
        k: v for k, v in dropped.items() if k.startswith("copy-")
    }
    assert len(planted) > 20
    assert len(dropped) - len(planted) < 0.05 * len(usable)


def planted_copy(row: Row, index: int) -> Row:
    """The row under another id, in capitals or with one more word."""
    *before, last = row.turns
    text = last.content.upper() if index % 2 else last.content + " Please."
    return replace(row, id=f"copy-{row.id}", turns=(*before, replace(last, content=text)), toxic=False)
