"""Passes on a real Ray Data, with a scripted engine: no row is lost or repeated, and no result depends on the order."""

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest
import ray
from ray.data import DataContext
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from stj.config import EngineConfig, ModelConfig, SelectConfig
from stj.engine.scripted import ScriptedEngine
from stj.errors import ModelError, PassFailed, RequestFailed, StorageFailed
from stj.generate import Completion, Engine, Generate, Sampling, SeededSampling, Usage
from stj.passes.gate import RayGate
from stj.passes.ray_private import iteration_threads
from stj.passes.run import run_pass
from stj.passes.spec import Pass
from stj.rows import HELDOUT, TRAINING, Category, Row, Turn, row_from_dict, rows_to_table
from stj.stages.select import screen, select
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests.conftest import make_row, soon

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("ray_local")]

CONFIG = EngineConfig(device="cpu", rows_in_flight=32, commit_interval_s=0, cpus_per_replica=0.5)


def read(count: int) -> Iterator[Row]:
    return (make_row(position, f"instruction {position}") for position in range(count))


def shout(messages: Sequence[Turn], sampling: Sampling) -> str:
    time.sleep(random.random() / 1000)
    return messages[-1].content.upper()


def refuse_every_tenth(messages: Sequence[Turn], sampling: Sampling) -> str:
    if messages[-1].content.endswith("7"):
        raise RequestFailed("the engine refused")
    return shout(messages, sampling)


