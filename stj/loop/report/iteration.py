"""What a report says of one judge and of the training data that it made, and what follows from a list of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stj.evals.attack_card import AttackCard
from stj.loop.clue_balance import ClueBalanceCounts
from stj.loop.counts import GradingCounts, RescueCounts
from stj.loop.dashboard import Dashboard
from stj.loop.heldout import HeldoutScores
from stj.loop.heldout_grades import HeldoutGrades
from stj.loop.label_flags import LabelNoise
from stj.loop.measures import BenchmarkReport, JudgeComparison
from stj.loop.mixing import SourceCounts
from stj.loop.panel_figures import PanelFigures
from stj.verdict import Parser


@dataclass(frozen=True, kw_only=True)
class IterationReport:
    """One judge: how good it is, and what happened to the training pairs that it judged for the next one.

    The last judge, M_T, judges no training pairs: what describes its training data is None.
    """

    judge: str
    """"M_0" to "M_T"."""
    heldout: HeldoutScores | None = None
    heldout_grades: HeldoutGrades | None = None
    """How well the judge grades the held-out responses."""
    heldout_comparisons: tuple[JudgeComparison, ...] = ()
    """On the held-out pairs, against the judge before and against M_0."""
    benchmarks: dict[str, BenchmarkReport] = field(default_factory=dict)
    """The judge on each benchmark of the run, by name."""
    draws_per_kept: float | None = None
    """Judgments sampled for each kept judgment."""
    accepted: float | None = None
    """Share of pairs with a kept judgment."""
    parser: Parser | None = None
    """The parser that decided which judgments were kept."""
    kept_by_parser: dict[str, int] | None = None
    """Pairs of whose sampled judgments each parser would keep one."""
    truncated: float | None = None
    """Share of the judgments of training pairs that max_tokens cut, in the judgment or in the thought before it."""
    examples: int | None = None
    """Training examples, after balancing."""
    instructions_in: int | None = None
    selected: int | None = None
    pairs: int | None = None
    attacked: dict[str, int] | None = None
    """Those of them whose worse answer is attacked, by attack (`pairs.attacked`)."""
    attacked_accepted: float | None = None
    """Share of the attacked pairs with a kept judgment."""
    label_a: int | None = None
    """Kept judgments that show the better answer as A, before balancing."""
    label_b: int | None = None
    grading: GradingCounts | None = None
    """Its grades of the answers of the training pairs; None if it compared them alone."""
    labelled: dict[str, Any] | None = None
    """The labelled judgments among its training data: rows, learned, and dropped by reason (LabelledCounts)."""
    sources: dict[str, SourceCounts] | None = None
    """The pairs of each source, if the run names its sources (`preferences`)."""
    rescue: RescueCounts | None = None
    """What became of the pairs without a right judgment, if `judge.rescue` asks."""
    label_noise: LabelNoise | None = None
    """What the judges so far say about the labels, if `curate.label_noise` asks."""
    panel: PanelFigures | None = None
    """What it and the panel say about the training pairs, if `judge.panel` names members."""
    balanced: ClueBalanceCounts | None = None
    """The pairs that `curate.balance` left out, if it names clues."""
    dropped: dict[str, int] | None = None
    """Dropped rows, by reason."""
    failed: int | None = None
    """Rows whose request to a model failed."""
    dashboard: Dashboard | None = None
    """Its judgments of the training pairs. For M_0 these are the first judge's, which may be another model."""
    alarms: tuple[str, ...] = ()
    """A line for each number that is out of its bounds (stj/loop/dashboard.py)."""


def training_sets(iterations: Sequence[IterationReport]) -> list[tuple[str, IterationReport]]:
    """Each set of training data under the name of the judge that it trains."""
    following = [*(iteration.judge for iteration in iterations[1:]), "the next judge"]
    return [(judge, data) for judge, data in zip(following, iterations, strict=False) if data.pairs is not None]


def benchmark_names(iterations: Sequence[IterationReport]) -> list[str]:
    """The benchmarks that some judge has judged, in the order of the config."""
    return list(dict.fromkeys(name for iteration in iterations for name in iteration.benchmarks))


def heldout_subsets(iterations: Sequence[IterationReport]) -> list[str]:
    """The subsets of the held-out pairs."""
    return sorted({name for iteration in iterations if iteration.heldout for name in iteration.heldout.subsets})


def attack_cards(iterations: Sequence[IterationReport]) -> dict[str, AttackCard]:
    """The attack card of each judge that has one, by the judge."""
    reports = ((iteration.judge, report) for iteration in iterations for report in iteration.benchmarks.values())
    return {judge: report.attacks for judge, report in reports if report.attacks}
