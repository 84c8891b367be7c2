"""The state of a run: each phase done, partial, stale (and which field changed) or absent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stj.config import Config
from stj.config_loader import from_plain
from stj.errors import NoArtifact
from stj.loop.kinds import TrainingPhase
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.models.removed import removal_note
from stj.storage.artifacts import State, plain
from stj.storage.folder import Folder
from stj.storage.sealed import read_sealed, sealed_bytes
from stj.text import Passage, Span

RUN_CONFIG = "config.json"
_STYLES: dict[State, str] = {"done": "green", "partial": "yellow", "stale": "bold magenta", "absent": "dim"}


@dataclass(frozen=True)
class PhaseState:
    """One phase of a run."""

    name: str
    state: State
    changed: list[str]
    """The fields of a stale phase's key that differ, old -> new; empty for other states."""
    fingerprint: str
    rows: int | None
    removed: str | None = None
    """Why the weights of a finished model are gone; None if they are not."""

    def line(self, indent: int = 0) -> Passage:
        """The phase in one line, coloured by its state on a terminal."""
        rows = f"  {self.rows} rows" if self.rows else ""
        rows += f"  weights removed {self.removed}" if self.removed else ""
        changed = f"  changed: {'; '.join(self.changed)}" if self.changed else ""
        name, state = f"{' ' * indent}{self.name:<28} ", f"{self.state:<8}"
        spans = [Span(name), Span(state, _STYLES[self.state]), Span(rows), Span(changed)]
        return Passage(line=spans, hang=len(name + state) + 2)


def phase_states(phases: Sequence[Phase]) -> list[PhaseState]:
    """The state of each phase."""
    states = []
    for phase in phases:
        state, changed = phase.artifact.state()
        rows = phase.artifact.manifest()["rows"] if state == "done" else None
        removed = removal_note(phase.artifact.folder) if state == "done" and isinstance(phase, TrainingPhase) else None
        states.append(PhaseState(phase.name, state, changed, phase.artifact.fingerprint, rows, removed))
    return states


def write_run_config(run: Run) -> None:
    """Writes the run's config into its directory, if it is another one: `stj status RUN` then needs no config file."""
    run.folder.keep(RUN_CONFIG, run_config(run))


def run_config(run: Run) -> bytes:
    """The content of the file with the run's config."""
    return sealed_bytes({"config": plain(run.config)})


def read_run_config(folder: Folder) -> Config:
    """The config that a run was last started with; its directory may have been moved since.

    Raises NoArtifact if the directory has no config, and ArtifactError if it has a damaged one.
    """
    if not folder.exists(RUN_CONFIG):
        raise NoArtifact(f"{folder.uri}: no run here (no {RUN_CONFIG}); give a run's directory, or its config file")
    record = read_sealed(folder, RUN_CONFIG, "give the run's config file instead")
    return replace(from_plain(record["config"]), run_root=folder.uri)
