"""Reading stops at `select.limit`: at most the rows in flight are read beyond the cut, and none that counts is left out.

The engines are simulated: whenever reading waits, a row that has left the reading task ends, in any order.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.passes import window
from stj.passes.gate import RayGate, SelectionGate
from stj.passes.registry import PassRegistry
from stj.passes.row_bitmap import RowBitmap
from stj.passes.source import RowSource
from stj.passes.window import ReadingWindow
from stj.rows import HELDOUT, TRAINING, Category, Row, rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests import ray_here
from tests.conftest import make_row

HELD_BACK = [make_row(position, id=f"held-{position}", task=HELDOUT) for position in range(5)]


@pytest.fixture(scope="module", autouse=True)
def no_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        ray_here.install(patch)
        yield


class Engines:
    """A source, the rows on their way, and their ends. It is the clock that reading waits by."""

    def __init__(self, passing: list[bool], limit: int, ahead: int, rng: random.Random, block: int = 1) -> None:
        self.passing, self.limit, self.ahead, self.rng, self.block = passing, limit, ahead, rng, block
        self.gate = RayGate(limit, Artifact(Folder.at("/nowhere"), {}))
        self.registry = PassRegistry()
        self.reads: list[int] = []
        self.closed = 0
        self.running: list[int] = []
        self.rows: list[str] = []
        self.now = 0.0

    @property
    def cut(self) -> int:
        """Position of the last row that counts; the last row of all if too few pass."""
        positions = [position for position, passes in enumerate(self.passing) if passes]
        return positions[self.limit - 1] if len(positions) >= self.limit else len(self.passing) - 1

    def read(self) -> Iterator[Row]:
        try:
            for position in range(len(self.passing)):
                self.reads.append(position)
                yield make_row(position)
        finally:
            self.closed += 1

    def tables(self, finished: RowBitmap | None = None) -> Iterator[pa.Table]:
        """The tables of a reading task."""
        registry = ray_here.Actor(self.registry)
        limited = ReadingWindow(self.gate, registry, self.ahead)
        return RowSource(self.read, finished or RowBitmap(), registry, lambda: iter(HELD_BACK), limited).tables()

    def take(self, table: pa.Table) -> None:
        """A table has reached the engines."""
        self.rows += table["id"].to_pylist()
        self.running += [
            position
            for task, position in zip(table["task"].to_pylist(), table["position"].to_pylist(), strict=True)
            if task == TRAINING
        ]

    def end_one(self) -> None:
        """One of the rows ends. Those of a block that is not full cannot."""
        able = len(self.running) if self.block == 1 else len(self.running) - len(self.running) % self.block
        assert able > 0, "reading waits, and nothing is on its way"
        position = self.running.pop(self.rng.randrange(able))
        if self.passing[position]:
            self.gate._actor.passed.remote(position)
        else:
            category = Category(name="Coding", complexity=1, length="a")
            self.gate.ended(make_row(position, category=category).drop("category"))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.end_one()

    def monotonic(self) -> float:
        return self.now

    def run(self, tables: Iterator[pa.Table]) -> None:
        """Runs to the end, with rows that end at any moment between two tables."""
        for table in tables:
            self.take(table)
            while self.running and self.rng.random() < 0.3 and len(self.running) > self.block:
                self.end_one()


def with_clock(engines: Engines, call: Callable[[], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "time", SimpleNamespace(sleep=engines.sleep, monotonic=engines.monotonic))
        call()


PATTERNS = st.one_of(
    st.lists(st.booleans(), min_size=1, max_size=120),
    st.lists(st.sampled_from([False] * 9 + [True]), min_size=1, max_size=300),
)


@given(PATTERNS, st.integers(1, 30), st.integers(1, 70), st.randoms(use_true_random=False))
def test_no_row_beyond_those_in_flight_is_read_and_none_is_left_out(
    passing: list[bool], limit: int, ahead: int, rng: random.Random
) -> None:
    engines = Engines(passing, limit, ahead, rng, block=max(1, ahead // 32))
    with_clock(engines, lambda: engines.run(engines.tables()))
    assert engines.reads == list(range(len(engines.reads))), "in input order, each once"
    assert engines.cut < len(engines.reads) <= engines.cut + 1 + ahead
    assert engines.rows == [f"row-{position}" for position in engines.reads] + [row.id for row in HELD_BACK]
    assert engines.closed == 1
    assert engines.registry.rows_read() == len(engines.rows)


@given(PATTERNS, st.integers(1, 30), st.integers(1, 70), st.randoms(use_true_random=False), st.integers(0, 30))
def test_a_repeated_reading_task_yields_the_same_tables_although_the_limit_came_nearer(
    passing: list[bool], limit: int, ahead: int, rng: random.Random, ray_has: int
) -> None:
    """Ray skips as many tables of the second task as it has of the first one."""
    engines = Engines(passing, limit, ahead, rng)

    def twice() -> None:
        first: list[pa.Table] = []
        tables = engines.tables()
        for table in tables:
            first.append(table)
            engines.take(table)
            if len(first) >= ray_has:
                break
        while engines.running and rng.random() < 0.9:
            engines.end_one()
        if engines.registry.earlier_reading()[1] and rng.random() < 0.5:
            engines.gate.load()  # Ray has started the gate again too
        second = 0
        for table in engines.tables():
            if second < len(first):
                assert table.equals(first[second])
            else:
                engines.take(table)
            second += 1
        assert second >= len(first)

    with_clock(engines, twice)
    assert {f"row-{position}" for position in range(engines.cut + 1)} | {row.id for row in HELD_BACK} <= set(engines.rows)
    assert len(engines.rows) == len(set(engines.rows))


def test_a_gate_that_has_forgotten_rows_does_not_stop_a_pass_for_ever() -> None:
    """Ray has started it again; the rows that ended before are not on disk yet."""
    engines = Engines([False] * 200 + [True], 1, 8, random.Random(0))
    engines.registry.record_start_attempt("engine")
    engines.registry.record_start()
    forgotten: list[int] = []

    def end_one() -> None:
        if engines.running:
            forgotten.append(engines.running.pop())

    engines.end_one = end_one  # type: ignore[method-assign]
    with_clock(engines, lambda: engines.run(engines.tables()))
    assert len(engines.reads) == 201
    assert engines.now > 30


def test_while_an_engine_starts_reading_waits() -> None:
    registry = PassRegistry()
    assert not registry.is_idle(), "no engine has a machine yet"
    registry.record_start_attempt("engine")
    assert not registry.is_idle()
    registry.record_start()
    assert registry.is_idle()
    registry.record_rows("machine", ["row-1"], [])
    assert not registry.is_idle()


class Stream:
    """A stream of the hub: it stays open until somebody closes it."""

    def __init__(self) -> None:
        self.closed = False
        self._positions = itertools.count()

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Row:
        return make_row(next(self._positions))

    def close(self) -> None:
        self.closed = True


def test_an_endless_source_is_closed_at_the_limit() -> None:
    engines, stream = Engines([True], 3, 4, random.Random(0)), Stream()
    for position in range(3):
        engines.gate._actor.passed.remote(position)
    limited = ReadingWindow(engines.gate, ray_here.Actor(engines.registry), 4)
    assert [row.position for row in limited.rows(lambda: stream)] == [0, 1, 2]
    assert stream.closed


def test_rows_out_of_order_are_refused() -> None:
    engines = Engines([True], 1, 4, random.Random(0))
    rows = [make_row(0), make_row(2), make_row(1)]
    limited = ReadingWindow(engines.gate, ray_here.Actor(engines.registry), 4)
    with pytest.raises(ValueError, match="row row-1 at position 1 comes after position 2"):
        list(limited.rows(lambda: iter(rows)))


def test_positions_without_a_row_are_no_rows_to_wait_for() -> None:
    engines = Engines([position == 700 for position in range(1000)], 1, 4, random.Random(0))
    every = engines.read
    engines.read = lambda: (row for row in every() if row.position % 100 == 0)  # type: ignore[method-assign]
    with_clock(engines, lambda: engines.run(engines.tables()))
    assert engines.rows[7] == "row-700"


def test_the_gate_starts_with_the_rows_on_disk_and_loses_what_was_only_reported(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    category = Category(name="Coding", complexity=1, length="a")
    rows = [make_row(0, category=category), make_row(1, category=category).drop("category"), make_row(2).drop("toxic")]
    older = [make_row(4).drop("over_limit"), make_row(5, category=category), make_row(6, task=HELDOUT)]
    artifact.write_part("part-0", rows_to_table([*rows, *older]))
    artifact.write_part("failed", rows_to_table([make_row(3, category=category, error="no")]))
    gate = SelectionGate(2, artifact)
    assert gate.may_read(10) == (5, True)
    assert gate.may_read(1) == (4, False), "rows 0 and 3 may be the ones that count: row 3 is tried again"
    gate.rejected(3, 5)
    assert gate.may_read(0) == (5, True)
    gate.load()
    assert gate.may_read(0) == (3, False)
    handle = RayGate(2, artifact)
    handle.ended(make_row(3, task=HELDOUT))
    handle.ended(make_row(3).drop("over_limit"))
    handle.ended(make_row(3, category=category).drop("answer_empty"))
    assert handle.may_read(0) == (3, False), "no training row was rejected"
    handle.ended(make_row(3, error="no"))
    assert handle.may_read(0) == (4, False)
    assert (gate.over(5), gate.passed(6), gate.over(6)) == (False, True, True)
