"""Choosing among checkpoints: which one, when to stop, and what a kill at any write leaves; training and passes are
simulated."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stj.cluster_config import RayConfig
from stj.config import Config, EngineConfig, ModelConfig
from stj.config_loader import load
from stj.errors import ArtifactError, ConfigError, SourceError
from stj.loop import checkpoint_selection as selection
from stj.loop.inputs import check_inputs
from stj.loop.kinds import TrainingPhase
from stj.loop.phases import Run
from stj.passes.spec import Pass
from stj.rows import Judgment, rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.text import LiveLine
from stj.train.job import TrainingRoom
from stj.train.launch import TrainingSegment
from stj.train_config import TrainConfig

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"
PLANNED = 35
PAIRS = 10


class Killed(BaseException):
    """Stands for a kill -9 in these tests: no code of the package catches it."""


@dataclass
class World:
    """Trainings whose checkpoints judge the given numbers of ten pairs right."""

    right: list[int]
    trained: list[int]

    def train(
        self,
        config: TrainConfig,
        model: ModelConfig,
        examples: Artifact,
        output: Artifact,
        cluster: RayConfig,
        segment: TrainingSegment,
        room: TrainingRoom,
        waiting: Callable[[], str],
        line: LiveLine | None,
    ) -> None:
        if not output.begin():
            return
        steps = min(segment.until, PLANNED)
        self.trained.append(steps)
        output.folder.write("model.safetensors", f"weights of step {steps}".encode())
        output.folder.write("config.json", b"{}")
        facts = {"model": {"path": output.folder.uri, "seed": model.path}, "planned_steps": PLANNED, "seconds": 1.0}
        facts["reference_forwards"] = 0
        output.finish(**facts, steps=steps, loss_first=2.0, loss_last=1.0)

    def run_pass(self, spec: Pass, artifact: Artifact, config: EngineConfig, live_line: LiveLine | None = None) -> None:
        assert (Folder.at(spec.model.path)).exists("manifest.json")
        right = self.right[int(artifact.folder.parent.path.rpartition("_")[2]) - 1]
        rows = list(spec.read())
        judged = [replace(row, judgments=tuple(judgments(correct=row.position < right))) for row in rows]
        artifact.write_part("part-0", rows_to_table(judged))
        artifact.finish()


def judgments(*, correct: bool) -> Iterator[Judgment]:
    for winner, other in (("A", "B"), ("B", "A")):
        verdict: Any = winner if correct else other
        yield Judgment(
            purpose="sampled", winner=winner, index=0, text="", verdict=verdict, finish_reason="stop", output_tokens=1
        )


def run_of(folder: Path, *overrides: str) -> Run:
    return Run(replace(settings(overrides), run_root=f"{folder}/run"))


@cache
def settings(overrides: tuple[str, ...]) -> Config:
    selected = ["path=package://mini/data/dev.jsonl", f"limit={PAIRS}", "patience=2"]
    named = [f"train.selection.{setting}" for setting in selected]
    return load([MINI], ["iterations=1", "train.checkpoint_every_steps=10", *named, *overrides])


def model_of(run: Run) -> TrainingPhase:
    return run.iterations[0].model


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a world in place."""

    def put(right: list[int]) -> World:
        world = World(right, [])
        monkeypatch.setattr("stj.train.launch.train", world.train)
        monkeypatch.setattr(selection, "run_pass", world.run_pass)
        return world

    return put


def go(run: Run) -> TrainingPhase:
    phase = model_of(run)
    if phase.artifact.begin():
        phase.run()
    return phase


def test_training_stops_when_no_checkpoint_is_better_and_the_best_one_is_the_model(tmp_path: Path, pretend: Any) -> None:
    world = pretend([5, 8, 8, 10])
    phase = go(run_of(tmp_path, "train.selection.patience=1"))
    manifest = phase.artifact.manifest()
    assert world.trained == [10, 20, 30]  # The third of 35 is as good as the second, and the earlier one is kept.
    assert phase.artifact.folder.read("model.safetensors") == b"weights of step 20"
    assert (manifest["steps"], manifest["planned_steps"], manifest["seconds"]) == (20, 35, 3.0)
    assert manifest["model"]["path"] == phase.artifact.folder.uri
    chosen = manifest["selection"]
    assert [(one["checkpoint"], one["steps"], one["accuracy"]) for one in chosen["checkpoints"]] == [
        (1, 10, 0.5),
        (2, 20, 0.8),
        (3, 30, 0.8),
    ]
    assert all(one["position_consistent"] == one["accuracy"] == one["accuracy_winner_first"] for one in chosen["checkpoints"])
    assert chosen["why"].startswith("checkpoint 2 (step 20 of 35): right on 80.0% of 10 pairs")
    assert chosen["why"].endswith("the best of 3; training stopped early, with no better one in the next 1")
    assert chosen["why"] in phase.summary()


def test_the_last_checkpoint_is_the_end_of_training(tmp_path: Path, pretend: Any) -> None:
    world = pretend([5, 4, 6, 9])
    phase = go(run_of(tmp_path))
    assert world.trained == [10, 20, 30, 35]
    assert phase.artifact.folder.read("model.safetensors") == b"weights of step 35"
    assert phase.artifact.manifest()["selection"]["why"].endswith("the best of 4; training has ended")


