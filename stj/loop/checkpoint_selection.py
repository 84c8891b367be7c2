"""Model selection: every checkpoint of a training judges held-out pairs, and the best one becomes the model.

    iteration_1/candidates/checkpoint_1/model/       its weights, until a better checkpoint is known
    iteration_1/candidates/checkpoint_1/judged/      rows: its judgments of the pairs
    iteration_1/candidates/checkpoint_1/scores.json  what came of it, written last
    iteration_1/model/                               the best one; its manifest has the scores of all, and says why

The same GPUs train and judge, so they take turns: training goes to its next checkpoint and its ranks end, an engine judges,
and training goes on from the checkpoint. The weights are bit by bit those of a training that nobody interrupted, and the
learning rate is that of the full plan: a checkpoint that is chosen early has not seen the end of the cosine.

Each of these is an artifact or is written whole, so a run that was killed goes on where it was.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from stj.errors import ArtifactError, PassFailed
from stj.loop.heldout import HeldoutScores, score_heldout
from stj.loop.phases import Phase, Run, model_in
from stj.passes.run import run_pass
from stj.passes.spec import pass_under
from stj.rows import HELDOUT, row_from_dict
from stj.stages.judge import judge_heldout
from stj.storage.artifacts import MANIFEST, STARTED, Artifact, Key
from stj.storage.folder import Folder
from stj.train.job import CHECKPOINTS
from stj.train.launch import TrainingSegment, train

log = logging.getLogger(__name__)

_SCORES = "scores.json"
_OWN = {"format", "stj", "fingerprint", "key", "files", "rows"}
_SHOWN = ("pairs", "unjudged", "accuracy", "ci95", "accuracy_winner_first", "accuracy_winner_second", "position_consistent")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A checkpoint and how well it judges."""

    number: int
    """From 1, in the order of training."""
    trained: dict[str, Any]
    """The facts of the training up to it."""
    scores: dict[str, Any]
    """A HeldoutScores as JSON values."""

    @property
    def steps(self) -> int:
        """Steps that made it."""
        return int(self.trained["steps"])

    @property
    def accuracy(self) -> float:
        """Mean of both orders."""
        return float(self.scores["accuracy"])

    def line(self) -> str:
        """This checkpoint for a reader."""
        first, second = self.scores["accuracy_winner_first"], self.scores["accuracy_winner_second"]
        return (
            f"checkpoint {self.number} (step {self.steps} of {self.trained['planned_steps']}): right on {self.accuracy:.1%} of "
            f"{self.scores['pairs']} pairs, {first:.1%} with the better answer first, {second:.1%} with it second"
        )


def train_and_select(run: Run, phase: Phase, examples: Artifact) -> None:
    """Trains until no checkpoint is better any more, or to the end, and makes the best one the model of the phase.

    Raises TrainingFailed, ModelError or PassFailed as training and passes do.
    """
    assert phase.train is not None
    found: list[Candidate] = []
    while (end := why_stop(found, phase.train.selection.patience)) is None:
        found.append(_candidate(run, phase, examples, number=len(found) + 1))
        log.info("%s: %s", phase.name, found[-1].line())
        _delete_worse(phase, found)
    _finish(phase, found, end)


def best_of(found: Sequence[Candidate]) -> Candidate:
    """The candidate with the highest accuracy; of equals the earliest."""
    return max(found, key=lambda candidate: (candidate.accuracy, -candidate.number))


def why_stop(found: Sequence[Candidate], patience: int) -> str | None:
    """Why no further checkpoint is wanted; None where one is."""
    if not found:
        return None
    last = found[-1]
    if last.steps >= last.trained["planned_steps"]:
        return "training has ended"
    since = last.number - best_of(found).number
    return f"training stopped early, with no better one in the next {since}" if since >= patience else None


