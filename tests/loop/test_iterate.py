"""Going through the phases: their order, and what a kill left behind."""

from pathlib import Path

import pytest

from stj.config_loader import load
from stj.loop.iterate import iterate, make_phase
from stj.loop.phase import Phase
from stj.loop.phases import Run

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"


def run_of(tmp_path: Path, *overrides: str) -> Run:
    return Run(load([MINI], [f"run_root={tmp_path}/run", *overrides]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("heldout.path=null",),
        ("models.first_judge.path=org/other",),
        ("train.objective=sft_then_dpo",),
        ("train.objective=sft_then_dpo", "train.preference.source=warm_up"),
    ],
)
def test_an_iteration_makes_its_phases_in_the_order_that_status_shows(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    run = run_of(tmp_path, *overrides)
    made: list[Phase] = []
    for iteration in run.iterations:
        iterate(iteration, made.append)
    assert [phase.name for phase in made] == [phase.name for phase in run.phases]


def test_checkpoints_that_outlived_their_training_are_removed(tmp_path: Path) -> None:
    """The driver was killed when the model was done, and before its checkpoints were deleted."""
    first, second, _ = run_of(tmp_path).iterations
    model = first.model
    model.artifact.begin()
    model.artifact.finish()
    checkpoint = tmp_path / "run/iteration_1/checkpoints/step_00000100"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optim_states.pt").touch()
    lines: list[str] = []
    make_phase(model, lines.append, [second.model], overwrite=False)
    assert lines == ["iteration_1/model: done already, reused"]
    assert [path.name for path in (tmp_path / "run/iteration_1").iterdir()] == ["model"]
