"""What a run asks of a cluster, and a cluster that does not answer."""

import logging
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from stj.cluster_config import RayConfig
from stj.config import EngineConfig, ModelConfig
from stj.config_loader import load
from stj.errors import CapacityError
from stj.passes import session
from stj.passes.machines import Machines, MachineType
from stj.passes.session import engine_demand, training_demand
from stj.train_config import TrainConfig

ROOT = Path(__file__).parents[2]
MINI = ROOT / "conf" / "mini.yaml"


def test_an_address_where_nothing_listens_is_one_clear_line() -> None:
    with pytest.raises(CapacityError, match=r"ray.address=127.0.0.1:1: no Ray cluster answers there .*ray start --head"):
        session._connect(RayConfig(address="127.0.0.1:1"))


def test_ray_of_one_machine_is_private_where_its_sockets_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        assert session._ray_folder() == f"{short}/stj-{os.getuid()}/ray"
    long = tmp_path / ("x" * 60)
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    assert session._ray_folder() is None


def test_what_a_run_asks_for() -> None:
    mini = load([MINI])
    assert engine_demand(mini.engine, [ModelConfig()]).total == {"CPU": 2, "GPU": 0}
    assert training_demand(mini.train).total == {"CPU": 2, "GPU": 0}
    models = [ModelConfig(), ModelConfig(tensor_parallel_size=4, pipeline_parallel_size=2)]
    assert engine_demand(EngineConfig(min_replicas=2, max_replicas=4), models).total["GPU"] == 16
    assert training_demand(TrainConfig(workers=32)).total["GPU"] == 32


def test_engines_and_ranks_are_asked_for_where_their_settings_place_them() -> None:
    config = load([MINI], ["engine.place={market-type: spot}", "train.place.market-type=!spot"])
    assert engine_demand(config.engine, [ModelConfig()]).place == {"market-type": "spot"}
    assert training_demand(config.train).place == {"market-type": "!spot"}
    assert engine_demand(config.engine, [API]).place == {}  # a client needs no machine of its own


@pytest.mark.parametrize(("source", "level"), [("unknown", "WARNING"), ("file", "INFO"), ("static", None)])
def test_a_cluster_whose_machines_are_not_known_is_a_warning(
    source: str, level: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is refused then, and the run may wait for long."""
    caplog.set_level(logging.INFO, "stj.passes.session")
    there = MachineType(name="head node", resources={"CPU": 8, "GPU": 8}, labels={}, most=1)
    cluster = Machines(source=source, live=[there], silence="PermissionError: no")  # type: ignore[arg-type]
    monkeypatch.setattr(session, "joined_cluster", lambda config: nullcontext())
    monkeypatch.setattr(session, "joined_machines", lambda config: cluster)
    with session.ray_session(RayConfig(), [training_demand(TrainConfig(workers=2))]):
        pass
    assert [record.levelname for record in caplog.records] == ([level] if level else [])
    assert ("PermissionError: no" in caplog.text) == (source == "unknown")


@pytest.mark.parametrize(
    ("setting", "refused"), [({"gradient_dtype": "bf16"}, True), ({"shard_within_machine": True}, True), ({}, False)]
)
def test_a_session_is_refused_if_ranks_can_never_be_even(
    setting: dict[str, Any], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    eight = MachineType(name="gpu", resources={"CPU": 96, "GPU": 8}, labels={}, most=4)
    monkeypatch.setattr(session, "joined_cluster", lambda config: nullcontext())
    monkeypatch.setattr(session, "joined_machines", lambda config: Machines(source="file", types=[eight]))
    demands = [training_demand(TrainConfig(workers=28, **setting))]
    expected = pytest.raises(CapacityError, match="equally many ranks") if refused else nullcontext()
    with expected, session.ray_session(RayConfig(), demands):
        pass


API = ModelConfig(endpoint="https://api.example.com/v1", name="judge-1", parallel_requests=8)


def test_models_behind_an_api_ask_for_no_gpu_and_nearly_no_cpu() -> None:
    engine = EngineConfig(min_replicas=2, max_replicas=4)
    assert engine_demand(engine, [API]).total == {"CPU": pytest.approx(0.1), "GPU": 0}
    assert engine_demand(engine, [API, ModelConfig()]) == engine_demand(engine, [ModelConfig()])
    pool = engine.serving(API)
    assert (pool.min_replicas, pool.max_replicas, pool.rows_in_flight) == (1, 1, 8)
    assert engine.serving(ModelConfig()) is engine


DIES_ONCE = """
import logging.handlers, os, pathlib, signal, sys, time
import ray
from stj.cluster_config import RayConfig
from stj.passes.session import joined_cluster
said = logging.handlers.BufferingHandler(1000)
log = logging.getLogger("stj.passes.session")
log.setLevel(logging.DEBUG)
log.addHandler(said)

@ray.remote(max_retries=1)
def dies_once(folder):
    if not list(folder.iterdir()):
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7

with joined_cluster(RayConfig(address="local")):
    assert ray.get(dies_once.remote(pathlib.Path(sys.argv[1]))) == 7
    until = time.monotonic() + 600
    while not any("Ray: A worker died" in record.getMessage() for record in said.buffer):
        assert time.monotonic() < until
        time.sleep(0.05)
"""


@pytest.mark.engine
def test_what_ray_says_of_a_worker_that_died_is_not_among_the_results(tmp_path: Path) -> None:
    words = [sys.executable, "-c", DIES_ONCE, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout == ""


HANGS_UP = """
import os, signal, threading
from pathlib import Path
from stj.cluster_config import RayConfig
from stj.passes.reaper import marked
from stj.passes.session import joined_cluster

def deaf(process):
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    except OSError:  # it has just ended
        return True
    return (int(status["SigBlk"], 16) | int(status["SigIgn"], 16)) >> (signal.SIGHUP - 1) & 1

name = f"STJ_TEST_{os.getpid()}"
os.environ[name] = "1"
heard = []
signal.signal(signal.SIGHUP, lambda *_: heard.append("hang-up"))
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGHUP)).start()
with joined_cluster(RayConfig(address="local")):
    of_ray = list(marked(f"{name}=1".encode()))
    print(len(of_ray) > 3, all(map(deaf, of_ray)), heard)
    os.kill(os.getpid(), signal.SIGHUP)
    print(heard)
"""


@pytest.mark.engine
def test_a_terminal_that_is_closed_while_ray_starts_is_heard_and_ray_s_processes_do_not_end_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS_UP], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout == "True True ['hang-up']\n['hang-up', 'hang-up']\n"