def _candidate(run: Run, phase: Phase, examples: Artifact, number: int) -> Candidate:
    """A checkpoint, trained and judged; what of it is done already is reused."""
    assert phase.train is not None
    folder = _folder(phase, number)
    key: Key = {"step": "candidate", "of": phase.artifact.fingerprint, "number": number}
    model = Artifact(folder / "model", key)
    if scored := _read_scores(folder, model):
        return scored
    model.begin(overwrite=True)
    segment = TrainingSegment(whole=phase.artifact, until=number * phase.train.checkpoint_every_steps)
    train(phase.train, phase.model, examples, model, run.config.ray, segment)
    trained = {name: value for name, value in model.manifest().items() if name not in _OWN}
    candidate = Candidate(number=number, trained=trained, scores=asdict(_judged(run, phase, model, folder)))
    folder.write_json(_SCORES, {"fingerprint": model.fingerprint, **asdict(candidate)})
    return candidate


def _judged(run: Run, phase: Phase, model: Artifact, folder: Folder) -> HeldoutScores:
    """How well a checkpoint judges the pairs, in a pass through its weights."""
    assert phase.selected_on is not None
    asked = phase.artifact.key["selection"]
    weights = {"weights": f"model {model.fingerprint}", **asked["engine"]}
    key: Key = {"step": "pass", "model": weights, "heldout": asked["pairs"], "prompts": asked["prompts"]}
    judged = Artifact(folder / "judged", key)
    if judged.begin(overwrite=True):
        stages = {HELDOUT: [partial(judge_heldout, config=phase.selected_on)]}
        spec = pass_under(
            run.config,
            name=f"{phase.name}, checkpoint {folder.uri.rpartition('_')[2]}",
            model=model_in(model, phase.model),
            read=run.read_selection_pairs,
            total=run.selection_pairs(),
            stages=stages,
        )
        run_pass(spec, judged, run.config.engine)
    scores = score_heldout(map(row_from_dict, judged.records()))
    if scores is None:
        raise PassFailed(f"train.selection.path={phase.selected_on.path}: none of its pairs could be judged; see `stj show`")
    return scores


def _read_scores(folder: Folder, model: Artifact) -> Candidate | None:
    """What an earlier start found of this candidate, if it came so far."""
    if not folder.exists(_SCORES):
        return None
    try:
        record = json.loads(folder.read(_SCORES))
        return Candidate(**record) if record.pop("fingerprint") == model.fingerprint else None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError(f"{(folder / _SCORES).uri}: damaged; delete {folder.uri} and run again") from None


def _delete_worse(phase: Phase, found: Sequence[Candidate]) -> None:
    """Deletes the weights of all but the best; their judgments and scores stay."""
    for candidate in found:
        if candidate is not best_of(found):
            (_folder(phase, candidate.number) / "model").remove()


def _finish(phase: Phase, found: Sequence[Candidate], end: str) -> None:
    """Moves the best one's weights to where the model belongs, and writes its manifest last."""
    best = best_of(found)
    source, target = _folder(phase, best.number) / "model", phase.artifact.folder
    # The config comes last, as it does when weights are exported. After a kill there is less to move, and in the end nothing.
    for name in sorted(source.names(), key=lambda name: name == "config.json"):
        if name not in (MANIFEST, STARTED):
            source.move(name, target)
    for candidate in (target.parent / "candidates").folders():  # those of other settings too
        (target.parent / f"candidates/{candidate}/model").remove()
    (target.parent / CHECKPOINTS).remove()
    trained = {
        **best.trained,
        "model": {**best.trained["model"], "path": target.uri},
        "seconds": round(sum(candidate.trained["seconds"] for candidate in found), 1),
        "reference_forwards": sum(candidate.trained["reference_forwards"] for candidate in found),
    }
    why = f"{best.line()}: the best of {len(found)}; {end}"
    scores = [_as_told(candidate) for candidate in found]
    phase.artifact.finish(**trained, selection={"checkpoint": best.number, "why": why, "checkpoints": scores})


def _as_told(candidate: Candidate) -> dict[str, Any]:
    """A candidate in the model's manifest."""
    told = {"checkpoint": candidate.number, "steps": candidate.steps, "loss": candidate.trained["loss_last"]}
    return {**told, **{name: candidate.scores[name] for name in (*_SHOWN, "unparsed")}}


def _folder(phase: Phase, number: int) -> Folder:
    return phase.artifact.folder.parent / f"candidates/checkpoint_{number}"
