"""Pairs that the judges of a run agree to be mislabelled (`curate.label_noise`)."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stj.config import Config
from stj.evals.label_noise import FEWEST_JUDGES, estimate_noise, planted_auroc
from stj.loop.opinions import PassOpinions, draws_of_judges
from stj.loop.pair_draws import PairDraws, digest_of_id
from stj.rows import Row
from stj.storage.artifacts import Artifact

MORE_LIKELY_WRONG = 0.5
"""Probability from which a pair counts as flagged if flags are only reported."""
_SHOWN = 20  # Flagged pairs that the report names, the most probable ones first.


@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """What the judges say about the labels of the training pairs."""

    judges: int
    pairs: int
    """Pairs with a verdict of the current judge."""
    wrong: float
    """Share of wrong labels, as estimated."""
    accuracy: tuple[float, ...]
    """Of each judge, as estimated: other weights, then earlier judges, then other prompts of the current one, which is last."""
    planted_auroc: float | None
    """The probability that a label that was turned around on purpose has a higher probability of being wrong than another.
    None with too few pairs to plant them."""
    flagged: int
    """Pairs whose label is wrong with at least `threshold`."""
    threshold: float
    most: tuple[tuple[str, float], ...]
    """Ids and probabilities of those that are most probably wrong."""


class LabelFlags:
    """The probability that the label of each training pair is wrong, by all judges that have judged it; 16 bytes for each.

    `draws` has the verdicts of each judge, those of the current one last; `judged` is its pass.
    """

    def __init__(
        self,
        judged: Artifact,
        draws: Sequence[PairDraws],
        threshold: float,
        seed: int,
    ) -> None:
        self.threshold = threshold
        current = draws[-1]
        agreeing = np.stack([each.shares(current.digests) for each in draws], axis=1)
        estimate = estimate_noise(agreeing)
        self._digests, self._wrong = current.digests, estimate.wrong
        at = threshold if threshold < 1 else MORE_LIKELY_WRONG
        self.noise = LabelNoise(
            judges=len(draws),
            pairs=len(self._wrong),
            wrong=float(self._wrong.mean()) if len(self._wrong) else 0.0,
            accuracy=estimate.accuracy,
            planted_auroc=planted_auroc(agreeing, seed),
            flagged=int((self._wrong >= at).sum()),
            threshold=at,
            most=tuple(self._most(judged, at)),
        )

    def wrong(self, row_id: str) -> float | None:
        """The probability that a pair's label is wrong; None if the current judge has no verdict on it."""
        digest = np.uint64(digest_of_id(row_id))
        place = int(np.searchsorted(self._digests, digest))
        found = place < len(self._digests) and self._digests[place] == digest
        return float(self._wrong[place]) if found else None

    def rejects(self, row: Row) -> bool:
        """Whether a pair is left out."""
        return self.threshold < 1 and (self.wrong(row.id) or 0.0) >= self.threshold

    def _most(self, judged: Artifact, least: float) -> list[tuple[str, float]]:
        ids = (record["id"] for record in judged.records(["id"]))
        flagged = ((row_id, wrong) for row_id in ids if (wrong := self.wrong(row_id)) is not None and wrong >= least)
        return heapq.nsmallest(_SHOWN, flagged, key=lambda item: (-item[1], item[0]))


def label_flags(
    judged: Artifact | None, earlier: Sequence[Artifact], config: Config, opinions: Sequence[PassOpinions] = ()
) -> LabelFlags | None:
    """The flags; None if `curate.label_noise` does not ask for them, or too few judges have a verdict on any pair.

    `opinions` are the passes that hold opinions of the panel.
    """
    threshold = config.curate.label_noise
    if threshold is None or judged is None:
        return None
    draws = judges_draws(judged, earlier, config, opinions)
    return LabelFlags(judged, draws, threshold, config.seed) if len(draws) >= FEWEST_JUDGES else None


def judges_draws(
    judged: Artifact, earlier: Sequence[Artifact], config: Config, opinions: Sequence[PassOpinions] = ()
) -> list[PairDraws]:
    """The verdicts of each judge whose errors are its own, without those who have none at all; the current judge is last."""
    passes = _each_once(judged, earlier, opinions)
    *others, current = draws_of_judges(judged, passes, opinions, config.judge)
    return [*(draws for draws in others if len(draws.digests)), current]


def noise_words(noise: LabelNoise) -> str:
    """How many labels are wrong, who says so, and how well they find wrong ones."""
    accuracy = ", ".join(f"{share:.1%}" for share in noise.accuracy)
    if noise.planted_auroc is None:
        found = "; too few pairs to check that with planted wrong labels"
    else:
        found = f"; planted wrong labels are found with AUROC {noise.planted_auroc:.3f}"
    return (
        f"{noise.wrong:.1%} of {noise.pairs:,} labels wrong, as {noise.judges} judges see it (their accuracy: {accuracy}); "
        f"{noise.flagged:,} with a probability of at least {noise.threshold:g}{found}"
    )


def _each_once(judged: Artifact, earlier: Sequence[Artifact], opinions: Sequence[PassOpinions]) -> list[Artifact]:
    """The passes that judged the pairs, that of the current judge last; those of judges may hold opinions too."""
    given = (*(each.artifact for each in opinions), *earlier)
    by_place = {artifact.folder.uri: artifact for artifact in given if artifact.folder.uri != judged.folder.uri}
    return [*by_place.values(), judged]
