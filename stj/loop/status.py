"""The state of a run: each phase done, partial, stale (and which field changed) or absent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stj.config import Config
from stj.config_loader import from_plain
from stj.errors import NoArtifact
from stj.loop.kinds import PassPhase, TrainingPhase
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.loop.repair import is_repaired, rows_kept
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
    kept: str | None = None
    """What the next start keeps of a pass whose source was repaired; None for other phases."""

    def line(self, indent: int = 0) -> Passage:
        """The phase in one line, coloured by its state on a terminal."""
        rows = f"  {self.rows} rows" if self.rows else ""
        rows += f"  weights removed {self.removed}" if self.removed else ""
        changed = f"  changed: {'; '.join(self.changed)}" if self.changed else ""
        changed += f"; {self.kept}" if self.kept else ""
        name, state = f"{' ' * indent}{self.name:<28} ", f"{self.state:<8}"
        spans = [Span(name), Span(state, _STYLES[self.state]), Span(rows), Span(changed)]
        return Passage(line=spans, hang=len(name + state) + 2)


def phase_states(phases: Sequence[Phase], *, count_kept: bool = False) -> list[PhaseState]:
    """The state of each phase. `count_kept` reads a repaired source, and counts the rows that did not change."""
    states = []
    repaired = [phase for phase in phases if is_repaired(phase)]
    for phase in phases:
        state, changed = phase.artifact.state()
        rows = phase.artifact.manifest()["rows"] if state == "done" else None
        removed = removal_note(phase.artifact.folder) if state == "done" and isinstance(phase, TrainingPhase) else None
        states.append(PhaseState(phase.name, state, changed, phase.artifact.fingerprint, rows, removed))
    kept = {phase.name: _kept_words(phase, count=count_kept) for phase in repaired}
    needs_overwrite = any(state.state == "stale" and state.name not in kept for state in states)
    start = "a start with --overwrite" if needs_overwrite else "a start"
    return [replace(state, kept=f"{start} keeps {kept[state.name]}") if state.name in kept else state for state in states]


def _kept_words(phase: Phase, *, count: bool) -> str:
    carried = rows_kept(phase) if count and isinstance(phase, PassPhase) else None
    if carried is None:
        return "the finished rows that did not change"
    return f"the {carried.kept:,} of {carried.finished:,} finished rows that did not change"


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
    record = read_sealed(folder, RUN_CONFIG, "give the run's config file instead", fields=("config",))
    return replace(from_plain(record["config"]), run_root=folder.uri)
