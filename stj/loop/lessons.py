"""What the judgments of one pair teach: a right one and, to learn preferences, a wrong one beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from stj.config import Config
from stj.loop.boundary import Boundary
from stj.loop.counts import JudgingCounts
from stj.loop.inputs import training_pairs
from stj.loop.label_balance import to_learn
from stj.loop.label_flags import LabelNoise, label_flags
from stj.loop.opinions import PassOpinions, panel_draws
from stj.loop.pair_draws import PairDraws
from stj.rows import Judgment, Row, row_from_dict
from stj.storage.artifacts import Artifact
from stj.thoughts import split_thought
from stj.train_config import Objective


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a pair teaches."""

    row: Row
    right: Judgment
    wrong: Judgment | None


class Lessons:
    """What pairs teach under a config: those of the pass `judged`; `earlier` are the passes of the iterations before.

    `opinions` are the passes that hold opinions of the panel.
    """

    def __init__(
        self,
        config: Config,
        objective: Objective,
        judged: Artifact | None = None,
        earlier: Sequence[Artifact] = (),
        opinions: Sequence[PassOpinions] = (),
    ) -> None:
        self._compares = config.judge.compares
        self._objective = objective
        self._boundary = _boundary(config, judged, earlier, opinions)
        self._flags = label_flags(judged, earlier, config, opinions)

    @property
    def noise(self) -> LabelNoise | None:
        """What the judges say about the labels; None if nobody asked, or there is one judge."""
        return self._flags.noise if self._flags else None

    def of(self, row: Row, counts: JudgingCounts | None = None) -> Lesson | None:
        """What the judgments of a pair teach; what teaches nothing is counted in `counts`."""
        if not self._compares:
            return None
        reason = unusable(row, self._objective)
        judgments = None if reason else to_learn(row, self._objective)
        if judgments and self._boundary:
            reason = self._boundary.rejects(row)
        if judgments and self._flags and self._flags.rejects(row):
            reason = "label_noise"
        if judgments and not reason:
            return Lesson(row=row, right=judgments[0], wrong=judgments[1])
        if counts and reason:
            counts.drop(reason)
        return None

    def difficulty(self, row: Row) -> float | None:
        """The place of a pair in the curriculum; None if there is none."""
        return self._boundary.difficulty(row) if self._boundary else None


def unusable(row: Row, objective: Objective) -> str | None:
    """Why a pair with a kept or rescued judgment teaches nothing, or None.

    It is "thought_in_answer" or "no_wrong_judgment".
    """
    if row.kept is None and row.rescued is None:
        return None
    if holds_thought(row):
        return "thought_in_answer"
    return "no_wrong_judgment" if to_learn(row, objective) is None else None


def holds_thought(row: Row) -> bool:
    """Whether a thinking model's thought is left in an answer: a judge would learn from what no reader sees."""
    answers = (row.pair.chosen, row.pair.rejected) if row.pair else ()
    return any(split_thought(answer).thought for answer in answers)


def _boundary(
    config: Config, judged: Artifact | None, earlier: Sequence[Artifact], opinions: Sequence[PassOpinions]
) -> Boundary | None:
    """Which pairs are near the boundary; None if all are learned."""
    wanted = config.select.disagreement
    if wanted is None:
        return None
    if wanted.draws == "panel" and judged:
        return Boundary(wanted, config.seed, panel_draws(judged, opinions, config.judge))
    last = earlier[-1] if earlier and wanted.draws == "last" else None
    return Boundary(wanted, config.seed, PairDraws(training_pairs(map(row_from_dict, last.records()))) if last else None)
