"""Model selection: every checkpoint of a training judges held-out pairs, and the best one becomes the model.

    iteration_1/candidates/checkpoint_1/model/       its weights, until a better checkpoint is known
    iteration_1/candidates/checkpoint_1/judged/      rows: its judgments of the pairs
    iteration_1/candidates/checkpoint_1/scores.json  its scores, written last
    iteration_1/model/                               the best one; its manifest has the scores of all, and the reason

The same GPUs train and judge, so they take turns. Training runs to its next checkpoint and its ranks end; an engine judges;
then training resumes from the checkpoint. The weights are bit for bit those of an uninterrupted training. The learning rate is
that of the full plan: a checkpoint that is chosen early has not seen the end of the cosine.

Each file is an artifact or is written whole, so a killed run resumes at the same point.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from stj.config import HeldoutConfig
from stj.errors import PassFailed
from stj.loop.heldout import HeldoutScores, score_heldout
from stj.loop.inputs import SELECTED_ON, count_selection_pairs, read_selection_pairs
from stj.loop.kinds import TrainingPhase
from stj.loop.phase import CANDIDATES
from stj.models.locate import model_in
from stj.passes.run import run_pass
from stj.passes.spec import pass_under
from stj.rows import HELDOUT, row_from_dict
from stj.stages.judge import judge_heldout
from stj.storage.artifacts import MANIFEST, STARTED, Artifact, Key
from stj.storage.folder import Folder
from stj.storage.sealed import read_sealed, write_sealed
from stj.text import LiveLine
from stj.train.job import CHECKPOINTS
from stj.train.launch import TrainingSegment
from stj.train_config import SelectionConfig

log = logging.getLogger(__name__)

_SCORES = "scores.json"
_MANIFEST_FIELDS = {"stj", "fingerprint", "key", "files", "rows"}
_REPORTED_SCORES = (
    "pairs",
    "unjudged",
    "accuracy",
    "ci95",
    "accuracy_winner_first",
    "accuracy_winner_second",
    "position_consistent",
)


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

    @property
    def position_bias(self) -> float:
        """Difference of the accuracies with the better answer first and second."""
        return abs(float(self.scores["accuracy_winner_first"]) - float(self.scores["accuracy_winner_second"]))

    def score(self, position_weight: float) -> float:
        """What checkpoints are chosen by: accuracy less the weighted position bias (section 4.1)."""
        return self.accuracy - position_weight * self.position_bias

    def line(self) -> str:
        """This checkpoint for a reader."""
        first, second = self.scores["accuracy_winner_first"], self.scores["accuracy_winner_second"]
        return (
            f"checkpoint {self.number} (step {self.steps} of {self.trained['planned_steps']}): right on {self.accuracy:.1%} of "
            f"{self.scores['pairs']} pairs, {first:.1%} with the better answer first, {second:.1%} with it second"
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointSelection:
    """One training whose checkpoints judge held-out pairs."""

    training: TrainingPhase
    pairs: HeldoutConfig
    """The pairs that checkpoints are chosen by."""
    line: LiveLine | None = None
    """Shows the progress."""

    def run(self) -> None:
        """Trains to the end, or until checkpoints no longer improve, and makes the best one the model of the phase.

        Raises TrainingFailed, ModelError or PassFailed as training and passes do.
        """
        candidates: list[Candidate] = []
        while (end := why_stop(candidates, self._rule)) is None:
            candidates.append(self._candidate(len(candidates) + 1))
            log.info("%s: %s", self.training.name, candidates[-1].line())
            self._delete_worse(candidates)
        self._finish(candidates, end)

    @property
    def _rule(self) -> SelectionConfig:
        return self.training.train.selection

    def _candidate(self, number: int) -> Candidate:
        """A checkpoint, trained and judged; reuses the parts that an earlier start finished."""
        training, folder = self.training, self._folder(number)
        key: Key = {"step": "candidate", "of": training.artifact.fingerprint, "number": number}
        model = Artifact(folder / "model", key)
        if scored := _read_scores(folder, model):
            return scored
        model.begin(overwrite=True)
        until = number * training.train.checkpoint_every_steps
        training.fine_tune(model, TrainingSegment(whole=training.artifact, until=until), self.line)
        trained = {name: value for name, value in model.manifest().items() if name not in _MANIFEST_FIELDS}
        candidate = Candidate(number=number, trained=trained, scores=asdict(self._scores(model, folder, number)))
        write_sealed(folder, _SCORES, {"fingerprint": model.fingerprint, **asdict(candidate)})
        return candidate

    def _scores(self, model: Artifact, folder: Folder, number: int) -> HeldoutScores:
        """How well a checkpoint judges the pairs, in a pass through its weights."""
        config, settings = self.training.config, self.training.artifact.key["selection"]
        weights = {"weights": f"model {model.fingerprint}", **settings["engine"]}
        key: Key = {"step": "pass", "model": weights, "heldout": settings["pairs"], "prompts": settings["prompts"]}
        judged = Artifact(folder / "judged", key)
        if judged.begin(overwrite=True):
            spec = pass_under(
                config,
                name=f"{self.training.name}, checkpoint {number}",
                model=model_in(model.folder, self.training.model),
                read=partial(read_selection_pairs, config),
                total=count_selection_pairs(config),
                stages={HELDOUT: [partial(judge_heldout, config=self.pairs, parser=config.judge.parser)]},
            )
            run_pass(spec, judged, config.engine, live_line=self.line)
        scores = score_heldout(map(row_from_dict, judged.records()))
        if scores is None:
            raise PassFailed(f"{SELECTED_ON}={self.pairs.path}: none of its pairs could be judged; see `stj show`")
        return scores

    def _delete_worse(self, candidates: Sequence[Candidate]) -> None:
        """Deletes the weights of all but the best; their judgments and scores stay."""
        for candidate in candidates:
            if candidate is not best_of(candidates, self._rule.position_weight):
                (self._folder(candidate.number) / "model").remove()

    def _finish(self, candidates: Sequence[Candidate], end: str) -> None:
        """Moves the best one's weights to the folder of the model, and writes its manifest last."""
        weight = self._rule.position_weight
        best = best_of(candidates, weight)
        source, target = self._folder(best.number) / "model", self.training.artifact.folder
        # The config comes last, as it does when weights are exported. After a kill, less is left to move, or nothing.
        for name in sorted(source.names(), key=lambda name: name == "config.json"):
            if name not in (MANIFEST, STARTED):
                source.move(name, target)
        for candidate in (target.parent / CANDIDATES).folders():  # Those of other settings too.
            (target.parent / f"{CANDIDATES}/{candidate}/model").remove()
        (target.parent / CHECKPOINTS).remove()
        trained = {
            **best.trained,
            "model": {**best.trained["model"], "path": target.uri},
            "seconds": round(sum(candidate.trained["seconds"] for candidate in candidates), 1),
            "reference_forwards": sum(candidate.trained["reference_forwards"] for candidate in candidates),
        }
        why = f"{best.line()}: the best of {len(candidates)}; {end}"
        scores = [{**_reported(candidate), "score": candidate.score(weight)} for candidate in candidates]
        selection = {"checkpoint": best.number, "why": why, "rule": _rule_words(weight), "checkpoints": scores}
        self.training.artifact.finish(**trained, selection=selection)

    def _folder(self, number: int) -> Folder:
        return self.training.artifact.folder.parent / f"{CANDIDATES}/checkpoint_{number}"


