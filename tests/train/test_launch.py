"""Two real ranks under Ray Train and DeepSpeed, disturbed in the ways that a cluster disturbs them."""

import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import ray
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from stj.config import ModelConfig
from stj.errors import StorageFailed, TrainingFailed
from stj.models.fetch import local_model
from stj.storage.artifacts import Artifact
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.train.launch import train
from stj.train.metrics import read_metrics
from stj.train_config import TrainConfig
from tests.conftest import running, soon, wait_until
from tests.train.conftest import make_example, write_examples

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.engine

CONFIG = TrainConfig(
    workers=2,
    device="cpu",
    cpus_per_worker=1,
    max_seq_len=256,
    max_num_tokens=512,
    lr=1e-2,
    warmup_steps=3,
    max_epochs=2,
    checkpoint_every_steps=3,
    shard_gb=1e-4,
    max_failures=1,
)
EXAMPLES = [make_example(index) for index in range(60)]


@pytest.fixture(scope="module", autouse=True)
def cluster(bucket: str) -> Iterator[None]:
    """A Ray only for these tests; its ranks inherit the environment of `bucket`, so they reach the tests' S3."""
    ray.init(address="local", include_dashboard=False, num_cpus=3, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def fine_tune(folder: Path | str, seed: Path) -> None:
    """Trains the model in folder/model, or resumes its training."""
    examples = write_examples(Folder.at(folder) / "examples", EXAMPLES)
    train(CONFIG, ModelConfig(path=str(seed)), examples, Artifact(Folder.at(folder) / "model", {"step": "model"}))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, seed_directory: Path) -> Path:
    """A run without any disturbance."""
    folder = tmp_path_factory.mktemp("undisturbed")
    fine_tune(folder, seed_directory)
    return folder


def metrics(folder: Path | str) -> list[dict[str, float]]:
    return [json.loads(line) for line in Folder.at(folder).read("metrics.jsonl").splitlines()]


def without_speed(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in line.items() if key != "tokens_per_s"} for line in lines]


