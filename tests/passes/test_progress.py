"""Finished rows as bits, the line of a pass, and its ledger."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stj.passes.progress
from stj.generate import Usage
from stj.passes.ledger import Ledger, read_ledger
from stj.passes.progress import Progress
from stj.passes.row_bitmap import RowBitmap
from stj.rows import HELDOUT, Category, Judgment, Row, rows_to_table
from stj.storage.folder import Folder
from tests.conftest import make_row


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2000))))
def test_finished_rows_are_a_set(rows: list[tuple[str, int]]) -> None:
    finished, known = RowBitmap(), set[tuple[str, int]]()
    for row in rows:
        assert finished.add(*row) is (row not in known)
        known.add(row)
    assert finished.count == len(known)
    assert all(finished.has(*row) for row in known)
    assert not any(finished.has(task, position) for task, position in {("a", 2001), ("c", 0), *rows} - known)


def judged(position: int, category: str, draws: int, *, kept: bool, **fields: object) -> Row:
    judgments = tuple(
        Judgment(purpose="training", winner="A", index=i, text="", verdict="B", finish_reason="stop", output_tokens=1)
        for i in range(draws)
    )
    named = Category(name=category, complexity=1, length="a")
    return make_row(position, judgments=judgments, category=named, kept=draws - 1 if kept else None, **fields)


def test_the_line_says_rows_speed_acceptance_and_time_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(stj.passes.progress.time, "monotonic", lambda: clock[0])
    progress = Progress(name="iteration_1/judged", total=4000, done=1000)
    progress.add(rows_to_table([judged(0, "Coding", 2, kept=True), judged(1, "Coding", 3, kept=False)]))
    progress.add(
        rows_to_table([judged(2, "Other", 1, kept=True), make_row(3), judged(4, "Other", 6, kept=False, task=HELDOUT)])
    )
    progress.update(done=1000, failed=0, in_flight=9, usage=Usage())
    clock[0] += 10
    progress.update(done=2000, failed=3, in_flight=64, usage=Usage(output_tokens=50_000))
    assert progress.line() == (
        "iteration_1/judged: 2,000/4,000 rows | 3 failed | 64 in flight | 5,000 tok/s | 3.00 draws/kept | "
        "accepted 67% (Coding 50%, Other 100%) | eta 20s"
    )
    clock[0] += 100  # only the last half minute counts
    progress.update(done=2000, failed=3, in_flight=64, usage=Usage(output_tokens=50_100))
    assert progress.tokens_per_s == 1


def test_a_pass_of_unknown_size_without_judgments_says_less() -> None:
    progress = Progress(name="pairs", total=None)
    progress.add(rows_to_table([make_row(0)]))
    progress.update(done=1, failed=0, in_flight=0, usage=Usage())
    assert progress.line() == "pairs: 1 rows | 0 failed | 0 in flight"


def test_a_ledger_adds_up_over_starts_and_says_what_was_wasted(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    assert read_ledger(folder) == Ledger()
    first = Ledger(starts=1, engine_seconds=1800, usage=Usage(prompt_tokens=30, computed_tokens=10, output_tokens=50))
    first.write(folder)
    both = read_ledger(folder) + Ledger(starts=1, engine_seconds=1800, usage=Usage(output_tokens=50))
    facts = both.facts(useful_tokens=80, dollars=16)
    assert facts == {
        "starts": 2,
        "engine_seconds": 3600,
        "prompt_tokens": 30,
        "computed_tokens": 10,
        "output_tokens": 100,
        "wasted_tokens": 20,
        "dollars": 16,
    }
    assert both.facts(useful_tokens=80, dollars=None)["dollars"] is None
    folder.write("ledger.json", b"{torn")
    assert read_ledger(folder) == Ledger()
