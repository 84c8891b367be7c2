"""What a run achieved, read from its artifacts: each judge's scores, each training set's counts."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from stj import __version__
from stj.loop.all_benchmarks import all_benchmarks, keeps_out_all, not_kept_out, not_read_words
from stj.loop.clue_balance import ClueBalanceCounts
from stj.loop.counts import Funnel, GradingCounts, JudgingCounts, RescueCounts
from stj.loop.dashboard import Dashboard, DashboardTally, dashboard_alarms, score_alarm
from stj.loop.diversity import Diversity
from stj.loop.heldout import HeldoutTally, heldout_alarms
from stj.loop.heldout_grades import HeldoutGradesTally
from stj.loop.iteration import Iteration
from stj.loop.kinds import PassPhase
from stj.loop.label_flags import LabelNoise
from stj.loop.measures import HELDOUT_PAIRS, JudgeComparisons, benchmark_reports
from stj.loop.mixing import SourceCounts
from stj.loop.panel_figures import PanelFigures, panel_figures
from stj.loop.phases import Run
from stj.loop.removal import removed_models
from stj.loop.report import IterationReport, Part, report_files, write_report
from stj.loop.report.costs import Costs
from stj.loop.report.failed_grades import add_response
from stj.loop.report.failed_pairs import add_pair
from stj.loop.report.failures import Failures, FailureTally, JudgeFailures
from stj.loop.report.losses import Losses
from stj.loop.report.ways import PAIR_WAYS, RESPONSE_WAYS
from stj.loop.where import Where
from stj.rows import HELDOUT, HELDOUT_GRADES, TRAINING, Row
from stj.storage.artifacts import plain
from stj.storage.folder import Folder


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What the report shows of a run."""

    facts: dict[str, Any]
    """JSON values about the run as a whole, with its config, and a judgment of each judge."""
    judges: list[IterationReport]
    """For each judge M_0 ... M_T its scores, and the training set that it made, as far as they exist."""
    where: Where
    """Where the judges are wrong."""
    diversity: Diversity
    """The clusters and the map of the instructions."""
    losses: Losses
    """How each training went."""
    costs: Costs
    """What each phase took."""
    failures: Failures
    """What each judge missed."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the report beside the judges, in the order of the page."""
        return self.losses, self.costs, self.diversity, self.where, self.failures

    def files(self) -> dict[str, bytes]:
        """The content of the report's files, by name."""
        return report_files(self.facts, self.judges, self.parts)

    def write(self, folder: Folder) -> None:
        """Writes the report's files, unless they hold the same already."""
        write_report(folder, self.facts, self.judges, self.parts)

    @classmethod
    def of(cls, run: Run) -> "RunSummary":
        """The summary of all artifacts that are finished. Reads each of them once."""
        judges: list[IterationReport] = []
        samples: list[dict[str, str | None]] = []
        missed = _Missed()
        comparisons = JudgeComparisons()
        before: Dashboard | None = None
        for judge in range(run.config.iterations + 1):
            seen = _JudgeRows.of(run, judge)
            missed.add(f"M_{judge}", seen)
            report = _judge_report(run, judge, seen, comparisons, before)
            judges.append(report)
            before = report.dashboard if judge or _first_judge_is_seed(run) else None
            if seen.sample is not None:
                samples.append(_shown(judge, seen.sample))
        facts = run_facts(run) | {"fingerprints": _fingerprints(run), "samples": samples}
        return cls(
            facts=facts,
            judges=judges,
            where=Where.of(run),
            diversity=Diversity.of(run),
            losses=Losses.of(run),
            costs=Costs.of(run),
            failures=Failures.of(missed.pairs, missed.responses),
        )


@dataclass(kw_only=True)
class _JudgeRows:
    """What the rows that a judge judged say, in one reading."""

    failed_pairs: FailureTally
    failed_responses: FailureTally
    heldout: HeldoutTally = field(default_factory=HeldoutTally)
    grades: HeldoutGradesTally = field(default_factory=HeldoutGradesTally)
    training: DashboardTally = field(default_factory=DashboardTally)
    sample: Row | None = None
    """The first held-out pair that has a judgment."""

    @classmethod
    def of(cls, run: Run, judge: int) -> "_JudgeRows":
        """Reads the passes in which M_k judged the held-out pairs, and in which the training pairs were judged for M_{k+1}."""
        measured, iteration = run.heldout_phase(judge), _trained_next(run, judge)
        judged = iteration.examples.judged if iteration else None
        seed = run.config.seed
        seen = cls(failed_pairs=FailureTally(seed=seed), failed_responses=FailureTally(seed=seed))
        for phase in {phase.name: phase for phase in (judged, measured) if phase}.values():
            if phase.artifact.state()[0] == "done":
                seen._read(phase, heldout=phase is measured, training=phase is judged)
        return seen

    def _read(self, phase: PassPhase, *, heldout: bool, training: bool) -> None:
        for row in phase.rows():
            if heldout and row.task == HELDOUT:
                self.heldout.add(row)
                add_pair(self.failed_pairs, row)
                if row.pair and row.judgments and (self.sample is None or row.position < self.sample.position):
                    self.sample = row
            elif heldout and row.task == HELDOUT_GRADES:
                self.grades.add(row)
                add_response(self.failed_responses, row)
            elif training and row.task == TRAINING:
                self.training.add(row)


