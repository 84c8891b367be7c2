"""A run as its directory holds it: its judges, what measured them and what they learned, by the keys on disk.

Nothing else is read: neither the run's sources nor the model that it began from need to be there, and the directory may have
been copied from another machine.

Everything hangs together by fingerprints. A model's key names the examples that it learned, the key of these the pass that
judged them. A pass that measures a judge names the fingerprint of its weights. So what is left of other settings is never
taken for this judge's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stj.errors import NoArtifact
from stj.evals.benchmarks.evaluation import SCORES, read_scores
from stj.evals.compare import ExampleResult
from stj.evals.judged_runs import shown_digest
from stj.loop.heldout import HeldoutScores, HeldoutTally
from stj.loop.heldout_grades import HeldoutGrades, HeldoutGradesTally
from stj.loop.status import RUN_CONFIG
from stj.models.removed import files_to_remove, removal_note
from stj.rows import HELDOUT, HELDOUT_GRADES, Row, row_from_dict
from stj.storage.artifacts import MANIFEST, Artifact, read_artifact
from stj.storage.folder import Folder
from stj.storage.sealed import read_sealed


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the held-out rows say of a judge."""

    pairs: HeldoutScores | None
    """None without held-out pairs."""
    grades: HeldoutGrades | None
    """None without held-out responses."""
    results: Mapping[str, ExampleResult]
    """The result on each held-out pair, by the row's id."""
    shown: Mapping[str, bytes]
    """A digest of the instruction and the answers of each held-out pair, by the row's id."""


class RunFolder:
    """The directory of a run.

    Raises NoArtifact if it holds no run, and ArtifactError if the record of its config is damaged.
    """

    def __init__(self, folder: Folder) -> None:
        if not is_run(folder):
            raise NoArtifact(f"{folder.uri}: no run here (no {RUN_CONFIG} that stj writes); give a run's directory")
        self.folder = folder
        remedy = f"run the run's command again, which writes {RUN_CONFIG}"
        self.config: Mapping[str, Any] = read_sealed(folder, RUN_CONFIG, remedy, fields=("config",))["config"]
        """The settings that it was last started with, as JSON values."""

    @property
    def iterations(self) -> int:
        """T, the number of judges that it trains."""
        return int(self.config.get("iterations", 0))

    def finished(self, name: str) -> Artifact | None:
        """The finished artifact of this name, under whatever key it has."""
        folder = self.folder / name
        return read_artifact(folder) if folder.exists(MANIFEST) else None

    def training(self, judge: int) -> Artifact | None:
        """The finished training of M_k, with or without its weights; None for M_0."""
        return self.finished(f"iteration_{judge}/model") if judge else None

    def trained(self) -> list[int]:
        """The judges whose training is finished."""
        return [judge for judge in range(1, self.iterations + 1) if self.training(judge)]

    def with_weights(self) -> list[int]:
        """The trained judges whose weights are there."""
        return [judge for judge in self.trained() if self.has_weights(f"iteration_{judge}/model")]

    def has_weights(self, name: str) -> bool:
        """Whether a model of the run has not been removed."""
        folder = self.folder / name
        return bool(files_to_remove(folder)) and removal_note(folder) is None

    def identity(self, judge: int) -> str | None:
        """The identity of M_k's weights, as the keys of passes name it; None if it is not known."""
        if judge:
            training = self.training(judge)
            return f"model {training.fingerprint}" if training else None
        first = self.finished("iteration_1/warm_up/model") or self.training(1)
        return str(first.key["seed_model"]) if first else None

    def base(self, judge: int) -> str | None:
        """The path or id of the whole model that training began from, as the run's machine knew it; None if not known."""
        first = self.finished(f"iteration_{judge}/warm_up/model") or self.training(judge)
        return first.manifest().get("model", {}).get("seed") if first else None

    def learned(self, judge: int) -> Artifact | None:
        """The examples that M_k was trained on."""
        training = self.training(judge)
        places = (f"iteration_{judge}/examples", f"iteration_{judge}/warm_up/examples")
        return self._of_fingerprint(training.key.get("examples"), *places) if training else None

    def judged_for(self, judge: int) -> Artifact | None:
        """The pass whose judgments M_k learned from; None if all its examples were labelled, or if it is gone."""
        learned, here = self.learned(judge), f"iteration_{judge}"
        if learned is None:
            return None
        return self._of_fingerprint(learned.key.get("judged"), f"{here}/judged", "pairs", f"{here}/warm_up/judged")

    def measured_in(self, judge: int) -> Artifact | None:
        """The pass in which M_k judged the held-out rows."""
        places = [f"iteration_{judge + 1}/judged", f"heldout_{judge}"] + ([] if judge else ["pairs"])
        identity = self.identity(judge)
        if judge and identity is None:  # Nobody knows whose figures these are. Before a training, those of M_0 are the seed's.
            return None
        for artifact in filter(None, map(self.finished, places)):
            if "heldout" in artifact.key and identity in (None, artifact.key["model"]["weights"]):
                return artifact
        return None

    def measured(self, judge: int) -> Measured | None:
        """How good M_k is on the held-out rows, which are read for it; None if nothing measured it."""
        artifact = self.measured_in(judge)
        if artifact is None:
            return None
        pairs, grades = HeldoutTally(), HeldoutGradesTally()
        shown: dict[str, bytes] = {}
        for row in rows_of(artifact):
            if row.task == HELDOUT:
                pairs.add(row)
                shown[row.id] = shown_digest(row)
            elif row.task == HELDOUT_GRADES:
                grades.add(row)
        return Measured(pairs=pairs.scores(), grades=grades.scores(), results=pairs.results, shown=shown)

    def benchmarks(self, judge: int) -> dict[str, Artifact]:
        """The finished benchmarks of M_k, by name."""
        named = {name: self.finished(f"benchmarks_{judge}/{name}") for name in (self.folder / f"benchmarks_{judge}").folders()}
        identity = self.identity(judge)
        return {name: made for name, made in named.items() if made and made.key["model"]["weights"] == identity}

    def benchmark_scores(self, judge: int) -> dict[str, dict[str, Any]]:
        """What scores.json says of each benchmark of M_k, by name."""
        there = {name: made.folder for name, made in self.benchmarks(judge).items() if made.folder.exists(SCORES)}
        return {name: scores for name, folder in there.items() if (scores := read_scores(folder)["scores"].get(name))}

    def passes(self) -> Iterator[tuple[int, Artifact]]:
        """The finished passes that judged training pairs, with the iteration that they judged for; `pairs` may be that of 1."""
        pairs = self.finished("pairs")
        if pairs and "judge" in pairs.key:
            yield 1, pairs
        for number in range(1, self.iterations + 1):
            judged = self.finished(f"iteration_{number}/judged")
            if judged and "judge" in judged.key and pairs and judged.key.get("pairs") == pairs.fingerprint:
                yield number, judged

    def _of_fingerprint(self, fingerprint: str | None, *places: str) -> Artifact | None:
        found = filter(None, map(self.finished, places))
        return next((artifact for artifact in found if artifact.fingerprint == fingerprint), None)


def is_run(folder: Folder) -> bool:
    """Whether a directory is a run's: a model's config.json is another file."""
    return folder.exists(RUN_CONFIG) and _is_record(folder.read_start(RUN_CONFIG, _RECORD_START))


def rows_of(artifact: Artifact) -> Iterator[Row]:
    """The rows of a pass."""
    return map(row_from_dict, artifact.records())


_RECORD_START = 64  # bytes: a record of a run begins with its format and "config"


def _is_record(start: bytes) -> bool:
    return b'"format"' in start and b'"config"' in start
