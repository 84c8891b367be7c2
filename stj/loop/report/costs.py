"""What each phase of a run took: tokens, seconds of engines and of ranks, and dollars where prices are known.

The numbers are those of the manifests. A number that a manifest lacks is missing, which is not 0: the total is then "at least".
Benchmarks that a pass judges beside its own rows are in the line of that pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from stj.loop.benchmarks import BenchmarkPhase
from stj.loop.curation import CurationPhase
from stj.loop.kinds import PassPhase, TrainingPhase
from stj.loop.phase import CANDIDATES, Phase
from stj.loop.phases import Run
from stj.loop.report.html_table import html_table
from stj.loop.report.templates import render
from stj.loop.report.words import NONE, whole
from stj.loop.spending import training_dollars
from stj.storage.artifacts import MANIFEST, Artifact, read_artifact
from stj.text import Column, Table

_OF_ENGINES = ("prompt_tokens", "output_tokens", "engine_seconds")
_OF_RANKS = ("learned_tokens", "rank_seconds")


@dataclass(frozen=True, kw_only=True)
class PhaseCost:
    """What a finished phase took. None is a number that its kind does not have, or that nobody recorded."""

    phase: str
    starts: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    wasted_tokens: int | None = None
    """Those of the output tokens that no finished row needed."""
    engine_seconds: float | None = None
    learned_tokens: int | None = None
    """Supervised tokens of a training, all epochs."""
    rank_seconds: float | None = None
    """Seconds of a training, times its ranks; the last start only."""
    dollars: float | None = None
    missing: tuple[str, ...] = ()
    """The numbers that a phase of this kind has, and that its manifest lacks."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The part of the report on what the run took."""

    phases: tuple[PhaseCost, ...] = ()
    unfinished: int = 0
    """Phases that are not done."""

    name = "costs"

    @classmethod
    def of(cls, run: Run) -> "Costs":
        """Reads the manifests of the finished phases."""
        done = [phase for phase in run.phases if phase.artifact.state()[0] == "done"]
        return cls(phases=tuple(_costs(done)), unfinished=len(run.phases) - len(done))

    def plain(self) -> dict[str, Any]:
        """All numbers as JSON values."""
        return asdict(self)

    def html(self) -> Markup:
        """The part of the page; empty if no phase that takes anything is done."""
        if not self.phases:
            return Markup()
        return render(
            "costs.html.jinja",
            table=html_table(costs_table(self.phases), "what each phase took"),
            priced=_is_priced(self.phases),
            unpriced=[phase.phase for phase in self.phases if phase.dollars is None],
            missing=[phase.phase for phase in self.phases if phase.missing],
            unfinished=self.unfinished,
        )


class _Figure(NamedTuple):
    head: Column
    name: str
    write: Callable[[float], str]


def _dollars(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.01 or not value else f"{value:.4f}"


_FIGURES = (
    _Figure(Column("", "starts"), "starts", whole),
    _Figure(Column("tokens", "read"), "prompt_tokens", whole),
    _Figure(Column("tokens", "written"), "output_tokens", whole),
    _Figure(Column("", "wasted"), "wasted_tokens", whole),
    _Figure(Column("engine-", "seconds"), "engine_seconds", whole),
    _Figure(Column("tokens", "learned"), "learned_tokens", whole),
    _Figure(Column("rank-", "seconds"), "rank_seconds", whole),
    _Figure(Column("", "dollars"), "dollars", _dollars),
)


def costs_table(phases: Sequence[PhaseCost]) -> Table:
    """A row for each phase and one for the total; dollars only if a price is known."""
    figures = [figure for figure in _FIGURES if figure.name != "dollars" or _is_priced(phases)]
    rows = [[phase.phase, *(_cell(phase, figure) for figure in figures)] for phase in phases]
    total = ["total", *(_total(phases, figure) for figure in figures)]
    return Table(columns=[Column("", "phase"), *(figure.head for figure in figures)], rows=[*rows, total])


def _costs(phases: Sequence[Phase]) -> Iterator[PhaseCost]:
    for phase in phases:
        if isinstance(phase, PassPhase | BenchmarkPhase):
            yield from _of_pass(phase)
        elif isinstance(phase, CurationPhase) and "ledger" in phase.artifact.manifest():
            yield _of_ledger(phase.name, phase.artifact)
        elif isinstance(phase, TrainingPhase):
            yield _of_training(phase)
            yield from _of_candidates(phase)


def _of_pass(phase: PassPhase | BenchmarkPhase) -> Iterator[PhaseCost]:
    """The cost of a pass; none of a benchmark that another pass judged beside its own rows."""
    ledger = phase.artifact.manifest().get("ledger", {})
    if not isinstance(phase, BenchmarkPhase) or ledger.get("engine_seconds"):
        yield _of_ledger(phase.name, phase.artifact)


def _of_ledger(name: str, artifact: Artifact) -> PhaseCost:
    ledger = artifact.manifest().get("ledger", {})
    names = ("starts", "prompt_tokens", "output_tokens", "wasted_tokens", "engine_seconds", "dollars")
    known = {name: ledger.get(name) for name in names}
    return PhaseCost(phase=name, missing=_unknown(known, _OF_ENGINES), **known)


def _of_training(phase: TrainingPhase) -> PhaseCost:
    manifest = phase.artifact.manifest()
    seconds, price = manifest.get("seconds"), phase.config.hardware.dollars_per_gpu_hour
    known: dict[str, Any] = {
        "learned_tokens": manifest.get("supervised_tokens"),
        "rank_seconds": None if seconds is None else round(seconds * phase.train.workers, 1),
        "dollars": None if seconds is None else training_dollars(phase.train, price, seconds),
    }
    return PhaseCost(phase=phase.name, missing=_unknown(known, _OF_RANKS), **known)


def _of_candidates(phase: TrainingPhase) -> Iterator[PhaseCost]:
    """What the checkpoints of a training cost that judged pairs to be chosen by (`train.selection`)."""
    candidates = phase.artifact.folder.parent / CANDIDATES
    for name in candidates.folders() if phase.selected_on else ():
        judged = candidates / name / "judged"
        if judged.exists(MANIFEST):
            yield _of_ledger(f"{phase.name.rpartition('/')[0]}/{CANDIDATES}/{name}", read_artifact(judged))


def _unknown(known: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if known[name] is None)


def _is_priced(phases: Sequence[PhaseCost]) -> bool:
    return any(phase.dollars is not None for phase in phases)


def _cell(phase: PhaseCost, figure: _Figure) -> str:
    value = getattr(phase, figure.name)
    return "missing" if figure.name in phase.missing else NONE if value is None else figure.write(value)


def _total(phases: Sequence[PhaseCost], figure: _Figure) -> str:
    """The sum of what is known; at least that, if a phase does not say its part."""
    known = [value for phase in phases if (value := getattr(phase, figure.name)) is not None]
    partial = any(figure.name in phase.missing for phase in phases)
    if figure.name == "dollars":
        partial = len(known) < len(phases)
    return f"{'≥ ' if partial else ''}{figure.write(sum(known))}" if known else NONE