def weights(folder: Path | str) -> dict[str, torch.Tensor]:
    model = local_model(ModelConfig(path=(Folder.at(folder) / "model").uri))
    files = sorted(model.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def same_weights(run: Path | str, other: Path | str) -> bool:
    first, second = weights(run), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_two_ranks_learn(undisturbed: Path) -> None:
    facts = json.loads((undisturbed / "model/manifest.json").read_text())
    lines = metrics(undisturbed)
    assert [line["step"] for line in lines] == list(range(1, facts["steps"] + 1))
    assert facts["loss_last"] < 0.5 * facts["loss_first"]
    assert (facts["loss_first"], facts["loss_last"]) == (lines[0]["loss"], lines[-1]["loss"])
    assert facts["examples"] == 60
    assert facts["supervised_tokens"] == 60 * 2 * len("My final verdict is [[A]].")
    assert not (undisturbed / "checkpoints").exists()


def test_the_export_is_a_model_that_others_load(undisturbed: Path, seed_directory: Path) -> None:
    directory = undisturbed / "model"
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    stored = weights(undisturbed)
    assert set(index["weight_map"]) == set(stored)
    assert "lm_head.weight" not in stored  # tied to the embedding
    named = json.loads((directory / "manifest.json").read_text())["model"]["files"]
    files = {path.name: path for path in directory.iterdir() if path.name not in {"manifest.json", "started.json"}}
    assert named == {name: asdict(FileDigest.of(path.read_bytes())) for name, path in files.items()}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in stored.values())
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.dtype == torch.bfloat16
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.named_parameters())
    tokenizer = AutoTokenizer.from_pretrained(directory)
    seed_tokenizer = AutoTokenizer.from_pretrained(seed_directory)
    assert tokenizer.chat_template == seed_tokenizer.chat_template
    asked = [{"role": turn.role, "content": turn.content} for turn in EXAMPLES[0].messages]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = model.generate(**ids, max_new_tokens=2, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert tokenizer.decode(written).startswith("M")


def test_a_finished_model_is_not_trained_again(undisturbed: Path, seed_directory: Path) -> None:
    before = (undisturbed / "model/manifest.json").stat().st_mtime_ns
    fine_tune(undisturbed, seed_directory)
    assert (undisturbed / "model/manifest.json").stat().st_mtime_ns == before


@pytest.mark.long
def test_a_killed_rank_of_a_run_in_an_object_store_changes_no_weight(
    undisturbed: Path,
    seed_directory: Path,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The ranks that died and those that resume share nothing but the object store. One line reports the restart."""
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "cache")
    monkeypatch.setattr("stj.train.watch._LOOK_IN_STORE_S", 0.5)
    caplog.set_level(logging.INFO, logger="stj.train.watch")
    folder = Folder.at(bucket) / "run"
    fine_tune_and_kill_a_rank(folder.uri, seed_directory)
    shown = [record for record in caplog.records if record.name == "stj.train.watch"]
    (restart,) = [record.getMessage() for record in shown if record.levelno == logging.WARNING]
    # It depends on the moment what is known of the dead rank first: its end, its silence, or the error of the other rank.
    why = r"rank [01]( died: its process was killed or crashed| cannot be reached: its machine or its process is lost|: .+)$"
    match = re.fullmatch(r"run/model: ranks restart \(attempt 2 of 2\) from step (\d+): " + why, restart)
    assert match, restart
    assert int(match[1]) in range(6, len(metrics(undisturbed)) + 1, CONFIG.checkpoint_every_steps)
    assert shown[0].getMessage() == "run/model: starting ranks"
    steps = len(metrics(undisturbed))
    assert shown[-1].getMessage().startswith(f"run/model: step {steps}/{steps} | loss ")
    assert same_weights(folder.uri, undisturbed)
    assert without_speed(metrics(folder.uri)) == without_speed(metrics(undisturbed))
    fetched = local_model(ModelConfig(path=(folder / "model").uri))
    assert {path.name for path in fetched.iterdir()} == {path.name for path in (undisturbed / "model").iterdir()}
    AutoModelForCausalLM.from_pretrained(fetched)
    AutoTokenizer.from_pretrained(fetched)
    assert (folder.folders(), folder.names()) == (["examples", "model"], ["metrics.jsonl"])


@pytest.mark.long
def test_a_killed_driver_and_a_torn_checkpoint_change_no_weight(
    undisturbed: Path, seed_directory: Path, tmp_path: Path
) -> None:
    """The driver is killed after two checkpoints. The newest is then damaged: training resumes from the one before."""
    checkpoints = Folder.at(tmp_path / "checkpoints")
    with running([sys.executable, "-m", "tests.train.test_launch", str(tmp_path), str(seed_directory)], cwd=ROOT) as driver:
        wait_until(lambda: saved(checkpoints)[-1:] >= [6], driver)
        ranks = ranks_of(driver.pid)
    assert soon(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), 300), "ranks outlived their driver"
    assert not (tmp_path / "model/manifest.json").exists()
    *_, newest = saved(checkpoints)
    part = next((tmp_path / f"checkpoints/step_{newest:08d}").glob("*pp_rank_1_*optim_states.pt"))
    part.write_bytes(part.read_bytes()[:-100])
    fine_tune(tmp_path, seed_directory)
    assert same_weights(tmp_path, undisturbed)


@pytest.mark.long
def test_a_killed_controller_is_one_line(seed_directory: Path, tmp_path: Path) -> None:
    """Comes last: Ray keeps the CPUs of a dead controller's ranks for as long as its driver lives."""

    def kill() -> None:
        wait_for(Folder.at(tmp_path) / "checkpoints", 3)
        for controller in actors_of(os.getpid(), b"TrainController"):  # that of an earlier test may not have ended yet
            os.kill(controller, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TrainingFailed, match=r"lost its controller \(ActorDiedError\): run the same command again"):
        fine_tune(tmp_path, seed_directory)
    killer.join()


def wait_for(checkpoints: Folder, step: int) -> None:
    """Waits for the checkpoint of a step or of a later one: training deletes all but the newest two."""
    assert soon(lambda: saved(checkpoints)[-1:] >= [step], 300), f"step {step} did not come to {checkpoints.uri}"


def saved(checkpoints: Folder) -> list[int]:
    """Steps of the whole checkpoints."""
    whole = [name for name in checkpoints.folders() if (checkpoints / name).exists("manifest.json")]
    return sorted(int(name.removeprefix("step_")) for name in whole)


def fine_tune_and_kill_a_rank(folder: Path | str, seed: Path) -> None:
    """Kills a rank after the second checkpoint; Ray Train resumes from there."""
    killer = threading.Thread(target=kill_a_rank_after, args=(Folder.at(folder) / "checkpoints",))
    killer.start()
    fine_tune(folder, seed)
    killer.join()


def kill_a_rank_after(checkpoints: Folder) -> None:
    """Kills one of this session's ranks when the second checkpoint is there."""
    wait_for(checkpoints, 6)
    os.kill(max(ranks_of(os.getpid())), signal.SIGKILL)  # those of an earlier test may not have ended yet


def ranks_of(driver: int) -> list[int]:
    """Process ids of the training workers below a driver."""
    return actors_of(driver, b"RayTrainWorker")


def actors_of(driver: int, kind: bytes) -> list[int]:
    """Process ids of a kind of actors below a driver."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    below, actors = [driver], []
    while below:
        process = below.pop()
        below += children.get(process, [])
        try:
            if kind in Path(f"/proc/{process}/cmdline").read_bytes():
                actors.append(process)
        except OSError:
            continue
    return actors


if __name__ == "__main__":  # the driver that is killed
    ray.init(address="local", include_dashboard=False, num_cpus=3, logging_level=logging.ERROR)
    fine_tune(Path(sys.argv[1]), Path(sys.argv[2]))


def test_a_full_disk_ends_a_training_at_once_and(
    seed_directory: Path, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(
        StorageFailed, match=r"run(/checkpoints)?: cannot write: .*\d[\w. ]* are free there.*check the free space"
    ) as caught:
        fine_tune(small_disk / "run", seed_directory)
    assert "\n" not in str(caught.value)
    assert "restart" not in caplog.text
    steps = list(read_metrics((small_disk / "run/metrics.jsonl").read_text()))
    assert len(steps) >= CONFIG.checkpoint_every_steps  # later ones may have run while the checkpoint was written
