"""One iteration of a run: its phases in the order in which they run, and the weights that they load."""

from dataclasses import dataclass

from stj.config import ModelConfig
from stj.loop.benchmarks import BenchmarkPhase
from stj.loop.curation import CurationPhase
from stj.loop.kinds import ExamplesPhase, PassPhase, TrainingPhase
from stj.loop.phase import Phase
from stj.models.locate import model_identity, model_in


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model to load, and the identity of its weights."""

    model: ModelConfig
    identity: str

    @classmethod
    def of(cls, model: ModelConfig) -> "Weights":
        """Weights that exist already. Raises ModelError if they cannot be found."""
        return cls(model=model, identity=model_identity(model))

    @classmethod
    def trained(cls, training: TrainingPhase) -> "Weights":
        """Weights that a training makes, loaded like those that it begins from."""
        artifact = training.artifact
        return cls(model=model_in(artifact.folder, training.model), identity=f"model {artifact.fingerprint}")


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """The phases of one iteration, in the order in which they run."""

    number: int
    curation: CurationPhase | None
    """Clusters, near-duplicates by meaning and the sample of instructions; only in iteration 1, if the config asks for it."""
    answers: tuple[PassPhase, ...]
    """Policies answer questions: a pass for the weights of each; only in iteration 1, if `preferences` names any."""
    annotation: tuple[PassPhase, ...]
    """Sections 3.2 to 3.4. In iteration 1: the passes that make the pairs, judge them and measure M_0. Later: one pass of
    M_{i-1}, which judges the pairs and the held-out pairs."""
    benchmarks: tuple[BenchmarkPhase, ...]
    """The benchmarks of M_{i-1}. One of its passes above judges them, if it runs."""
    examples: ExamplesPhase
    """Section 3.4: one right judgment a pair, as many labels A as B."""
    warm_up: TrainingPhase | None
    """From the seed to where M_i begins, if the objective is sft_then_dpo."""
    again: tuple[Phase, ...]
    """The warmed-up model's judgments of the pairs and the preferences among them, if train.preference.source asks for it."""
    model: TrainingPhase
    """Section 3.5: M_i."""
    measured: tuple[PassPhase | BenchmarkPhase, ...]
    """The held-out pairs and the benchmarks judged by M_i, if no iteration follows that would measure it."""

    @property
    def phases(self) -> list[Phase]:
        """All of them."""
        warmed_up = [] if self.warm_up is None else [self.warm_up, *self.again]
        curation = [] if self.curation is None else [self.curation]
        return [
            *curation,
            *self.answers,
            *self.annotation,
            *self.benchmarks,
            self.examples,
            *warmed_up,
            self.model,
            *self.measured,
        ]
