"""The stages of the seed model's training, with their documents and learning rates.

The numbers of documents were chosen on the dev split; benchmarks/LOG.md lists what was tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CurriculumStage:
    """One stage of the curriculum."""

    name: str
    mix: Mapping[str, int]
    """Number of documents of each kind."""
    lr: float
    """Peak learning rate, after 30 steps of warm-up; a cosine to a tenth follows."""
    step_tokens: int
    """Tokens of one optimizer step, without padding."""
    enough_recall: float | None = None
    """Mean probability of the right fact in judgments of dev pairs at which the stage ends; only `judge` has it."""

    def corpus_seed(self, seed: int) -> str:
        """The seed of this stage's documents; no two stages draw the same documents."""
        return f"{self.name} {seed}"


CURRICULUM = (
    CurriculumStage(
        name="facts",
        mix={"statement": 12_000, "question": 26_000, "dialogue": 5_000, "ask": 6_000, "chatter": 2_000, "sort": 2_500},
        lr=3e-3,
        step_tokens=2048,
    ),
    CurriculumStage(
        name="copy",
        mix={"quote": 3_000, "topic": 6_000, "question": 2_000, "ask": 600, "sort": 300},
        lr=2e-3,
        step_tokens=2048,
    ),
    CurriculumStage(
        name="compare",
        mix={"equality": 9_000, "check": 3_000, "quote": 400, "topic": 600, "question": 2_000, "ask": 400, "sort": 300},
        lr=3e-3,
        step_tokens=2048,
    ),
    CurriculumStage(
        name="formats",
        mix={
            "modify": 1_200,
            "categorize": 800,
            "worsen": 200,
            "dialogue": 1_000,
            "equality": 3_500,
            "check": 1_500,
            "quote": 300,
            "topic": 900,
            "statement": 500,
            "question": 4_000,
            "chatter": 600,
        },
        lr=2e-3,
        step_tokens=2048,
    ),
    CurriculumStage(
        name="judge",
        mix={
            "judge": 600,
            "question": 1_500,
            "statement": 400,
            "modify": 150,
            "categorize": 100,
            "worsen": 20,
            "check": 100,
            "topic": 150,
            "chatter": 100,
        },
        lr=5e-4,
        step_tokens=2048,
        enough_recall=0.5,
    ),
)
