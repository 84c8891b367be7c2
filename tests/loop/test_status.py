"""The state of a run: a line for each phase, plain in a pipe and coloured on a terminal, and a run that knows its config."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from stj.config_loader import load
from stj.errors import ArtifactError
from stj.loop.phases import Run
from stj.loop.status import PhaseState, phase_states, read_run_config, write_run_config
from stj.storage.artifacts import State
from stj.storage.folder import Folder

MINI = str(Path(__file__).parents[2] / "conf" / "mini.yaml")


def on_terminal(state: PhaseState, width: int = 80) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system="standard", highlight=False)
    with console.capture() as capture:
        console.print(state.line())
    return capture.get()


@pytest.mark.parametrize(
    ("state", "style"), [("done", "\x1b[32m"), ("partial", "\x1b[33m"), ("stale", "\x1b[1;35m"), ("absent", "\x1b[2m")]
)
def test_a_phase_is_one_line_with_its_state(state: State, style: str) -> None:
    phase = PhaseState("iteration_1/judged", state, ["seed: 1 -> 2"] if state == "stale" else [], "f", 12)
    changed = "  changed: seed: 1 -> 2" if state == "stale" else ""
    assert str(phase.line()) == f"iteration_1/judged           {state:<8}  12 rows{changed}"
    assert f"{style}{state}" in on_terminal(phase)


def test_long_changes_continue_below_themselves() -> None:
    changed = [f"train.lr_{number}: [red]1[/red] -> 2" for number in range(4)]
    lines = on_terminal(PhaseState("pairs", "stale", changed, "f", None), width=80).splitlines()
    assert len(lines) > 1
    assert all(line.startswith(" " * 39) for line in lines[1:])
    assert "".join(lines).count("[red]1[/red]") == 4


def test_data_in_a_changed_setting_is_shown_not_obeyed() -> None:
    phase = PhaseState("pairs", "stale", ["source.path: a -> \x1b[2J\u202eb\nc"], "f", None)
    for text in (str(phase.line()), on_terminal(phase, width=200)):
        assert "\\x1b[2J\\u202eb\\nc" in text
        assert "\x1b[2J" not in text


def test_a_run_that_was_moved_knows_its_config(tmp_path: Path) -> None:
    run = Run(load([MINI], [f"run_root={tmp_path}/run", "seed=7"]))
    write_run_config(run)
    (tmp_path / "run").rename(tmp_path / "moved")
    config = read_run_config(Folder.at(tmp_path / "moved"))
    assert (config.seed, config.run_root) == (7, str(tmp_path / "moved"))
    assert {state.state for state in phase_states(Run(config).phases)} == {"absent"}
    for damaged in ("{", "[" * 100_000):
        (tmp_path / "moved" / "config.json").write_text(damaged)
        with pytest.raises(ArtifactError, match="damaged: not JSON; give the run's config file instead"):
            read_run_config(Folder.at(tmp_path / "moved"))
