"""The figures of a run's iterations in the real trackers, offline: what each shows after they are sent once, and again."""

from pathlib import Path

import pytest

from stj.loop.phases import Run
from stj.loop.summary import RunSummary
from stj.loop.tracked_run import iteration_figures, track_iterations
from stj.storage.artifacts import MANIFEST
from stj.storage.sealed import write_sealed
from stj.train import trackers
from tests.finished_run import finished_run

LEDGER = {"prompt_tokens": 50, "output_tokens": 7, "engine_seconds": 2.5, "dollars": 0.25}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a tracker needs longer than a run would wait for it."""
    monkeypatch.setattr(trackers, "_CLOSE_S", 300)


def with_costs(run: Run) -> Run:
    """The run, with the ledger that engines leave in the manifest of each pass."""
    for phase in run.passes:
        write_sealed(phase.artifact.folder, MANIFEST, {**phase.artifact.manifest(), "ledger": LEDGER})
    return run


@pytest.mark.slow
def test_each_iteration_has_its_accuracy_acceptance_draws_and_costs(tmp_path: Path) -> None:
    run = with_costs(finished_run(tmp_path))
    steps = dict(iteration_figures(run, judges := RunSummary.of(run).judges))
    assert list(steps) == [0, 1, 2]
    assert steps[0].keys() == {"judge", "accuracy", "accuracy_low", "accuracy_high"}
    assert [steps[number]["accuracy"] for number in steps] == [judge.heldout and judge.heldout.accuracy for judge in judges]
    assert steps[0]["accuracy"] < steps[1]["accuracy"] < steps[2]["accuracy"]
    assert (steps[1]["accepted"], steps[1]["draws_per_kept"]) == (judges[0].accepted, judges[0].draws_per_kept)
    passes = [sum("ledger" in phase.artifact.manifest() for phase in iteration.phases) for iteration in run.iterations]
    assert [steps[number]["dollars"] for number in (1, 2)] == [0.25 * count for count in passes]
    assert sum(passes) == len(list(run.passes))


@pytest.mark.slow
def test_a_judge_that_is_not_measured_yet_waits(tmp_path: Path) -> None:
    run = finished_run(tmp_path, until="iteration_2/examples")
    assert [number for number, _ in iteration_figures(run, RunSummary.of(run).judges)] == [0, 1]
    run = finished_run(tmp_path / "unmeasured", "heldout.path=null", until="iteration_2/model")
    assert [number for number, _ in iteration_figures(run, RunSummary.of(run).judges)] == [0, 1]


@pytest.mark.slow
def test_tensorboard_and_mlflow_show_each_iteration_once_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `trackers` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = with_costs(finished_run(tmp_path, "train.trackers=[tensorboard,mlflow]"))
    judges = RunSummary.of(run).judges
    track_iterations(run, judges[:2])
    track_iterations(run, judges)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    accuracies = [judge.heldout.accuracy for judge in judges if judge.heldout]
    assert [event.step for event in events.Scalars("run/accuracy")] == [0, 1, 2]
    assert [event.value for event in events.Scalars("run/accuracy")] == pytest.approx(accuracies)
    client = mlflow.MlflowClient(f"file://{tmp_path}/mlruns")
    (tracked,) = client.search_runs([client.get_experiment_by_name("stj").experiment_id])
    assert [metric.step for metric in client.get_metric_history(tracked.info.run_id, "accuracy")] == [0, 1, 2]
    assert tracked.data.metrics["dollars"] > 0
    assert [file.path for file in client.list_artifacts(tracked.info.run_id)] == ["report.html"]


@pytest.mark.slow
def test_wandb_keeps_the_figures_and_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra `trackers` is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    run = finished_run(tmp_path, "train.trackers=[wandb]")
    track_iterations(run, RunSummary.of(run).judges)
    (log,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"draws_per_kept" in log.read_bytes()
    assert b"report.html" in log.read_bytes()


def test_a_run_without_trackers_writes_nothing(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    before = set(tmp_path.rglob("*"))
    track_iterations(run, RunSummary.of(run).judges)
    assert set(tmp_path.rglob("*")) == before