@dataclass(kw_only=True)
class _Missed:
    """What the judges missed so far, in their order."""

    pairs: list[JudgeFailures] = field(default_factory=list)
    responses: list[JudgeFailures] = field(default_factory=list)
    right_before: dict[str, bool] = field(default_factory=dict)
    """Whether the latest judge had a held-out pair right, by the row's id."""

    def add(self, judge: str, seen: _JudgeRows) -> None:
        """Takes the next judge."""
        self.pairs += seen.failed_pairs.result(judge, PAIR_WAYS, self.right_before)
        self.responses += seen.failed_responses.result(judge, RESPONSE_WAYS, {})
        self.right_before = {row_id: result.accuracy > 0.5 for row_id, result in seen.heldout.results.items()}


def _fingerprints(run: Run) -> dict[str, str]:
    """The fingerprints of the finished phases, by name: who reads the report alone sees whether it is of what lies there."""
    return {phase.name: phase.artifact.fingerprint for phase in run.phases if phase.artifact.state()[0] == "done"}


def _first_judge_is_seed(run: Run) -> bool:
    """Whether M_0 judged the first training pairs. Another model has other lengths and yields by nature."""
    return run.config.models.first_judge == run.config.models.seed


def _trained_next(run: Run, judge: int) -> Iteration | None:
    """The iteration whose pairs M_k (or the first judge) judges; None for M_T."""
    return run.iterations[judge] if judge < len(run.iterations) else None


def _judge_report(
    run: Run, judge: int, seen: _JudgeRows, comparisons: JudgeComparisons, before: Dashboard | None
) -> IterationReport:
    scores, dashboard = seen.heldout.scores(), seen.training.dashboard()
    alarms = [*(heldout_alarms(scores) if scores else ()), *(dashboard_alarms(dashboard, before) if dashboard else ())]
    report = IterationReport(
        judge=f"M_{judge}",
        heldout=scores,
        heldout_grades=seen.grades.scores(),
        heldout_comparisons=comparisons.add(judge, HELDOUT_PAIRS, seen.heldout.results) if scores else (),
        benchmarks=benchmark_reports(run.benchmark_phases(judge), comparisons),
        dashboard=dashboard,
        alarms=tuple(alarms),
    )
    iteration = _trained_next(run, judge)
    if iteration is None or iteration.examples.artifact.state()[0] != "done":
        return report
    return _with_training_data(report, run, iteration)


def _with_training_data(report: IterationReport, run: Run, iteration: Iteration) -> IterationReport:
    """The report with the counts of the training set that the judge made."""
    manifest = iteration.examples.artifact.manifest()
    funnel, judged = Funnel(**manifest["funnel"]), JudgingCounts(**manifest["judged"])
    grading = GradingCounts(**manifest["graded"]) if "graded" in manifest else None
    labelled = bool(run.config.examples.labelled)
    alone = grading if grading and not run.config.judge.compares else GradingCounts()
    forgotten = score_alarm(grading.learned, run.config.grading.rubrics) if grading and not labelled else ()
    return replace(
        report,
        alarms=(*report.alarms, *forgotten),
        instructions_in=funnel.instructions_in,
        selected=funnel.selected,
        pairs=funnel.pairs,
        attacked=funnel.attacked,
        attacked_accepted=judged.attacked_accepted,
        draws_per_kept=judged.draws_per_kept,
        accepted=judged.accepted,
        parser=run.config.judge.parser,
        kept_by_parser=judged.kept_by_parser,
        truncated=judged.truncated_share,
        label_a=judged.label_a,
        label_b=judged.label_b,
        grading=grading,
        labelled=manifest.get("labelled"),
        sources={title: SourceCounts(**counts) for title, counts in manifest.get("sources", {}).items()} or None,
        rescue=RescueCounts(**manifest["rescue"]) if "rescue" in manifest else None,
        label_noise=LabelNoise(**manifest["label_noise"]) if "label_noise" in manifest else None,
        panel=_panel_figures(run, iteration),
        balanced=ClueBalanceCounts(**manifest["balanced"]) if "balanced" in manifest else None,
        examples=manifest["rows"],
        dropped=dict(Counter(funnel.dropped) + Counter(judged.dropped) + Counter(alone.dropped)),
        failed=funnel.failed + judged.failed + alone.failed,
    )


def _panel_figures(run: Run, iteration: Iteration) -> PanelFigures | None:
    """What the judge and the panel say about the pairs of an iteration; None without a panel, or if a pass of it is gone."""
    judged, opinions = iteration.examples.judged, iteration.examples.opinions
    if judged is None or any(phase.artifact.state()[0] != "done" for phase in (judged, *opinions)):
        return None
    return panel_figures(judged.artifact, iteration.examples.heard, run.config.judge)


def run_facts(run: Run) -> dict[str, Any]:
    """JSON values about the run as a whole, with its config and the models whose weights are gone."""
    config = run.config
    named = {"run_root": config.run_root, "run seed": config.seed, "judgments kept": config.judge.keep, "stj": __version__}
    if keeps_out_all(config.source):
        missing = run.pairs.not_kept_out if run.pairs else not_kept_out(config.source)
        read = [name for name in all_benchmarks() if name not in missing]
        named["benchmarks kept out"] = f"{', '.join(read) or 'none'}{not_read_words(missing)}"
    removed = {f"weights of {training.name}": f"removed {note}" for training, note in removed_models(run)}
    return {**named, **removed, "config": plain(config)}


def _shown(judge: int, row: Row) -> dict[str, str | None]:
    """A judgment by M_k, for the report."""
    assert row.pair is not None, "a held-out row has a pair"
    judgment = row.judgments[0]
    return {
        "judge": f"M_{judge}",
        "instruction": row.instruction,
        "chosen": row.pair.chosen,
        "rejected": row.pair.rejected,
        "winner": judgment.winner,
        "verdict": judgment.verdict,
        "thought": judgment.thought,
        "text": judgment.text,
    }
