"""What came of a run, read from its artifacts: each judge's scores, each training set's counts, a line for a phase."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from stj import __version__
from stj.loop.counts import Funnel, JudgingCounts
from stj.loop.heldout import score_heldout
from stj.loop.phases import Phase, Run
from stj.loop.report import IterationReport
from stj.rows import HELDOUT, TRAINING, Row
from stj.storage.artifacts import plain
from stj.text import duration


def judged_rows(run: Run, judged: Phase) -> Iterator[Row]:
    """The training pairs of a pass with their judgments; rows that failed or were dropped before are left out."""
    for row in run.rows_of(judged):
        if row.task == TRAINING and row.pair is not None:
            yield row


def report(run: Run) -> list[IterationReport]:
    """What is known of each judge M_0 ... M_T: its held-out scores, and the training set that it made."""
    return [_judge_report(run, judge) for judge in range(run.config.iterations + 1)]


def _judge_report(run: Run, judge: int) -> IterationReport:
    measured = run.heldout_phase(judge)
    examples = next((p for p in run.phases if p.kind == "examples" and p.iteration == judge + 1), None)
    scores = None
    if measured is not None and measured.artifact.state()[0] == "done":
        scores = score_heldout(row for row in run.rows_of(measured) if row.task == HELDOUT)
    if examples is None or examples.artifact.state()[0] != "done":
        return IterationReport(judge=f"M_{judge}", heldout=scores)
    manifest = examples.artifact.manifest()
    funnel, judged = Funnel(**manifest["funnel"]), JudgingCounts(**manifest["judged"])
    return IterationReport(
        judge=f"M_{judge}",
        heldout=scores,
        instructions_in=funnel.instructions_in,
        selected=funnel.selected,
        pairs=funnel.pairs,
        draws_per_kept=judged.draws_per_kept,
        accepted=judged.accepted,
        label_a=judged.label_a,
        label_b=judged.label_b,
        examples=manifest["rows"],
        dropped=dict(Counter(funnel.dropped) + Counter(judged.dropped)),
        failed=funnel.failed + judged.failed,
    )


def summary(phase: Phase) -> str:
    """One line of what a finished phase made."""
    manifest = phase.artifact.manifest()
    if phase.kind == "pass":
        dropped = ", ".join(f"{count} {reason}" for reason, count in manifest["dropped"].items()) or "none"
        written = f"{manifest['rows']} rows, {manifest['output_tokens']:,} tokens written"
        return f"{written}, dropped: {dropped}; failed: {manifest['failed']}; {_cost(manifest['ledger'])}"
    if phase.kind == "examples":
        judged = JudgingCounts(**manifest["judged"])
        rarer = [f"{count} {kind}s" for kind, count in manifest["kinds"].items() if kind != "judgment"]
        among = f" ({', '.join(rarer)})" if rarer else ""
        return (
            f"{manifest['rows']} examples{among} of {judged.judged} judged pairs; accepted {judged.accepted:.1%}, "
            f"{judged.draws_per_kept:.2f} draws per kept judgment, A/B {judged.label_a}/{judged.label_b}"
        )
    trained = f"{manifest['steps']} steps, loss {manifest['loss_first']:.3f} -> {manifest['loss_last']:.3f}"
    return f"{trained}; {manifest['selection']['why']}" if "selection" in manifest else trained


def _cost(ledger: Mapping[str, Any]) -> str:
    """What a pass has cost, in its summary."""
    dollars = "" if ledger["dollars"] is None else f", ${ledger['dollars']:,.2f}"
    wasted = ledger["wasted_tokens"] / max(1, ledger["output_tokens"])
    return f"{duration(ledger['engine_seconds'])} of engines{dollars}, {wasted:.0%} of all tokens wasted"


def facts(run: Run) -> dict[str, Any]:
    """What the report says of the run as a whole."""
    config = run.config
    named = {"run_root": config.run_root, "run seed": config.seed, "judgments kept": config.judge.keep, "stj": __version__}
    return {**named, "config": plain(config), "samples": _samples(run)}


def _samples(run: Run) -> list[dict[str, str | None]]:
    """A few judgments of each judge, for the report's reader: the first held-out pair that is in order."""
    samples = []
    for judge in range(run.config.iterations + 1):
        phase = run.heldout_phase(judge)
        if phase is None or phase.artifact.state()[0] != "done":
            continue
        judged = (row for row in run.rows_of(phase) if row.task == HELDOUT and row.pair and row.judgments)
        row = min(judged, key=lambda row: row.position, default=None)
        if row is None or row.pair is None:
            continue
        judgment = row.judgments[0]
        samples.append(
            {
                "judge": f"M_{judge}",
                "instruction": row.instruction,
                "chosen": row.pair.chosen,
                "rejected": row.pair.rejected,
                "winner": judgment.winner,
                "verdict": judgment.verdict,
                "text": judgment.text,
            }
        )
    return samples