def best_of(candidates: Sequence[Candidate], position_weight: float) -> Candidate:
    """The candidate with the highest score; the earliest of equals."""
    return max(candidates, key=lambda candidate: (candidate.score(position_weight), -candidate.number))


def why_stop(candidates: Sequence[Candidate], rule: SelectionConfig) -> str | None:
    """Why training needs no further checkpoint; None if it does."""
    if not candidates:
        return None
    last = candidates[-1]
    if last.steps >= last.trained["planned_steps"]:
        return "training has ended"
    since = last.number - best_of(candidates, rule.position_weight).number
    return f"training stopped early, with no better one in the next {since}" if since >= rule.patience else None


def _rule_words(weight: float) -> str:
    return f"accuracy less {weight:g} times the difference between the orders" if weight else "accuracy"


def _read_scores(folder: Folder, model: Artifact) -> Candidate | None:
    """The scores that an earlier start wrote for this candidate, if any."""
    if not folder.exists(_SCORES):
        return None
    record = read_sealed(folder, _SCORES, f"delete {folder.uri} and run again", fields=("fingerprint", "number", "scores"))
    return Candidate(**record) if record.pop("fingerprint") == model.fingerprint else None


def _reported(candidate: Candidate) -> dict[str, Any]:
    """A candidate in the model's manifest."""
    steps = {"checkpoint": candidate.number, "steps": candidate.steps, "loss": candidate.trained["loss_last"]}
    return {**steps, **{name: candidate.scores[name] for name in (*_REPORTED_SCORES, "unparsed")}}
