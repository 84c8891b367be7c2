"""Reading stops at `select.limit`: at most the rows in flight are read beyond the cut, and none that counts is left out.

The engines are simulated: whenever reading waits, a row that has left the reading task ends, in any order.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.passes import registry, window
from stj.passes.gate import RayGate, SelectionGate
from stj.passes.ledger import Ledger
from stj.passes.registry import PassRegistry
from stj.passes.row_bitmap import RowBitmap
from stj.passes.source import SEALED, RowSource, unseal
from stj.passes.window import ReadingWindow
from stj.rows import HELDOUT, TRAINING, Category, Row, rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests import ray_here
from tests.conftest import make_row

CODING = Category(name="Coding", complexity=1, length="a")
HELD_BACK = [make_row(position, id=f"held-{position}", task=HELDOUT) for position in range(5)]


@pytest.fixture(scope="module", autouse=True)
def no_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        ray_here.install(patch)
        yield


class Engines:
    """A source, the rows on their way, and their ends. It is the clock that reading waits by.

    The rows of a call come back together. If their engine dies before, all of them are asked again.
    `finished` rows are on disk.
    """

    def __init__(
        self, passing: list[bool], limit: int, ahead: int, rng: random.Random, finished: Sequence[int] = (), deaths: int = 0
    ) -> None:
        self.passing, self.limit, self.ahead, self.rng, self.deaths = passing, limit, ahead, rng, deaths
        self.gate = RayGate(limit, Artifact(Folder.at("/nowhere"), {}))
        self.registry = PassRegistry()
        self.registry.record_spending("engine", Ledger())
        self.reads: list[int] = []
        self.closed = 0
        self.calls: list[Call] = []
        self.rows: list[str] = []
        self.now = 0.0
        self.finished = RowBitmap()
        for position in finished:
            self.finished.add(TRAINING, position)
            self.report(position)

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

    def tables(self) -> Iterator[pa.Table]:
        """The tables of a reading task."""
        registry, rows_per_call = ray_here.Actor(self.registry), max(1, self.ahead // 32)
        limited = ReadingWindow(self.gate, registry, self.ahead)
        return RowSource(self.read, self.finished, registry, rows_per_call, lambda: iter(HELD_BACK), limited).tables()

    def take(self, table: pa.Table) -> None:
        """A table has reached the engines."""
        for rows in map(unseal, table[SEALED]):
            self.rows += rows["id"].to_pylist()
            call = Call.of(rows)
            if call.rows:
                self.calls.append(call)
                self.registry.record_rows("machine", list(call.rows.values()), [])

    def end_one(self) -> None:
        """One of the rows ends, or an engine dies and forgets which have ended."""
        assert self.calls, "reading waits, and nothing is on its way"
        call = self.rng.choice(self.calls)
        position = self.rng.choice(list(call.left))
        self.report(position)
        self.registry.record_rows("machine", [], [call.rows[position]])
        call.left.remove(position)
        if self.deaths and self.rng.random() < 0.05:
            self.deaths -= 1
            call.left = set(call.rows)
        elif not call.left:
            self.calls.remove(call)

    def report(self, position: int) -> None:
        if self.passing[position]:
            self.gate._actor.passed.remote(position)
        else:
            asyncio.run(self.gate.ended(make_row(position, category=CODING).drop("category")))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.end_one()

    def monotonic(self) -> float:
        return self.now

    def run(self, tables: Iterator[pa.Table]) -> None:
        """Runs to the end, with rows that end at any moment between two tables."""
        for table in tables:
            self.take(table)
            while self.calls and self.rng.random() < 0.3:
                self.end_one()


@dataclass
class Call:
    """Rows that are on an engine together, by their positions."""

    rows: dict[int, str]
    left: set[int]

    @classmethod
    def of(cls, table: pa.Table) -> "Call":
        columns = (table[name].to_pylist() for name in ("task", "position", "id"))
        rows = {position: row_id for task, position, row_id in zip(*columns, strict=True) if task == TRAINING}
        return cls(rows, set(rows))


def with_clock(engines: Engines, call: Callable[[], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "time", SimpleNamespace(sleep=engines.sleep, monotonic=engines.monotonic))
        call()


PATTERNS = st.one_of(
    st.lists(st.booleans(), min_size=1, max_size=120),
    st.lists(st.sampled_from([False] * 9 + [True]), min_size=1, max_size=300),
)


RANDOM = st.randoms(use_true_random=False)


@pytest.mark.slow
@given(PATTERNS, st.integers(1, 30), st.integers(1, 70), RANDOM, st.floats(0, 1), st.integers(0, 3))
def test_no_row_beyond_those_in_flight_is_read_and_none_is_left_out(
    passing: list[bool], limit: int, ahead: int, rng: random.Random, finished_share: float, deaths: int
) -> None:
    """Also in a pass that resumes, where few rows between the finished ones are left to fill a table."""
    finished = [position for position in range(len(passing)) if rng.random() < finished_share]
    engines = Engines(passing, limit, ahead, rng, finished, deaths)
    with_clock(engines, lambda: engines.run(engines.tables()))
    assert engines.reads == list(range(len(engines.reads))), "in input order, each once"
    assert engines.cut < len(engines.reads) <= engines.cut + 1 + ahead
    left = [position for position in engines.reads if position not in finished]
    assert engines.rows == [f"row-{position}" for position in left] + [row.id for row in HELD_BACK]
    assert engines.closed == 1
    assert engines.registry.rows_read() == len(engines.rows)


@pytest.mark.slow
@given(PATTERNS, st.integers(1, 30), st.integers(1, 70), RANDOM, st.integers(0, 30), st.floats(0, 1))
def test_a_repeated_reading_task_yields_the_same_tables_although_the_limit_came_nearer(
    passing: list[bool], limit: int, ahead: int, rng: random.Random, ray_has: int, finished_share: float
) -> None:
    """Ray skips as many tables of the second task as it has of the first one."""
    finished = [position for position in range(len(passing)) if rng.random() < finished_share]
    engines = Engines(passing, limit, ahead, rng, finished)

    def twice() -> None:
        first: list[pa.Table] = []
        tables = engines.tables()
        for table in tables:
            first.append(table)
            engines.take(table)
            if len(first) >= ray_has:
                break
        while engines.calls and rng.random() < 0.9:
            engines.end_one()
        if engines.registry.earlier_reading()[1] is not None and rng.random() < 0.5:
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
    left = set(range(engines.cut + 1)) - set(finished)
    assert {f"row-{position}" for position in left} | {row.id for row in HELD_BACK} <= set(engines.rows)
    assert len(engines.rows) == len(set(engines.rows))


@pytest.mark.parametrize(("stopped_at", "more"), [(None, []), (6, [5, 6])])
def test_a_repeated_reading_task_yields_what_the_first_one_had(stopped_at: int | None, more: list[int]) -> None:
    """The first one had read on to row 4, and then the limit was reached at row 1."""
    engines = Engines([True] * 10, 2, 4, random.Random(0))
    for position in range(2):
        engines.report(position)
    for end in (3, 4):
        engines.registry.record_table(end)
    if stopped_at is not None:
        engines.registry.record_stop(stopped_at)
    limited = ReadingWindow(engines.gate, ray_here.Actor(engines.registry), 4)
    positions = [row and row.position for row in limited.rows(engines.read)]
    assert positions == [0, 1, 2, 3, None, 4, None, *more], "None ends a table"
    assert engines.registry.earlier_reading() == ({3, 4}, 4 if stopped_at is None else stopped_at)


def test_a_row_that_takes_long_makes_reading_wait() -> None:
    engines, slow = Engines([True] * 100, 1, 8, random.Random(0)), list(range(2000))
    end_one = engines.end_one
    engines.end_one = lambda: slow.pop() if slow else end_one()  # type: ignore[method-assign]
    with_clock(engines, lambda: engines.run(engines.tables()))
    assert len(engines.reads) == 1 + 8
    assert engines.now > 60


@pytest.mark.slow
@pytest.mark.parametrize("on_disk", [True, False])
def test_a_gate_that_has_forgotten_rows_does_not_stop_a_pass_for_ever(tmp_path: Path, on_disk: bool) -> None:
    """Ray has started it again. It learns what is on disk. If rows failed, reading goes further."""
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    engines = Engines([False] * 40 + [True] + [False] * 60, 1, 8, random.Random(0))
    engines.gate = RayGate(1, artifact)

    def end_one() -> None:
        for call in engines.calls:
            engines.registry.record_rows("machine", [], list(call.rows.values()))
            rows = [make_row(i, category=CODING) if engines.passing[i] else make_row(i).drop("toxic") for i in call.rows]
            if on_disk:
                artifact.write_part(f"part-{min(call.rows)}", rows_to_table(rows))
        engines.calls = []

    engines.end_one = end_one  # type: ignore[method-assign]
    with_clock(engines, lambda: engines.run(engines.tables()))
    assert len(engines.reads) in (range(41, 41 + 8 + 1) if on_disk else [101])
    assert engines.now > 30


def test_while_no_engine_runs_or_a_row_is_on_one_nothing_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is lost may take half an hour to come back."""
    now = 0.0
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: now))
    watched = PassRegistry()
    assert watched.activity() == (0, False), "no engine has a machine yet"
    watched.record_spending("engine", Ledger())
    assert watched.activity() == (0, True)
    watched.record_rows("machine", ["row-1"], [])
    assert watched.activity() == (1, True)
    now = 60.0
    assert watched.activity() == (1, False)


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
    later = [make_row(5, category=category), make_row(6, task=HELDOUT)]
    artifact.write_part("part-0", rows_to_table([*rows, *later]))
    artifact.write_part("failed", rows_to_table([make_row(3, category=category, error="no")]))
    gate = SelectionGate(2, artifact)
    assert gate.may_read(10) == (5, True)
    assert gate.may_read(1) == (4, False), "rows 0 and 3 may be the ones that count: row 3 is tried again"
    gate.rejected(3, 5)
    assert gate.may_read(0) == (5, True)
    gate.load()
    assert gate.may_read(0) == (3, False)
    handle = RayGate(2, artifact)
    asyncio.run(handle.ended(make_row(3, task=HELDOUT)))
    asyncio.run(handle.ended(make_row(3).drop("over_limit")))
    asyncio.run(handle.ended(make_row(3, category=category).drop("answer_empty")))
    assert handle.may_read(0) == (3, False), "no training row was rejected"
    asyncio.run(handle.ended(make_row(3, error="no")))
    assert handle.may_read(0) == (4, False)
    assert (gate.over(5), gate.passed(6), gate.over(6)) == (False, True, True)
