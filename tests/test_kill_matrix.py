"""Drivers killed with -9 at every point at which they change a file, and at random moments: the training sets stay the same.

Two iterations with a scripted engine (tests/kill_driver.py). What a model says follows from its weights, and its weights follow
from the training set before it. So the last training set shows any fault on the way. Most of it runs without Ray's processes
(tests/ray_here.py); some of the random moments are on a real cluster.
"""

import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stj.storage.artifacts import Artifact, read_artifact
from stj.storage.folder import Folder
from tests.conftest import soon
from tests.kill_driver import FIRST_SUM, REFUSED
from tests.test_job import BIN, ROOT, free_port

pytestmark = pytest.mark.engine

QUESTIONS = 36
RANDOM_MOMENTS_ON_RAY = 5  # whose processes take seconds to start
KILLED, STOPPED = -signal.SIGKILL, -signal.SIGSTOP
LIMITING = re.compile("pairs/rows/staged-")
"""Points that a run reaches only if it processed rows beyond the limit, which depends on timing."""
IN_FLIGHT = 16
PASSES = {"pairs": "seed", "iteration_2/judged": "trained"}
OTHERS = {"answers/sums": "policy", "opinions/second": "second"}
"""The passes of models with names, and these names."""
EXAMPLES = ("iteration_1/examples", "iteration_2/examples")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations, three of which the source drops: a repeated one, a near-duplicate, and one without a user's turn."""

    def record(name: str, number: int, more: str = "") -> dict[str, Any]:
        words = " ".join(hashlib.sha256(f"{number} {part}".encode()).hexdigest() for part in range(3))
        return {"conversation_hash": name, "conversation": [{"role": "user", "content": f"Question {number}: {words}{more}"}]}

    records = [record(f"c{number}", number) for number in range(QUESTIONS)]
    records[10:10] = [record("c1", 100), record("again", 2, " now"), {"conversation_hash": "silent", "conversation": []}]
    file = tmp_path_factory.mktemp("pool") / "pool.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    return file


