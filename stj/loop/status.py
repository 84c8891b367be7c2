"""What is there of a run: each phase done, partial, stale (and which field changed) or absent."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stj.config import Config
from stj.config_loader import from_plain
from stj.errors import ArtifactError
from stj.loop.kinds import Phase
from stj.loop.phases import Run
from stj.storage.artifacts import State, plain
from stj.storage.folder import Folder

RUN_CONFIG = "config.json"


@dataclass(frozen=True)
class PhaseState:
    """One phase of a run."""

    name: str
    state: State
    changed: list[str]
    """For a stale phase: the fields of its key that differ, old -> new."""
    fingerprint: str
    rows: int | None

    def line(self) -> str:
        """The phase in one line for a terminal."""
        rows = f"  {self.rows} rows" if self.rows else ""
        changed = f"  changed: {'; '.join(self.changed)}" if self.changed else ""
        return f"{self.name:<28} {self.state:<8}{rows}{changed}"


def phase_states(phases: Sequence[Phase]) -> list[PhaseState]:
    """The state of each phase."""
    found = []
    for phase in phases:
        state, changed = phase.artifact.state()
        rows = phase.artifact.manifest()["rows"] if state == "done" else None
        found.append(PhaseState(phase.name, state, changed, phase.artifact.fingerprint, rows))
    return found


def write_run_config(run: Run) -> None:
    """Leaves the run's own config in its directory, so that `stj status RUN` needs no file."""
    run.folder.write_json(RUN_CONFIG, plain(run.config))


def read_run_config(folder: Folder) -> Config:
    """The config that a run directory, which may have been moved, was last started with.

    Raises ArtifactError where there is none.
    """
    if not folder.exists(RUN_CONFIG):
        raise ArtifactError(f"{folder.uri}: no run here (no {RUN_CONFIG}). Give a run's directory, or its config file")
    try:
        return replace(from_plain(json.loads(folder.read(RUN_CONFIG))), run_root=folder.uri)
    except ValueError:
        raise ArtifactError(f"{(folder / RUN_CONFIG).uri}: damaged; give the run's config file instead") from None
