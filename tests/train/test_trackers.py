"""The real trackers, offline: what they show after a training that was killed and resumed, and what an outage costs."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stj.config import ModelConfig
from stj.config_loader import load
from stj.errors import ConfigError, StjError
from stj.loop.inputs import check_inputs
from stj.loop.phases import Run
from stj.monitoring import TRAINING_METRICS
from stj.storage.folder import Folder
from stj.train import trackers
from stj.train.gauges import TrainingGauges
from stj.train.job import TrainingJob
from stj.train.metrics import StepMetrics
from stj.train.trackers import keep_files, tracked
from stj.train_config import TrainConfig

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("one_rank")]

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"


def job(folder: Path | str, *names: str) -> TrainingJob:
    return TrainingJob(
        config=TrainConfig(trackers=names),
        seed_model=ModelConfig(path="seed"),
        weights="the seed's",
        fingerprint="0123456789abcdef",
        examples="examples",
        model=f"{folder}/model",
        folder=str(folder),
    )


def step(number: int, loss: float | None = None) -> StepMetrics:
    return StepMetrics(
        step=number, epoch=0, loss=loss or 1 / number, preferred=None, lr=1e-6, grad_norm=0.5, tokens_per_s=8.0, mfu=0.41
    )


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a tracker needs longer than a training would wait for it."""
    monkeypatch.setattr(trackers, "_CLOSE_S", 300)


def train_kill_and_resume(task: TrainingJob, directory: Path, pause_s: float = 0) -> None:
    """Steps 1 to 4; a checkpoint kept the first two; then steps 3 to 6."""
    with tracked(task, directory, 0) as track:
        for number in (1, 2, 3, 4):
            track(step(number))
    time.sleep(pause_s)
    with tracked(task, directory, 2) as track:
        for number in (3, 4, 5, 6):
            track(step(number))


def test_tensorboard_shows_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `trackers` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_kill_and_resume(job(tmp_path, "tensorboard"), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert events.Scalars("train/mfu")[-1].value == pytest.approx(0.41)
    assert "train/preferred" not in events.Tags()["scalars"]


def test_mlflow_resumes_the_same_run_and_logs_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `trackers` is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    train_kill_and_resume(job(tmp_path, "mlflow"), tmp_path)
    client = mlflow.MlflowClient(f"file://{tmp_path}/mlruns")
    (run,) = client.search_runs([client.get_experiment_by_name("stj").experiment_id])
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3, 4, 5, 6]
    assert (run.data.tags["stj.model"], run.info.status) == ("0123456789abcdef", "FINISHED")
    assert run.data.params["lr"] == "1e-06"


def test_wandb_writes_offline_under_the_models_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra `trackers` is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    train_kill_and_resume(job(tmp_path, "wandb"), tmp_path, pause_s=1)  # W&B names a start's folder by the second
    logs = list((tmp_path / "wandb").glob("offline-run-*/run-0123456789abcdef.wandb"))
    assert len(logs) == 2  # `wandb sync` makes one run of them
    assert any(b"grad_norm" in log.read_bytes() for log in logs), "the first one was killed, and may have written nothing"
    written = b"".join(path.read_bytes() for path in (tmp_path / "wandb").rglob("*") if path.is_file())
    assert b"f" * 40 not in written


def test_what_trackers_wrote_comes_to_an_object_store(tmp_path: Path, bucket: str) -> None:
    pytest.importorskip("tensorboard", reason="the extra `trackers` is not installed")
    folder = Folder.at(bucket) / "tracked"
    train_kill_and_resume(job(folder.uri, "tensorboard"), tmp_path)
    assert len((folder / "tensorboard").names()) == 2


def test_what_a_tracker_takes_away_while_it_is_copied_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Temporary files of MLflow and W&B come and go; the others are copied."""
    for name in ("mlruns/a", "mlruns/b.tmp", "mlruns/c", "wandb/d.tmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    copied: list[str] = []

    def upload(folder: Folder, file: Path) -> None:
        if file.suffix == ".tmp":
            raise StjError(f"{file}: cannot write: No such file or directory")
        copied.append(file.name)

    monkeypatch.setattr(Folder, "upload", upload)
    with tracked(job(tmp_path / "run"), tmp_path, 0):
        keep_files(tmp_path, Folder.at(tmp_path / "run"))
    assert sorted(copied) == ["a", "a", "c", "c"]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "not all files of trackers could be copied" in warning


class Broken:
    """A tracker that cannot be reached; its error text holds a password."""

    def __init__(self, training: trackers.TrackedTraining) -> None:
        raise ConnectionError("http://user:hunter2@host is unreachable")


class Weak:
    """A tracker that fails at the second step."""

    def __init__(self, training: trackers.TrackedTraining) -> None:
        self.seen: list[int] = []

    def log(self, number: int, values: Any) -> None:
        if number == 2:
            raise TimeoutError("token=hunter2")

    def close(self) -> None: ...


class Hung:
    """A tracker whose server accepts the connection, and never answers."""

    answer = threading.Event()

    def __init__(self, training: trackers.TrackedTraining) -> None:
        self.answer.wait()


@pytest.mark.parametrize(("tracker", "kind"), [(Broken, "ConnectionError"), (Weak, "TimeoutError")])
def test_an_outage_is_one_warning_without_secrets(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tracker: Callable[[Any], Any],
    kind: str,
) -> None:
    monkeypatch.setitem(trackers._TRACKERS, "mlflow", tracker)
    with caplog.at_level(logging.WARNING), tracked(job(tmp_path, "mlflow"), tmp_path, 0) as track:
        for number in (1, 2, 3, 4):
            track(step(number))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"mlflow failed ({kind}): does the server at MLFLOW_TRACKING_URI answer?" in warning
    assert "hunter2" not in caplog.text


def test_a_tracker_that_hangs_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(trackers._TRACKERS, "wandb", Hung)
    monkeypatch.setattr(trackers, "_CLOSE_S", 0.1)
    with tracked(job(tmp_path, "wandb"), tmp_path, 0) as track:
        track(step(1))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "wandb does not answer within 0.1 s" in warning
    Hung.answer.set()


def test_a_tracker_that_is_not_installed_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"train.trackers=neptune: no such tracker; stj has tensorboard, mlflow, wandb"):
        load([], ["train.trackers=[neptune]"])
    (tmp_path / "wandb").mkdir()  # as W&B itself leaves it: a directory of that name is no package
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "wandb", raising=False)
    run = Run(load([MINI], [f"run_root={tmp_path}/run", "train.trackers=[wandb]"]))
    with pytest.raises(ConfigError, match=r"train.trackers: wandb is not installed: pip install 'stj\[trackers\]'"):
        check_inputs(run.config)


def test_rays_gauges_take_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, tuple[float, dict[str, str]]] = {}

    class Gauge:
        def __init__(self, name: str, words: str, tag_keys: tuple[str, ...]) -> None:
            self.name = name

        def set(self, value: float, tags: dict[str, str]) -> None:
            shown[self.name] = (value, tags)

    monkeypatch.setattr("stj.train.gauges.Gauge", Gauge)
    TrainingGauges("/runs/mini/iteration_1/warm_up").show(step(4), 2)
    assert shown["stj_train_loss"] == (0.25, {"run": "/runs/mini", "training": "iteration_1/warm_up"})
    assert shown["stj_train_checkpoint_step"][0] == 2
    assert shown.keys() == {metric.name for metric in TRAINING_METRICS} - {"stj_train_restarts"}
