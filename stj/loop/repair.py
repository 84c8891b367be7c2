"""A repaired source in the middle of a run: which phases are carried over to it, and when the user must ask for that.

Phases that only a pass with the seed or another given model fills can be carried over: `answers/NAME`, `pairs`, and
`iteration_1/judged` and `heldout_0` where they are passes of their own. All later phases rest on a model that was trained on
the old rows, and `pairs` rests on answers as they are. If there are any yet, the run stops, and --overwrite makes them again.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain

from stj.errors import ArtifactError
from stj.loop.inputs import read_measured
from stj.loop.keys import without_content
from stj.loop.kinds import PassPhase
from stj.loop.phase import Phase
from stj.passes.carry_over import CarriedOver, SourceRows, carry_over, differs_only_by_content, survey
from stj.sources.hub import is_hub_dataset
from stj.storage.artifacts import artifacts_to_make, differences, read_artifact


def phases_to_make(phases: Sequence[Phase], *, overwrite: bool) -> list[Phase]:
    """The phases that are not done; writes nothing.

    Raises ArtifactError for the first stale phase that would lose work; `overwrite` includes such phases instead.
    """
    repaired = [phase for phase in phases if is_repaired(phase)]
    others = [phase for phase in phases if phase not in repaired]
    if not overwrite:
        _refuse_stale(repaired, others)
    to_make = artifacts_to_make([phase.artifact for phase in others], overwrite=overwrite)
    return [phase for phase in phases if phase in repaired or phase.artifact in to_make]


def is_repaired(phase: Phase) -> bool:
    """Whether a phase is stale by the content of its source alone, so that rows which did not change are kept."""
    if not isinstance(phase, PassPhase) or _reads_hub(phase):
        return False
    return differs_only_by_content(phase.artifact, partial(without_content, makes_pairs=phase.makes_pairs))


def _reads_hub(phase: PassPhase) -> bool:
    """Whether a phase reads its instructions from the hub, and would read them all again."""
    return phase.makes_pairs and phase.config.makes_synthetic and is_hub_dataset(phase.config.source.path)


def rows_kept(phase: PassPhase) -> CarriedOver | None:
    """What a start would keep of a repaired phase; None if that depends on pairs that are still to be made."""
    later = phase.pairs is not None and not {"judge", "opinions"}.isdisjoint(phase.parts)
    unanswered = any(answers.artifact.state()[0] != "done" for answers in phase.answered)
    return None if later or unanswered else survey(phase.artifact, _source_rows(phase))


def carry_over_rows(phase: Phase, *, overwrite: bool) -> str | None:
    """Carries a repaired phase over to its source, and returns a line on it; None for other phases.

    Raises ArtifactError if less than half of the finished rows would be kept, unless `overwrite` allows it.
    """
    if not isinstance(phase, PassPhase) or not is_repaired(phase):
        return None

    def refuse(carried: CarriedOver) -> None:
        if not carried.keeps_most and not overwrite:
            raise ArtifactError(
                f"{phase.artifact.folder.uri} was made from another source: only {carried.kept:,} of {carried.finished:,} "
                f"finished rows are as they were ({_changes(phase)}). Set the source back, choose another run_root, or pass "
                "--overwrite to keep these alone"
            )

    carried = carry_over(phase.artifact, _source_rows(phase), refuse)
    return f"{phase.name}: its source has changed: {carried.words(limited=phase.limit is not None)}"


def _refuse_stale(repaired: Sequence[Phase], others: Sequence[Phase]) -> None:
    """Raises ArtifactError if later phases rest on a source that was repaired."""
    stale = [phase for phase in others if phase.artifact.state()[0] == "stale"]
    first = next((phase for phase in repaired if isinstance(phase, PassPhase)), None)
    if first is None or not stale:
        return
    kept = rows_kept(first)
    numbers = f"{kept.kept:,} of its {kept.finished:,} finished rows" if kept else "its finished rows"
    names = ", ".join(phase.name for phase in stale[:3]) + (" and more" if len(stale) > 3 else "")
    raise ArtifactError(
        f"{first.artifact.folder.uri} was made from another source ({_changes(first)}), and later phases rest on it: {names}. "
        f"Set the source back, choose another run_root, or pass --overwrite: it keeps {numbers}, which did not change, and "
        "makes the later phases again"
    )


def _changes(phase: Phase) -> str:
    """The settings whose files have changed. Their hashes say nothing to a reader; `stj status` has them."""
    changed = differences(read_artifact(phase.artifact.folder).key, phase.artifact.key)
    return "other content: " + ", ".join(line.partition(":")[0] for line in changed)


def _source_rows(phase: PassPhase) -> SourceRows:
    rows = chain(phase.read_training(), read_measured(phase.config, phase.parts))
    return SourceRows(rows, with_pairs=phase.pairs is not None)
