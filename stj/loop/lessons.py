"""What the judgments of one pair teach: a right one and, to learn preferences, a wrong one beside it."""

from dataclasses import dataclass

from stj.config import Config, Objective
from stj.loop.boundary import Boundary, EarlierDraws
from stj.loop.counts import JudgingCounts
from stj.loop.inputs import training_pairs
from stj.loop.label_balance import to_learn
from stj.rows import Judgment, Row, row_from_dict
from stj.storage.artifacts import Artifact
from stj.thoughts import split_thought


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a pair teaches."""

    row: Row
    right: Judgment
    wrong: Judgment | None


class Lessons:
    """What pairs teach under a config; `earlier` is the pass that judged them in the iteration before."""

    def __init__(self, config: Config, objective: Objective, earlier: Artifact | None) -> None:
        self._compares = config.judge.compares
        self._objective = objective
        self._boundary = _boundary(config, earlier)

    def of(self, row: Row, counts: JudgingCounts | None = None) -> Lesson | None:
        """What the judgments of a pair teach; what teaches nothing is counted in `counts`."""
        if not self._compares:
            return None
        judgments = to_learn(row, self._objective)
        reason = None if judgments else "no_wrong_judgment"
        if judgments and self._boundary:
            reason = self._boundary.rejects(row)
        if row.kept is not None and holds_thought(row):
            reason = "thought_in_answer"
        if judgments and not reason:
            return Lesson(row=row, right=judgments[0], wrong=judgments[1])
        if counts and row.kept is not None and reason:
            counts.drop(reason)
        return None

    def difficulty(self, row: Row) -> float | None:
        """The place of a pair in the curriculum; None if there is none."""
        return self._boundary.difficulty(row) if self._boundary else None


def holds_thought(row: Row) -> bool:
    """Whether a thinking model's thought is left in an answer: a judge would learn from what no reader sees."""
    answers = (row.pair.chosen, row.pair.rejected) if row.pair else ()
    return any(split_thought(answer).thought for answer in answers)


def _boundary(config: Config, earlier: Artifact | None) -> Boundary | None:
    """Which pairs are near the boundary; None if all are learned."""
    wanted = config.select.disagreement
    if wanted is None:
        return None
    judged = earlier if wanted.draws == "last" else None
    drawn = EarlierDraws(training_pairs(map(row_from_dict, judged.records()))) if judged else None
    return Boundary(wanted, config.seed, drawn)
