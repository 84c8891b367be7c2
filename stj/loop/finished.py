"""A run of which every phase is done: what it achieved. Nothing is written that is as it should be, so any disk can hold it."""

import logging
from collections.abc import Sequence

from stj.errors import StorageFailed
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.loop.removal import older_models, remove_older_models
from stj.loop.status import RUN_CONFIG, run_config, write_run_config
from stj.loop.summary import RunSummary
from stj.storage.lease import sole_driver
from stj.text import Show

log = logging.getLogger(__name__)


def finished_summary(run: Run, phases: Sequence[Phase], print_line: Show) -> RunSummary:
    """The summary of these finished phases. Brings up to date what is beside them; leaves a disk that takes nothing as it is.

    Raises ArtifactError if something is to be written, and another driver is at work there.
    """
    summary = RunSummary.of(run)
    if _is_current(run, phases, summary):
        return summary
    try:
        with sole_driver(run.folder):
            for phase in phases:
                phase.clean_up()
            write_run_config(run)
            remove_older_models(run, print_line)
            summary = RunSummary.of(run)  # it counts removed models
            summary.write(run.folder)
    except StorageFailed as error:
        log.warning("the report is not brought up to date: %s", error)
    return summary


def _is_current(run: Run, phases: Sequence[Phase], summary: RunSummary) -> bool:
    """Whether all files say what they should, and none is left that should be gone."""
    files = {RUN_CONFIG: run_config(run), **summary.files()}
    return (
        all(phase.in_order for phase in phases)
        and all(run.folder.holds(name, content) for name, content in files.items())
        and next(older_models(run), None) is None
    )