def test_weights_are_deleted_as_soon_as_a_better_checkpoint_is_known(
    tmp_path: Path, pretend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = pretend([5, 8, 3, 2])
    held: list[list[str]] = []

    def look(spec: Pass, artifact: Artifact, config: EngineConfig, live_line: LiveLine | None = None) -> None:
        held.append(sorted(path.parent.parent.name for path in tmp_path.glob("**/model/model.safetensors")))
        world.run_pass(spec, artifact, config)

    monkeypatch.setattr(selection, "run_pass", look)
    go(run_of(tmp_path))
    assert held == [[f"checkpoint_{n}" for n in there] for there in ([1], [1, 2], [2, 3], [2, 4])]
    assert [path.relative_to(tmp_path) for path in tmp_path.glob("**/model.safetensors")] == [
        Path("run/iteration_1/model/model.safetensors")
    ]


def tree(folder: Path) -> dict[str, bytes]:
    run = str(folder).encode()
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: re.sub(rb'"sha256": ".{64}"\n}', b"", content.replace(run, b"")) for name, content in files.items()}


@pytest.mark.slow
def test_a_kill_at_any_write_changes_nothing_in_the_end(tmp_path: Path, pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = [5, 8, 3]
    pretend(right)
    go(run_of(tmp_path / "undisturbed", "train.selection.patience=1"))
    expected = tree(tmp_path / "undisturbed")
    calls = [0, 0]  # done, and after how many to kill
    for name in ("write", "move", "remove"):
        monkeypatch.setattr(Folder, name, _killing(getattr(Folder, name), calls))
    killed = 0
    while True:
        folder = tmp_path / str(killed)
        world = pretend(right)
        calls[:] = [0, killed]
        try:
            go(run_of(folder, "train.selection.patience=1"))
        except Killed:
            killed += 1
        else:
            break
        calls[:] = [0, 10**9]
        go(run_of(folder, "train.selection.patience=1"))
        assert tree(folder) == expected
        assert len(world.trained) <= len(right) + 1
    assert killed > 20


def _killing(call: Any, calls: list[int]) -> Any:
    """The same method, killed before its work when the count says so."""

    def counted(*arguments: Any) -> Any:
        if calls[0] == calls[1]:
            raise Killed
        calls[0] += 1
        return call(*arguments)

    return counted


def test_a_model_that_was_selected_otherwise_is_refused_and_made_again_on_demand(tmp_path: Path, pretend: Any) -> None:
    pretend([5, 8, 3, 2])
    go(run_of(tmp_path))
    world = pretend([9, 8, 3, 2])
    other = run_of(tmp_path, "train.selection.patience=1")
    with pytest.raises(ArtifactError, match=r"selection.patience: 2 -> 1"):
        go(other)
    assert model_of(other).artifact.begin(overwrite=True)
    go(other)
    assert world.trained == [10, 20]
    assert model_of(other).artifact.folder.read("model.safetensors") == b"weights of step 10"


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["rewardbench", "rewardbench:filtered.parquet", "pairs:mine.jsonl", "headline", "allenai/reward-bench"]
)
def test_a_benchmark_is_never_selected_on(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=rf"train.selection.path={path}: a benchmark must not select checkpoints") as told:
        run_of(tmp_path, f"train.selection.path={path}")
    assert "\n" not in str(told.value)


def test_pairs_that_cannot_be_read_are_refused_by_the_settings_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"train.selection.path=/nope.jsonl"):
        run_of(tmp_path, "train.selection.path=/nope.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"text": "x", "chosen": "y", "rejected": "z"}')
    with pytest.raises(SourceError, match=r"bad.jsonl"):
        check_inputs(run_of(tmp_path, f"train.selection.path={tmp_path}/bad.jsonl").config)


@pytest.mark.slow
def test_only_a_run_that_selects_has_it_in_its_keys(tmp_path: Path) -> None:
    def key(*overrides: str) -> dict[str, Any]:
        return model_of(run_of(tmp_path, *overrides)).artifact.key

    off = key("train.selection.path=null")
    assert off == key("train.selection.path=null", "train.selection.patience=9", "train.checkpoint_every_steps=7")
    assert off == key("train.selection.path=null", "train.trackers=[tensorboard]")
    assert "selection" not in off
    for other in ("train.selection.patience=9", "train.checkpoint_every_steps=7", "heldout.samples=7"):
        assert key(other)["selection"] != key()["selection"]


def test_a_damaged_file_of_scores_is_one_line(tmp_path: Path, pretend: Any) -> None:
    pretend([5, 8, 3, 2])
    run = run_of(tmp_path)
    (run.folder / "iteration_1/candidates/checkpoint_1").write("scores.json", b'{"finger')
    with pytest.raises(ArtifactError, match=r"checkpoint_1/scores.json: damaged: not JSON; delete .*/checkpoint_1 and"):
        go(run)


def test_selection_pairs_are_kept_out_of_the_training_pairs(tmp_path: Path) -> None:
    def key(*overrides: str) -> Any:
        return run_of(tmp_path, *overrides).phases[0].artifact.key["source"]["keep_out"]

    assert len(key()) == 2
    same = key("train.selection.path=package://mini/data/heldout.jsonl")  # heldout.path itself is kept out already
    assert same == key("train.selection.path=null") == key()[:1]
