"""Going through the phases: what a kill left behind is cleared away."""

from pathlib import Path

from stj.config_loader import load
from stj.loop.iterate import iterate
from stj.loop.phases import Run

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"


def test_checkpoints_that_outlived_their_training_are_removed(tmp_path: Path) -> None:
    """The driver was killed when the model was done, and before its checkpoints were deleted."""
    run = Run(load([MINI], [f"run_root={tmp_path}/run"]))
    (model,) = [phase for phase in run.of_iteration(1) if phase.kind == "model"]
    model.artifact.begin()
    model.artifact.finish()
    checkpoint = tmp_path / "run/iteration_1/checkpoints/step_00000100"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optim_states.pt").touch()
    told: list[str] = []
    iterate(run, [model], told.append)
    assert told == ["iteration_1/model: done already, reused"]
    assert [path.name for path in (tmp_path / "run/iteration_1").iterdir()] == ["model"]
