"""From a judged pass to training examples: read as streams, so that of a million pairs a few bytes each are in memory."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from stj.errors import PassFailed
from stj.loop.counts import Funnel, JudgingCounts
from stj.loop.external_sort import sorted_by_id
from stj.loop.label_balance import BalancedShare, LabelBalance, to_learn
from stj.loop.phases import Phase, Run
from stj.loop.summary import judged_rows
from stj.loop.tasks import TaskMix, to_example
from stj.rows import Example, Judgment, Row, examples_to_table

_A_FILE = 2048  # examples


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What can be learned from a pair."""

    row: Row
    right: Judgment
    wrong: Judgment | None


def select_examples(run: Run, phase: Phase) -> None:
    """Keeps one right judgment a pair (and a wrong one, to learn preferences), as many with label A as with label B.

    Raises PassFailed where nothing, or nothing but one label, is there to learn.
    """
    seed = run.config.seed
    counts, kept, compared = JudgingCounts(), LabelBalance(seed), LabelBalance(seed)
    for found in _found(run, phase, counts):
        kept.add(found.row.id, found.right.winner)
        if found.wrong is not None:
            compared.add(found.row.id, found.right.winner)
    chosen = kept.balanced()
    with_wrong = compared.balanced(within=chosen)
    if not chosen.size or (phase.objective != "sft" and not with_wrong.size):
        raise _no_examples(phase, counts, kept if phase.objective == "sft" else compared)
    kinds, parts = Counter[str](), list[str]()
    examples = sorted_by_id(_examples(run, phase, chosen, with_wrong))  # never in order of arrival
    for number in itertools.count():
        part = list(itertools.islice(examples, _A_FILE))
        if not part:
            break
        kinds.update(example.kind for example in part)
        parts.append(phase.artifact.write_part(f"examples-{number:05d}", examples_to_table(part)))
    funnel = Funnel.of(run.rows_of(run.phase_that("pairs", 1)))
    facts = {"funnel": asdict(funnel), "judged": asdict(counts), "kinds": dict(sorted(kinds.items()))}
    phase.artifact.finish(parts, **facts, with_wrong_judgment=2 * with_wrong.size)


def _found(run: Run, phase: Phase, counts: JudgingCounts | None = None) -> Iterator[_Found]:
    """The pairs with something to learn; all are counted."""
    assert phase.source is not None
    assert phase.objective is not None
    counts = counts or JudgingCounts()
    for row in judged_rows(run, phase.source):
        counts.add(row)
        found = to_learn(row, phase.objective)
        if found is not None:
            yield _Found(row=row, right=found[0], wrong=found[1])
        elif row.kept is not None:
            counts.drop("no_wrong_judgment")


def _examples(run: Run, phase: Phase, chosen: BalancedShare, with_wrong: BalancedShare) -> Iterator[Example]:
    def learned() -> Iterator[_Found]:
        return (one for one in _found(run, phase) if chosen.has(one.row.id, one.right.winner))

    def compared(one: _Found) -> bool:
        return one.wrong is not None and with_wrong.has(one.row.id, one.right.winner)

    kinds = TaskMix(run.config.examples, run.config.seed)
    if not kinds.judgments_alone:
        kinds.share_out((one.row.id, one.right.winner, compared(one)) for one in learned())
    for one in learned():
        pair = compared(one)
        yield to_example(one.row, one.right, one.wrong if pair else None, kinds.of(one.row.id, one.right.winner, pair))


def _no_examples(phase: Phase, counts: JudgingCounts, usable: LabelBalance) -> PassFailed:
    dropped = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items())
    return PassFailed(
        f"{phase.name}: no training examples: {counts.judged} pairs were judged, {usable.count('A')} can be learned with "
        f"label A, {usable.count('B')} with label B (dropped: {dropped or 'none'}). Judge more pairs, or see with "
        "`stj show` what the judge writes"
    )
