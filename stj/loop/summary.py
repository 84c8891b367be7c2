"""What a run achieved, read from its artifacts: each judge's scores, each training set's counts."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from stj import __version__
from stj.loop.counts import Funnel, JudgingCounts
from stj.loop.heldout import score_heldout
from stj.loop.kinds import PassPhase
from stj.loop.phases import Run
from stj.loop.report import IterationReport
from stj.loop.where import Where
from stj.rows import HELDOUT
from stj.storage.artifacts import plain


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What the report shows of a run."""

    facts: dict[str, Any]
    """JSON values about the run as a whole, with its config, and a judgment of each judge."""
    judges: list[IterationReport]
    """For each judge M_0 ... M_T its held-out scores, and the training set that it made, as far as they exist."""
    where: Where
    """Where the judges are wrong."""

    @classmethod
    def of(cls, run: Run) -> "RunSummary":
        """The summary of all artifacts that are finished."""
        judges = [_judge_report(run, judge) for judge in range(run.config.iterations + 1)]
        return cls(facts=_facts(run), judges=judges, where=Where.of(run))


def _judge_report(run: Run, judge: int) -> IterationReport:
    measured = _measured(run, judge)
    scores = score_heldout(row for row in measured.rows() if row.task == HELDOUT) if measured else None
    iteration = run.iterations[judge] if judge < len(run.iterations) else None
    if iteration is None or iteration.examples.artifact.state()[0] != "done":
        return IterationReport(judge=f"M_{judge}", heldout=scores)
    manifest = iteration.examples.artifact.manifest()
    funnel, judged = Funnel(**manifest["funnel"]), JudgingCounts(**manifest["judged"])
    return IterationReport(
        judge=f"M_{judge}",
        heldout=scores,
        instructions_in=funnel.instructions_in,
        selected=funnel.selected,
        pairs=funnel.pairs,
        draws_per_kept=judged.draws_per_kept,
        accepted=judged.accepted,
        parser=run.config.judge.parser,
        kept_by_parser=judged.kept_by_parser,
        truncated=judged.truncated_share,
        label_a=judged.label_a,
        label_b=judged.label_b,
        examples=manifest["rows"],
        dropped=dict(Counter(funnel.dropped) + Counter(judged.dropped)),
        failed=funnel.failed + judged.failed,
    )


def _measured(run: Run, judge: int) -> PassPhase | None:
    """The finished pass in which M_k judged the held-out pairs, if there is one."""
    phase = run.heldout_phase(judge)
    return phase if phase and phase.artifact.state()[0] == "done" else None


def _facts(run: Run) -> dict[str, Any]:
    config = run.config
    named = {"run_root": config.run_root, "run seed": config.seed, "judgments kept": config.judge.keep, "stj": __version__}
    return {**named, "config": plain(config), "samples": _samples(run)}


def _samples(run: Run) -> list[dict[str, str | None]]:
    """Samples for the report: one judgment by each judge, of the first held-out pair that has one."""
    samples = []
    for judge in range(run.config.iterations + 1):
        if (phase := _measured(run, judge)) and (sample := _sample(phase, judge)):
            samples.append(sample)
    return samples


def _sample(phase: PassPhase, judge: int) -> dict[str, str | None] | None:
    judged = (row for row in phase.rows() if row.task == HELDOUT and row.pair and row.judgments)
    row = min(judged, key=lambda row: row.position, default=None)
    if row is None or row.pair is None:
        return None
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