@pytest.fixture(scope="module")
def drivers(bucket: str) -> Iterator["subprocess.Popen[str]"]:
    """Makes drivers; knows the keys to the bucket."""
    words, environment = [sys.executable, "-m", "tests.kill_driver"], {**os.environ, "RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a head of its own, for one driver after the other."""
    port, agent = free_port(), free_port()  # the defaults may be another Ray's
    start = [str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", f"--dashboard-agent-listen-port={agent}"]
    start += ["--node-ip-address=127.0.0.1", "--num-cpus=6", "--include-dashboard=false", "--disable-usage-stats"]
    log = tmp_path_factory.mktemp("ray") / "head.log"
    for _ in range(3):  # on a busy machine its processes may take longer than the 30 s that Ray itself waits
        with log.open("wb") as output:
            head = subprocess.Popen(start, env={**os.environ, "RAY_AUTH_MODE": "disabled"}, stdout=output, stderr=output)
        if listens(head, log):
            break
    try:
        assert head.poll() is None, log.read_text()
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait(timeout=600)


def listens(head: "subprocess.Popen[bytes]", log: Path) -> bool:
    """Whether a head says that it has started; it ends if it could not start."""
    soon(lambda: head.poll() is not None or b"Ray runtime started" in log.read_bytes(), seconds=120)
    return head.poll() is None


@dataclass(kw_only=True)
class Loop:
    """A run in a folder of its own, driven by one driver after the other."""

    root: str
    logs: Path
    """Folder of what its drivers leave beside the run: points, questions that engines were asked, output."""
    pool: Path
    drivers: "subprocess.Popen[str]"
    address: str | None = None
    """Address of the cluster; without one a driver runs alone."""
    settings: tuple[str, ...] = ()
    passes: Mapping[str, str] = field(default_factory=lambda: PASSES)
    """The passes that ask a model, and its weights."""

    def drive(self, deadly: str | None = None, *, stop: bool = False, seconds: float | None = None) -> int:
        """Runs one driver until it ends, reaches the deadly point, or its time is over; then checks what must hold."""
        committed, before = self.committed(), len(self.asked())
        code, _ = self.order(deadly, stop=stop, seconds=seconds)
        assert code in {0, KILLED, STOPPED}, self.output()
        asked = self.asked()[before:]
        for name, weights in self.passes.items():
            again = {question for _, model, question in asked if weights_named(model) == weights} & committed[name]
            assert not again, f"{name}: asked again for rows that were committed"
        if self.address:
            assert soon(lambda: not any(map(alive, {process for process, _, _ in asked}))), "engines outlived their driver"
        self.committed()
        return code

    def order(self, deadly: str | None = None, *, stop: bool = False, seconds: float | None = None) -> tuple[int, int]:
        """How one driver ended, and its process."""
        self.logs.mkdir(exist_ok=True)
        settings = [f"run_root={self.root}", f"source.path={self.pool}", "source.limit=null", "source.near_duplicates=0.8"]
        settings += ["select.limit=24", "heldout.path=null", "iterations=2", "engine.commit_interval_s=0.05"]
        settings += [f"engine.rows_in_flight={IN_FLIGHT}", "engine.max_failed_fraction=0.1", "engine.cpus_per_replica=0.5"]
        settings += ["engine.min_replicas=1", "engine.max_replicas=1", f"ray.address={self.address or 'local'}"]
        files = {name: str(self.logs / name) for name in ("points", "asked", "output")}
        kill = {"deadly": deadly, "signal": signal.SIGSTOP if stop else signal.SIGKILL, "seconds": seconds}
        return self.ask({"settings": [*settings, *self.settings], "ray": self.address is not None, **kill, **files})

    def wake(self, driver: int) -> int:
        """How a driver that had stopped itself ended."""
        return self.ask({"wake": driver})[0]

    def ask(self, order: Mapping[str, Any]) -> tuple[int, int]:
        assert self.drivers.stdin
        assert self.drivers.stdout
        self.drivers.stdin.write(f"{json.dumps(order)}\n")
        self.drivers.stdin.flush()
        ended = json.loads(self.drivers.stdout.readline())
        return ended["code"], ended["driver"]

    def committed(self) -> dict[str, set[int]]:
        """Questions whose rows are committed in each pass; none twice, and in a finished pass none lost."""
        found: dict[str, set[int]] = {}
        for name in self.passes:
            found[name] = set()
            folder = Folder.at(self.root) / name
            if not folder.exists("started.json"):
                continue
            artifact = read_artifact(folder)
            rows = list(artifact.records(["id", "error", "position"]))
            twice = [row_id for row_id, count in Counter(row["id"] for row in rows).items() if count > 1]
            assert not twice, f"{name}: rows {twice} are there more than once"
            if artifact.state()[0] == "done":
                assert artifact.manifest()["rows"] == len(rows)
                positions = sorted(row["position"] for row in rows)
                assert name != "pairs" or positions == list(range(len(rows))), "rows up to the limit, and no others"
                assert {row["id"] for row in rows if row["error"]} == ({f"c{REFUSED}"} if name == "pairs" else set())
            numbers = (re.search(r"\b[cq](\d+)$", row["id"]) for row in rows if not row["error"])
            found[name] = {int(number[1]) for number in numbers if number}
        return found

    def asked(self) -> list[tuple[int, str, int]]:
        """Process, weights and question of all that engines were asked."""
        log = self.logs / "asked"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(process), weights, int(question)) for process, weights, question in map(str.split, lines)]

    def points(self) -> list[str]:
        """Names of the points that drivers reached, each once."""
        return list(dict.fromkeys((self.logs / "points").read_text().splitlines()))

    def examples(self, name: str) -> bytes:
        """The bytes of a training set's files."""
        artifact: Artifact = read_artifact(Folder.at(self.root) / name)
        artifact.manifest()
        return b"".join(artifact.folder.read(part) for part in artifact.parts())

    def output(self) -> str:
        """What the drivers printed."""
        return (self.logs / "output").read_text()


def weights_named(model: str) -> str:
    """The name of the weights that an engine was asked with; those of a trained model are called by their hash."""
    return model if model in {"seed", *OTHERS.values()} else "trained"


