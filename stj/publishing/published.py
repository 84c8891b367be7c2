"""What `stj export MODEL` publishes: a model, and the run and the judge that it is, if a run made it.

    runs/mini                       the run's last trained judge whose weights are there
    runs/mini/iteration_2/model     M_2 of that run
    anything else                   a model without a run behind it

Of a run the last judge is published, not the one with the best held-out accuracy: a figure by which a judge was chosen is too
good for it. If an earlier judge has a better figure, a line says so.
"""

import re
from dataclasses import dataclass

from stj.config import ModelConfig
from stj.config_loader import load_model
from stj.errors import ConfigError, ModelError
from stj.loop.run_folder import RunFolder, is_run
from stj.models.hub import is_hub_id
from stj.models.removed import removal_note
from stj.package_files import PACKAGE_SCHEME
from stj.storage.folder import Folder

_MODEL = re.compile(r"iteration_(\d+)/model")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A model to publish."""

    model: ModelConfig
    run: RunFolder | None = None
    """The run that trained it."""
    judge: int = 0
    """k of its M_k, if a run trained it."""


def find_published(word: str) -> Published:
    """The model that a word names: a run, a model of a run, or any model.

    Raises ConfigError if it is behind an API, and ModelError if a run has no model left.
    """
    model = load_model(word, ModelConfig())
    if model.endpoint:
        raise ConfigError(f"MODEL={word}: behind an API, so it has no files to publish; name a directory or an id of the hub")
    if is_hub_id(model.path) or model.path.startswith(PACKAGE_SCHEME):
        return Published(model=model)
    folder = Folder.at(model.path)
    if is_run(folder):
        return _last_of(RunFolder(folder))
    run, name = folder.parent.parent, f"{folder.parent.path.rpartition('/')[2]}/{folder.path.rstrip('/').rpartition('/')[2]}"
    match = _MODEL.fullmatch(name)
    if match and is_run(run) and (judge := int(match[1])) in (made := RunFolder(run)).trained():
        return Published(model=model, run=made, judge=judge)
    return Published(model=model)


def better_judges(published: Published) -> str:
    """A line if a judge of the run that is still there has a better held-out accuracy than the published one; else empty."""
    run = published.run
    if run is None:
        return ""
    measured = {judge: seen.pairs for judge in run.with_weights() if (seen := run.measured(judge)) and seen.pairs}
    here = measured.get(published.judge)
    if here is None:
        return ""
    best = max(measured, key=lambda judge: measured[judge].accuracy)
    if measured[best].accuracy <= here.accuracy:
        return ""
    return (
        f"M_{best} was right more often on the held-out pairs, {measured[best].accuracy:.1%} against {here.accuracy:.1%} of "
        f"M_{published.judge}; to publish it, name {(run.folder / f'iteration_{best}/model').uri}"
    )


def _last_of(run: RunFolder) -> Published:
    there, trained = run.with_weights(), run.trained()
    if not trained:
        raise ModelError(f"{run.folder.uri}: no model of this run is trained yet; run its command to the end")
    if not there:
        note = removal_note(run.folder / f"iteration_{trained[-1]}/model")
        raise ModelError(
            f"{run.folder.uri}: the weights of all its models were removed{f', {note}' if note else ''}: delete "
            f"{(run.folder / f'iteration_{trained[-1]}/model').uri}, and the run's command trains it again"
        )
    folder = run.folder / f"iteration_{there[-1]}/model"
    return Published(model=ModelConfig(path=folder.uri), run=run, judge=there[-1])