async def scripted(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    return ScriptedEngine({"shout": shout, "refuse": refuse_every_tenth}[model.path])


async def gpu_reader(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """Answers with the GPUs that Ray gave to the engine's process."""
    return ScriptedEngine(lambda messages, sampling: os.environ["CUDA_VISIBLE_DEVICES"])


async def seed_reader(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """Answers with the request's own seed after a random time; without one, with the engine's."""

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        time.sleep(random.random() / 200)
        return str(sampling.seed if isinstance(sampling, SeededSampling) else seed)

    return ScriptedEngine(handler)


async def noisy(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """Answers with 100 kB that no compression makes smaller."""
    return ScriptedEngine(lambda messages, sampling: os.urandom(50_000).hex())


async def dying(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """Ends its process at row 33, as a dead engine does; only once, as the file at `path` records."""

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        if messages[-1].content.endswith(" 33") and not Path(model.path).exists():
            Path(model.path).touch()
            os._exit(1)
        return shout(messages, sampling)

    return ScriptedEngine(handler)


class Talker:
    """Answers at length, in any order. Ends its process once, when half of the rows are answered."""

    def __init__(self, died: Path) -> None:
        self._died = died
        self._answered = 0

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        await asyncio.sleep(random.random())
        self._answered += 1
        if self._answered == 80 and not self._died.exists():
            await asyncio.sleep(1)  # finished rows are on their way to the driver
            self._died.touch()
            os._exit(1)
        return Completion(text="x" * random.randint(50_000, 400_000), finish_reason="stop", prompt_tokens=1, output_tokens=1)

    usage = Usage()

    def close(self) -> None:
        """Nothing to release."""


async def talker(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    return Talker(Path(model.path))


async def poisoned(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """Dies of row 7 every time."""

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        if messages[-1].content.endswith(" 7"):
            os._exit(1)
        return shout(messages, sampling)

    return ScriptedEngine(handler)


async def missing(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    raise ModelError("model nowhere: the directory does not exist")


async def answer(row: Row, generate: Generate) -> Row:
    completion = await generate(row.turns, Sampling(max_tokens=10))
    return row.drop("answered", completion.text)


async def wait_for_the_first(row: Row, generate: Generate, folder: str) -> Row:
    """Row 3 ends when two others are committed; Ray Data holds one block back until the next one arrives."""

    def committed() -> bool:
        return sum(pq.read_metadata(part).num_rows for part in (Path(folder) / "rows").glob("part-*")) >= 2

    if row.position == 3 and not await asyncio.to_thread(soon, committed, 300):
        return replace(row, error="the others were not committed while this row waited")
    return row.drop("answered", "")


LATE = 100
"""Rows from this position on begin when the limit is reached."""


async def pass_even(row: Row, generate: Generate, gate: RayGate) -> Row:
    deadline = time.monotonic() + 60
    while row.position >= LATE and not await gate.over(row.position) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    row = await screen(row, generate, SelectConfig(categories=None), gate)
    if row.dropped:
        return row
    await generate(row.turns, Sampling(max_tokens=10))
    name = "Other" if row.position % 2 == 0 else "Coding"
    row = replace(row, category=Category(name=name, complexity=1, length="a"))
    return await select(row, generate, SelectConfig(categories=("Other",)), gate)


def a_pass(rows: int, handler: str = "shout", make_engine: object = scripted) -> Pass:
    model = ModelConfig(path=handler)
    return Pass(model=model, read=partial(read, rows), stages={TRAINING: [answer]}, make_engine=make_engine)  # type: ignore[arg-type]


def test_finished_rows_are_committed_while_a_long_one_runs(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    stage = partial(wait_for_the_first, folder=str(tmp_path / "pass"))
    run_pass(replace(a_pass(4), stages={TRAINING: [stage]}), artifact, replace(CONFIG, commit_interval_s=2))
    assert [row.error for row in rows_of(artifact)] == [None] * 4


def rows_of(artifact: Artifact) -> list[Row]:
    return sorted(map(row_from_dict, artifact.records()), key=lambda row: row.position)


async def wait_for_another_engine(row: Row, generate: Generate, folder: str) -> Row:
    (Path(folder) / str(os.getpid())).touch()
    if not await asyncio.to_thread(soon, lambda: len(list(Path(folder).iterdir())) > 1, 300):
        return replace(row, error="no other engine started")
    return row.drop("answered", "")


def test_more_engines_start_while_rows_wait(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    (tmp_path / "engines").mkdir()
    stage = partial(wait_for_another_engine, folder=str(tmp_path / "engines"))
    run_pass(replace(a_pass(400), stages={TRAINING: [stage]}), artifact, replace(CONFIG, max_replicas=2))
    assert {row.error for row in rows_of(artifact)} == {None}
    assert len(rows_of(artifact)) == 400


def test_every_row_comes_out_once_with_its_answer(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    run_pass(a_pass(500), artifact, CONFIG)
    rows = rows_of(artifact)
    assert [row.detail for row in rows] == [f"INSTRUCTION {i}" for i in range(500)]
    assert artifact.manifest()["rows"] == 500
    assert artifact.manifest()["dropped"] == {"answered": 500}
    assert artifact.manifest()["output_tokens"] == 1000
    assert artifact.manifest()["ledger"] | {"engine_seconds": 0} == {
        "starts": 1,
        "engine_seconds": 0,
        "prompt_tokens": 1000,
        "computed_tokens": 1000,
        "output_tokens": 1000,
        "wasted_tokens": 0,
        "dollars": None,
    }
    assert artifact.manifest()["ledger"]["engine_seconds"] > 0
    assert artifact.begin() is False


def test_nothing_of_a_pass_stays_in_ray_datas_context(tmp_path: Path) -> None:
    """Ray Train pickles the context. Ray ends a process that pickles an actor of a Ray that was shut down."""
    before = DataContext.get_current()
    values = vars(before).copy()
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    run_pass(a_pass(4), artifact, CONFIG)
    assert DataContext.get_current() is before
    assert vars(before) == values


def test_the_progress_of_a_pass_is_among_the_metrics_of_ray(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    run_pass(replace(a_pass(40), name="watched"), artifact, CONFIG)
    port = ray.nodes()[0]["MetricsExportPort"]

    def shown() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=600) as page:
                lines = page.read().decode().splitlines()
        except OSError:  # Ray's agent has not started yet
            return False
        rows = [line for line in lines if line.startswith("ray_stj_pass_rows{") and 'pass="watched"' in line]
        return any('state="done"' in line and line.endswith(" 40.0") for line in rows)

    assert soon(shown)  # Ray sends metrics every ten seconds


def test_engines_on_gpus_take_them_from_ray(tmp_path: Path) -> None:
    """Ray Data has conditions of its own for calls that take GPUs."""
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    spec = replace(a_pass(100, make_engine=gpu_reader), model=ModelConfig(path="x", tensor_parallel_size=2))
    run_pass(spec, artifact, replace(CONFIG, device="gpu"))
    rows = rows_of(artifact)
    assert [row.position for row in rows] == list(range(100))
    assert {row.detail for row in rows} <= {"0,1", "1,0"}


def test_a_pass_resumes_after_its_committed_rows(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    run_pass(a_pass(60), artifact, CONFIG)
    (tmp_path / "pass" / "manifest.json").unlink()  # as if killed after 60 of 100 rows
    committed = set(artifact.parts())
    assert artifact.state()[0] == "partial"
    positions: list[int] = []
    dollars = replace(a_pass(100), dollars_per_engine_hour=3600.0)
    run_pass(dollars, artifact, CONFIG, lambda row: positions.append(row.position))
    assert [row.position for row in rows_of(artifact)] == list(range(100))
    assert committed < set(artifact.parts())
    assert sorted(positions) == list(range(60, 100))
    ledger = artifact.manifest()["ledger"]
    assert (ledger["starts"], ledger["output_tokens"], ledger["wasted_tokens"]) == (2, 200, 0)
    assert ledger["dollars"] == pytest.approx(ledger["engine_seconds"], abs=0.1)


def test_a_broken_pipe_ends_the_pass_and_its_finished_rows_are_kept(tmp_path: Path) -> None:
    def broken_pipe(row: Row) -> None:
        raise BrokenPipeError

    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    with pytest.raises(BrokenPipeError):
        run_pass(a_pass(20), artifact, CONFIG, broken_pipe)
    assert len(rows_of(artifact)) == 1


def test_failed_rows_are_kept_with_their_error_and_tried_again(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    with pytest.raises(PassFailed, match=r"10 of 100 rows failed.*max_failed_fraction=0.01; row row-\d*7: the engine refused"):
        run_pass(a_pass(100, "refuse"), artifact, CONFIG)
    assert len(rows_of(artifact)) == 90
    tolerant = EngineConfig(device="cpu", rows_in_flight=32, cpus_per_replica=0.5, max_failed_fraction=0.1)
    run_pass(a_pass(100, "refuse"), artifact, tolerant)
    rows = rows_of(artifact)
    assert [row.position for row in rows] == list(range(100))
    assert {row.error for row in rows} == {None, "the engine refused"}
    assert artifact.manifest()["failed"] == 10


def test_an_engine_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    with pytest.raises(ModelError, match="model nowhere: the directory does not exist") as caught:
        run_pass(a_pass(10, make_engine=missing), artifact, CONFIG)
    assert artifact.state()[0] == "partial"
    assert soon(engines_gave_back_their_cpus), caught.value


def engines_gave_back_their_cpus() -> bool:
    """Whether Ray has all its CPUs again. A test that calls this keeps its error, as a program does that goes on after it."""
    return bool(ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])


def test_an_engine_that_dies_comes_back_and_no_row_is_lost_or_twice(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    run_pass(a_pass(100, str(tmp_path / "died"), make_engine=dying), artifact, CONFIG)
    assert (tmp_path / "died").exists()
    assert [row.position for row in rows_of(artifact)] == list(range(100))


def test_long_answers_survive_an_engine_that_dies_too(tmp_path: Path) -> None:
    """Ray asks a new engine for whole blocks again, and their rows come in another order and size."""
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    config = replace(CONFIG, rows_in_flight=256)
    run_pass(a_pass(160, str(tmp_path / "died"), make_engine=talker), artifact, config)
    assert (tmp_path / "died").exists()
    assert [row.position for row in rows_of(artifact)] == list(range(160))


def test_a_row_that_kills_engines_is_quarantined_and_no_other(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    run_pass(a_pass(120, make_engine=poisoned), artifact, replace(CONFIG, max_failed_fraction=0.02))
    rows = rows_of(artifact)
    assert [row.position for row in rows] == list(range(120))
    assert {row.position: row.error for row in rows if row.error} == {
        7: "quarantined: an engine died 3 times with this row on it, the last time alone"
    }


def test_the_limit_is_exact_in_any_order(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    gate = RayGate(7, artifact)
    passing = partial(pass_even, gate=gate)
    spec = Pass(model=ModelConfig(path="shout"), read=partial(read, 200), stages={TRAINING: [passing]}, make_engine=scripted)
    run_pass(replace(spec, limit=7), artifact, CONFIG)
    rows = rows_of(artifact)
    assert [row.position for row in rows if not row.dropped] == [0, 2, 4, 6, 8, 10, 12]
    assert [row.position for row in rows if row.position >= LATE and row.category] == []
    assert artifact.manifest()["output_tokens"] <= 2 * LATE, (
        "rows that begin later never reach the model, which writes two words"
    )


FLAKY = 40
"""A row that passes when it is first asked. Its engine dies before it ends, and it does not pass when it is asked again."""


def read_noting(count: int, file: str, dies_at: int) -> Iterator[Row]:
    """Rows, each noted in a file as it is read; and the end of the reading. Its process dies once, at one of them."""
    notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        for position in range(count):
            if position == dies_at and not Path(f"{file}_died").exists():
                Path(f"{file}_died").touch()
                os._exit(1)
            os.write(notes, f"{position}\n".encode())
            yield make_row(position, f"instruction {position}")
    finally:
        os.write(notes, b"closed\n")
        os.close(notes)


def read_heldout(count: int) -> Iterator[Row]:
    return (make_row(position, f"pair {position}", id=f"pair-{position}", task=HELDOUT) for position in range(count))


async def pass_thirds(row: Row, generate: Generate, gate: RayGate, died: str) -> Row:
    """Asks the gate and the model. The flaky row ends its engine after it has reported that it passes.

    The rows after it wait until it seems to be the last one within the limit.
    """
    while row.position > FLAKY and not Path(died).exists() and not await gate.over(row.position):
        await asyncio.sleep(0.02)
    row = await screen(row, generate, SelectConfig(categories=None), gate)
    if row.dropped:
        return row
    await asyncio.sleep(random.random() / 50)
    await generate(row.turns, Sampling(max_tokens=10))
    flakes = row.position == FLAKY and not Path(died).exists()
    name = "Other" if flakes or (row.position % 3 == 0 and row.position != FLAKY) else "Coding"
    row = await select(
        replace(row, category=Category(name=name, complexity=1, length="a")),
        generate,
        SelectConfig(categories=("Other",)),
        gate,
    )
    if flakes:
        while not await gate.over(FLAKY + 1):
            await asyncio.sleep(0.02)
        Path(died).touch()
        os._exit(1)
    return row


@pytest.mark.parametrize(
    ("rows_read", "engines", "in_flight", "limit", "flaky"),
    [
        (20_000, 2, 32, 40, False),
        (20_000, 1, 32, 15, True),
        pytest.param(838_000, 2, 256, 2_000, False, marks=pytest.mark.long, id="wildchat"),
    ],
)
def test_reading_stops_at_the_limit(
    tmp_path: Path, rows_read: int, engines: int, in_flight: int, limit: int, flaky: bool
) -> None:
    """The rows up to the limit come out, and few are read beyond the last of them, at whatever speed engines work.

    The process that reads dies on the way, and Ray reads again.

    The flaky row is the 15th that is reported to pass. The rows after it are left out until the end shows that it does not.
    """
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    if not flaky:
        (tmp_path / "died").touch()
    gate = RayGate(limit, artifact)
    spec = Pass(
        model=ModelConfig(path="shout"),
        read=partial(read_noting, rows_read, str(tmp_path / "reads"), 2 * limit),
        read_after=partial(read_heldout, 50),
        stages={TRAINING: [partial(pass_thirds, gate=gate, died=str(tmp_path / "died"))], HELDOUT: [answer]},
        make_engine=scripted,
        limit=limit,
        gate=gate,
    )
    run_pass(spec, artifact, replace(CONFIG, rows_in_flight=in_flight, min_replicas=engines, max_replicas=engines))
    cut = [position for position in range(rows_read) if position % 3 == 0 and position != FLAKY][limit - 1]
    rows = rows_of(artifact)
    assert [row.position for row in rows if row.task == TRAINING] == list(range(cut + 1))
    assert [row.position for row in rows if row.task == HELDOUT] == list(range(50))
    assert artifact.manifest()["passed_rule"] == limit
    assert set(artifact.manifest()["dropped"]) == {"answered", "category"}
    reads = (tmp_path / "reads").read_text().split()
    assert reads.count("0") == 2 + flaky
    assert reads.count("closed") == 1 + flaky
    assert reads[-1] == "closed"
    furthest = max(int(position) for position in reads if position != "closed")
    assert cut <= furthest <= cut + engines * in_flight


def test_a_pass_that_resumes_waits_for_no_more_rows_to_fill_a_call(tmp_path: Path) -> None:
    """Three rows are left of those that may be read. Four go to an engine together."""
    left, category = (6, 129, 291), Category(name="Coding", complexity=1, length="a")
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    finished = [make_row(i, f"instruction {i}", category=category).drop("category") for i in range(500) if i not in left]
    artifact.write_part("part-0", rows_to_table(finished))
    (tmp_path / "died").touch()
    gate = RayGate(len(left), artifact)
    spec = Pass(
        model=ModelConfig(path="shout"),
        read=partial(read_noting, 2000, str(tmp_path / "reads"), dies_at=2000),
        read_after=partial(read_heldout, 1),
        stages={TRAINING: [partial(pass_thirds, gate=gate, died=str(tmp_path / "died"))], HELDOUT: [answer]},
        make_engine=scripted,
        limit=len(left),
        gate=gate,
    )
    run_pass(spec, artifact, replace(CONFIG, rows_in_flight=128))
    rows = [row for row in rows_of(artifact) if row.task == TRAINING]
    assert [row.position for row in rows] == list(range(292))
    assert [row.position for row in rows if not row.dropped] == list(left)
    reads = (tmp_path / "reads").read_text().split()
    assert reads == [*map(str, range(len(reads) - 1)), "closed"]
    assert len(reads) - 2 <= 291 + 128


async def dies(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """Dies while it starts: killed, as if memory were short, or by its own error; "twice" starts after one of each.

    "broken" is what cannot heal.
    """
    with Path(model.path).open("a+") as file:
        file.write("x")
        file.seek(0)
        tries = len(file.read())
    if model.revision == "broken":
        raise ModelError("its files lack a tensor")
    if model.revision == "killed" or (model.revision == "twice" and tries == 1):
        os._exit(1)
    if model.revision == "out of memory" or (model.revision == "twice" and tries == 2):
        raise MemoryError("no room for the KV cache")
    return ScriptedEngine(shout)


def run_dying(folder: Path, how: str) -> Artifact:
    artifact = Artifact(Folder.at(folder / "pass"), {"step": "test"})
    artifact.begin()
    spec = replace(a_pass(20, make_engine=dies), model=ModelConfig(path=str(folder / "tries"), revision=how))
    run_pass(spec, artifact, replace(CONFIG, start_attempts=3))
    return artifact


def test_an_engine_that_dies_while_it_starts_is_started_again(tmp_path: Path) -> None:
    assert [row.position for row in rows_of(run_dying(tmp_path, "twice"))] == list(range(20))
    assert (tmp_path / "tries").read_text() == "xxx"


@pytest.mark.parametrize(
    ("how", "message"),
    [("killed", "killed in each of engine.start_attempts=3 starts"), ("out of memory", "no room for the KV cache")],
)
def test_an_engine_that_never_starts_is_tried_start_attempts_times(how: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PassFailed, match=message):
        run_dying(tmp_path, how)
    assert (tmp_path / "tries").read_text() == "xxx"


def test_an_engine_that_cannot_start_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its files lack a tensor"):
        run_dying(tmp_path, "broken")
    assert (tmp_path / "tries").read_text() == "x"


def test_with_seeds_of_their_own_requests_do_not_depend_on_engines_or_arrival(tmp_path: Path) -> None:
    def details(name: str, config: EngineConfig, seed: int = 5) -> dict[str, str]:
        spec = Pass(
            model=ModelConfig(path="any"),
            read=partial(read, 60),
            stages={TRAINING: [answer]},
            seed=seed,
            make_engine=seed_reader,
        )
        artifact = Artifact(Folder.at(tmp_path / name), {"step": name})
        artifact.begin()
        run_pass(spec, artifact, config)
        return {row.id: row.detail or "" for row in map(row_from_dict, artifact.records())}

    alone = details("alone", replace(CONFIG, deterministic=True))
    assert len(set(alone.values())) == 60
    assert details("two", replace(CONFIG, deterministic=True, min_replicas=2, max_replicas=2, rows_in_flight=8)) == alone
    assert set(details("other", replace(CONFIG, deterministic=True), seed=6).values()).isdisjoint(alone.values())
    assert set(details("default", CONFIG).values()) == {"5"}


def test_a_full_disk_ends_a_pass_at_once_in_one_line(small_disk: Path) -> None:
    spec = Pass(model=ModelConfig(path="any"), read=partial(read, 200), stages={TRAINING: [answer]}, make_engine=noisy)
    artifact = Artifact(Folder.at(small_disk / "pass"), {"step": "pass"})
    artifact.begin()
    with pytest.raises(
        StorageFailed, match=r"pass/rows: cannot write: No space left on device \(\d[\w. ]* are free there\)"
    ) as caught:
        run_pass(spec, artifact, CONFIG)
    assert "\n" not in str(caught.value)
    assert artifact.state()[0] == "partial"
    # `caught` holds the frames. A thread that is left calls Ray after the session has ended, which ends the process.
    left = [thread for thread in threading.enumerate() if isinstance(thread, StreamingExecutor)]
    assert [*left, *iteration_threads()] == []
    assert soon(engines_gave_back_their_cpus)