def alive(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


class Loops:
    """Makes runs."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        self._folder = folder
        self._fields = fields

    def __call__(self, name: str, **fields: Any) -> Loop:
        values = {"root": str(self._folder / name), "logs": self._folder / f"{name}_logs", **self._fields, **fields}
        return Loop(**values)

    def one_by_one(self, name: str, **fields: Any) -> Iterator[Loop]:
        """Runs without end, in folders of their own."""
        return (self(f"{name}_{number}", **fields) for number in itertools.count())


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory, pool: Path, drivers: "subprocess.Popen[str]") -> Loops:
    return Loops(tmp_path_factory.mktemp("loops"), pool=pool, drivers=drivers)


@pytest.fixture(scope="module")
def undisturbed(loops: Loops) -> Loop:
    """A run that nobody killed."""
    loop = loops("undisturbed")
    assert loop.drive() == 0
    assert all(len(loop.examples(name)) > 1000 for name in EXAMPLES)
    return loop


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.long)])
def test_killed_at_every_named_point(loops: Loops, undisturbed: Loop, step: int) -> None:
    """At each point in turn, in one run: each driver resumes the run and is killed at the next point."""
    points = [point for point in undisturbed.points() if not LIMITING.search(point)]
    assert len(points) > 60
    loop = loops(f"points_{step}")
    for point in points[step // 2 :: step]:
        assert loop.drive(point) == KILLED, f"never came to {point}\n{loop.output()}"
    assert loop.drive() == 0
    assert [loop.examples(name) for name in EXAMPLES] == [undisturbed.examples(name) for name in EXAMPLES]


def test_killed_while_the_limit_is_applied(loops: Loops, undisturbed: Loop) -> None:
    """All rows are processed at once, so rows beyond the limit are on disk when the pass finishes."""
    loop = loops("limit", settings=(f"engine.rows_in_flight={2 * QUESTIONS}", "iterations=2"))
    staged = [f"write pairs/rows/staged-part-*.parquet: {moment}" for moment in ("before", "before its rename", "after")]
    for point in [*staged, "write pairs/manifest.json: before"]:
        assert loop.drive(point) == KILLED, f"never came to {point}\n{loop.output()}"
    assert loop.drive() == 0
    assert [loop.examples(name) for name in EXAMPLES] == [undisturbed.examples(name) for name in EXAMPLES]


def test_killed_while_it_commits_in_an_object_store(loops: Loops, undisturbed: Loop, bucket: str) -> None:
    root, _, options = bucket.partition("?")
    loop = loops("bucket", root=f"{root}/killed?{options}", settings=("iterations=1",))
    for file in (
        "pairs/rows/part-*.parquet",
        "pairs/rows/failed-*.parquet",
        "pairs/manifest.json",
        f"{EXAMPLES[0]}/manifest.json",
    ):
        for moment in ("before", "after"):
            assert loop.drive(f"write {file}: {moment}") == KILLED, loop.output()
    assert loop.drive() == 0
    assert loop.examples(EXAMPLES[0]) == undisturbed.examples(EXAMPLES[0])


@pytest.mark.parametrize("moments", [4, pytest.param(20, marks=pytest.mark.long)])
def test_killed_at_random_moments(loops: Loops, undisturbed: Loop, moments: int) -> None:
    kill_at_random_moments(loops.one_by_one(f"random_{moments}"), undisturbed, moments)


@pytest.mark.long
def test_killed_at_random_moments_on_a_cluster(loops: Loops, undisturbed: Loop, cluster: str) -> None:
    kill_at_random_moments(loops.one_by_one("cluster", address=cluster), undisturbed, RANDOM_MOMENTS_ON_RAY)


def kill_at_random_moments(fresh: Iterator[Loop], undisturbed: Loop, count: int) -> None:
    """Kills drivers at `count` moments, uniform over the time of a run; after a finished run a new one begins."""
    expected = [undisturbed.examples(name) for name in EXAMPLES]
    loop, began = next(fresh), time.monotonic()
    assert loop.drive() == 0
    duration = time.monotonic() - began
    assert [loop.examples(name) for name in EXAMPLES] == expected
    moments, loop = random.Random(4), next(fresh)
    while count:
        if loop.drive(seconds=moments.uniform(0, duration)) == KILLED:
            count -= 1
        else:
            assert [loop.examples(name) for name in EXAMPLES] == expected
            loop = next(fresh)
    assert loop.drive() == 0
    assert [loop.examples(name) for name in EXAMPLES] == expected


@pytest.mark.long
def test_killed_in_the_passes_of_a_policy_and_of_a_panel(loops: Loops, tmp_path: Path) -> None:
    """What both say decides the training sets: answers of the policy are pairs, and the panel chooses among all pairs."""
    for weights in OTHERS.values():
        shutil.copytree(ROOT / "stj/mini/grading_seed", tmp_path / weights)
        (tmp_path / weights / "weights").write_text(weights)
    sums = [{"id": f"q{number}", "question": f"Question {number}: how many?", "answer": "7"} for number in range(100, 124)]
    assert sums[0]["id"] == f"q{FIRST_SUM}"
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, sums)))
    policy, second = (f"model: {{path: {tmp_path}/{weights}, max_model_len: 2048}}" for weights in OTHERS.values())
    settings = (
        f"preferences=[{{kind: synthetic}}, {{kind: questions, name: sums, path: {tmp_path}/sums.jsonl, {policy}}}]",
        f"judge.panel=[{{name: hot, temperature: 1.5}}, {{name: second, {second}}}]",
        "select.disagreement={draws: panel, low: 0.3, high: 0.9}",
    )
    fresh = loops.one_by_one("others", settings=settings, passes={**PASSES, **OTHERS})
    undisturbed, loop = next(fresh), next(fresh)
    assert undisturbed.drive() == 0, undisturbed.output()
    files = ("rows/part-*.parquet: before", "rows/part-*.parquet: after", "manifest.json: before", "manifest.json: after")
    for point in [f"write {name}/{file}" for name in OTHERS for file in ("started.json: after", *files)]:
        assert loop.drive(point) == KILLED, f"never came to {point}\n{loop.output()}"
    assert loop.drive() == 0
    assert [loop.examples(name) for name in EXAMPLES] == [undisturbed.examples(name) for name in EXAMPLES]
    kill_at_random_moments(fresh, undisturbed, 6)


def test_of_two_drivers_one_commits_and_the_other_says_why_not(loops: Loops, undisturbed: Loop) -> None:
    loop = loops("rivals")
    code, first = loop.order("write pairs/rows/part-*.parquet: after", stop=True)
    assert code == STOPPED
    assert loop.order()[0] == 1
    assert f"ArtifactError: {loop.root}: another driver is at work there (process {first} on " in loop.output()
    assert loop.wake(first) == 0
    loop.committed()
    assert [loop.examples(name) for name in EXAMPLES] == [undisturbed.examples(name) for name in EXAMPLES]


def test_a_driver_that_was_taken_for_dead_and_wakes_up_leaves_no_row_twice(
    loops: Loops, undisturbed: Loop, bucket: str
) -> None:
    """In an object store no lock stops its last write, but that file is not among the files of the pass."""
    root, _, options = bucket.partition("?")
    loop = loops("suspended", root=f"{root}/suspended?{options}", settings=("iterations=1",))
    code, first = loop.order("write pairs/rows/part-*.parquet: before", stop=True)
    assert code == STOPPED
    code, second = loop.order("write pairs/rows/part-*.parquet: after", stop=True)
    assert code == STOPPED, loop.output()
    assert loop.wake(first) == 1
    assert "another driver is at work there" in loop.output()
    assert loop.wake(second) == 0, loop.output()
    loop.committed()
    assert loop.examples(EXAMPLES[0]) == undisturbed.examples(EXAMPLES[0])


def test_a_finished_run_asks_no_model_and_another_input_is_refused_by_name(loops: Loops, undisturbed: Loop, pool: Path) -> None:
    asked = undisturbed.asked()
    assert undisturbed.drive() == 0
    assert undisturbed.asked() == asked
    other = pool.with_name("other.jsonl")
    other.write_text(pool.read_text().replace("Question 1:", "Question 1 :"))
    changed = loops("undisturbed", pool=other)
    assert changed.order()[0] == 1
    assert "was made from another source (other content: source.path)" in changed.output()
