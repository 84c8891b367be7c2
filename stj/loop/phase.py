"""A phase: one step of a run. stj/loop/kinds.py and stj/loop/benchmarks.py have the kinds."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from stj.config import Config, ModelConfig
from stj.storage.artifacts import Artifact
from stj.text import LiveLine

CANDIDATES = "candidates"
"""Directory beside a model, with the checkpoints among which it was chosen and their judgments."""


@dataclass(frozen=True, kw_only=True)
class Phase(ABC):
    """One step of a run, done when its artifact is."""

    config: Config
    name: str
    """Its directory under run_root."""
    iteration: int
    artifact: Artifact

    @property
    def engine_model(self) -> ModelConfig | None:
        """The model whose engines the phase starts, if it starts any."""
        return None

    @abstractmethod
    def run(self, line: LiveLine | None = None) -> None:
        """Makes the artifact, which is already claimed; an earlier start may have left a part of it.

        `line` shows the progress.
        """

    def require_usable(self) -> None:
        """Raises StjError if later phases cannot build on the finished artifact."""
        return

    @property
    def in_order(self) -> bool:
        """Whether nothing is left to clean up."""
        return True

    def clean_up(self) -> None:
        """Puts in order what a kill may have left beside the finished artifact."""
        return

    @abstractmethod
    def summary(self) -> str:
        """One line about the finished artifact."""
