"""A model's pass over the rows of a user's file: what is done already is reported, and the rest is asked.

`stj judge` has one pass for each juror, `stj grade` has one.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from stj.config import ModelConfig
from stj.errors import ArtifactError
from stj.findings import require
from stj.models.check import ModelUse
from stj.passes.carry_over import CarriedOver, SourceRows, carry_over, differs_only_by_content
from stj.passes.check import judge_findings
from stj.passes.node_check import checked_nodes
from stj.passes.run import run_pass
from stj.passes.session import driver_session, engine_demand
from stj.passes.spec import pass_under
from stj.plan.context import LongestRequest
from stj.rows import Row, row_from_dict
from stj.stages.runner import Stage
from stj.storage.artifacts import Artifact, Key, artifacts_to_make
from stj.storage.folder import Folder
from stj.text import visible_line
from stj.use_config import UseConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FilePass:
    """One model's pass over the rows of a file. The artifact's key holds the file's identity as "file"."""

    file: str
    model: ModelConfig
    artifact: Artifact
    read: Callable[[], Iterator[Row]]
    """Reads the rows; runs on the cluster."""
    stages: Mapping[str, Sequence[Stage]]
    """Chain of stages of each task."""

    def rows(self) -> Iterator[Row]:
        """The rows that are finished."""
        return map(row_from_dict, self.artifact.records())

    @property
    def is_edited(self) -> bool:
        """Whether the artifact on disk differs only by the file's content."""
        return differs_only_by_content(self.artifact, _without_file)

    def run(self, config: UseConfig, on_rows: Callable[[Iterable[Row]], None], *, overwrite: bool) -> None:
        """Asks for the rows that are left, and reports all: first those of earlier starts, failed ones last."""
        if self.is_edited:
            carry_over(self.artifact, SourceRows(self.read(), with_pairs=True), partial(self._carried, overwrite=overwrite))
        self.artifact.begin(overwrite=overwrite)
        on_rows(row for row in self.rows() if not row.error)
        spec = pass_under(config, name=Path(self.file).name, model=self.model, read=self.read, stages=self.stages)
        run_pass(spec, self.artifact, config.engine, lambda row: on_rows([row]))
        on_rows(row for row in self.rows() if row.error)

    def _carried(self, carried: CarriedOver, *, overwrite: bool) -> None:
        """Logs what is kept of an edited file. Raises ArtifactError if that is less than half, unless `overwrite` allows it."""
        if not carried.keeps_most and not overwrite:
            raise ArtifactError(
                f"{self.artifact.folder.uri} holds judgments of another file: {self.file} has {carried.kept:,} of "
                f"{carried.finished:,} judged rows as they were. Name another run_root, or pass --overwrite to keep these alone"
            )
        log.warning("%s", visible_line(f"{self.file} has changed: {carried.words()}"))


AnyPass = TypeVar("AnyPass", bound=FilePass)


def run_passes(
    passes: Sequence[AnyPass],
    requests: Sequence[LongestRequest],
    folder: Folder,
    config: UseConfig,
    on_rows: Callable[[AnyPass, Iterable[Row]], None],
    *,
    overwrite: bool,
) -> None:
    """Reports every row of each pass, and asks the models for those that are not done yet.

    Everything is checked before Ray starts. Raises ModelError if a model is missing, and ArtifactError if the folder was made
    with other settings. Also raises the errors of `run_pass`.
    """
    edited = [given for given in passes if given.is_edited]
    to_make = artifacts_to_make([given.artifact for given in passes if given not in edited], overwrite=overwrite)
    waiting = [given for given in passes if given in edited or given.artifact in to_make]
    for given in passes:
        if given not in waiting:
            on_rows(given, given.rows())
    if not waiting:
        return
    uses = [ModelUse(roles=("model",), model=given.model, limited=False) for given in waiting]
    require(judge_findings(uses, requests, folder.uri, config))
    demand = engine_demand(config.engine, [given.model for given in waiting])
    with driver_session(folder, config.ray, [demand]), checked_nodes(config.ray, None, gpu=demand.gpus > 0):
        for given in waiting:
            given.run(config, partial(on_rows, given), overwrite=overwrite)


def _without_file(key: Key) -> Key:
    return {name: value for name, value in key.items() if name != "file"}
