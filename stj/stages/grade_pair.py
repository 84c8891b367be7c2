"""Self-taught grading: both answers of a pair are graded by a rubric, and the pair says which of them must score higher.

    rubric      by the category of the instruction, or the one that the generator wrote for it (stages/write_rubric.py)
    sample i    a grade of each answer; stages/sampling.py decides how many samples there are, at most N
    right       if the better answer's score is higher by the margin
    kept        the first right sample in index order: its two grades teach the next judge

Nobody has to know the true scores. A judge that says the same of every answer is never right; one that grades at random is
right less than half of the time, and its samples tell nothing of the texts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from stj.config import GradingConfig, JudgeConfig
from stj.generate import Generate
from stj.rows import Answer, Grade, Row
from stj.rubrics import Rubric
from stj.stages.grade import ask_grade, missing_input
from stj.stages.judge import judge
from stj.stages.runner import together
from stj.stages.sampling import Enough, draw, never_enough

ANSWERS: tuple[Answer, Answer] = ("chosen", "rejected")
"""The answers of a pair, the better one first."""


@dataclass(frozen=True, kw_only=True)
class GradedPair:
    """One sample: a grade of each answer."""

    chosen: Grade
    rejected: Grade

    @property
    def output_tokens(self) -> int:
        """Tokens of both texts."""
        return self.chosen.output_tokens + self.rejected.output_tokens

    @property
    def lead(self) -> int | None:
        """Points by which the better answer is ahead; None if a score is missing."""
        if self.chosen.score is None or self.rejected.score is None:
            return None
        return self.chosen.score - self.rejected.score

    def right(self, margin: int) -> bool:
        """Whether the better answer is ahead by the margin."""
        return self.lead is not None and self.lead >= margin


async def grade_pair(row: Row, generate: Generate, config: JudgeConfig, grading: GradingConfig) -> Row:
    """The row with at most N grades of each answer, the first right sample kept.

    Dropped as "no_right_grades" if none is right, as "empty_response" if an answer shows nothing, or by the reason why it has
    no rubric.
    """
    assert row.pair is not None, f"row {row.id} has no pair"
    rubric = rubric_for(row, grading)
    if rubric is None:
        return row.drop(row.ungraded or "no_rubric")
    for text in (row.pair.chosen, row.pair.rejected):
        if (missing := missing_input(row, text, [rubric])) is not None:
            return row.drop(*missing)

    async def sample(index: int) -> GradedPair:
        asked = (
            ask_grade(row, answer, rubric, generate, grading.words, config.decoding, config.parser, index, "training")
            for answer in ANSWERS
        )
        chosen, rejected = await together(asked)
        return GradedPair(chosen=chosen, rejected=rejected)

    width = config.samples if config.sampling == "all" else 1
    drawn = await draw(sample, config.samples, _enough(config, grading.margin), width, generate.room)
    grades = tuple(grade for pair in drawn.samples for grade in (pair.chosen, pair.rejected))
    row = replace(row, rubrics=(rubric,), grades=grades, aborted=2 * drawn.aborted, surplus_tokens=drawn.surplus_tokens)
    kept = next((index for index, pair in enumerate(drawn.samples) if _keeps(config, grading.margin, pair)), None)
    return row.drop("no_right_grades") if kept is None else replace(row, kept_grades=kept)


async def judge_and_grade(row: Row, generate: Generate, config: JudgeConfig, grading: GradingConfig, seed: int) -> Row:
    """The row judged as a pair and graded answer by answer; dropped only if it teaches neither, for the first reason."""
    judged, graded = await together((judge(row, generate, config, seed), grade_pair(row, generate, config, grading)))
    both = replace(
        judged,
        rubrics=graded.rubrics,
        grades=graded.grades,
        kept_grades=graded.kept_grades,
        ungraded=graded.dropped,
        aborted=judged.aborted + graded.aborted,
        surplus_tokens=judged.surplus_tokens + graded.surplus_tokens,
    )
    return both if graded.kept_grades is None else replace(both, dropped=None, detail=None)


def rubric_for(row: Row, grading: GradingConfig) -> Rubric | None:
    """The rubric of the row's answers; None if its own was dropped."""
    if grading.written:
        return row.rubrics[0] if row.rubrics else None
    return grading.rubric_for(row.category.name if row.category else None)


def graded_pairs(row: Row) -> tuple[GradedPair, ...]:
    """The samples of a row, in index order."""
    by_answer = [sorted((g for g in row.grades if g.answer == answer), key=lambda g: g.index) for answer in ANSWERS]
    return tuple(GradedPair(chosen=chosen, rejected=rejected) for chosen, rejected in zip(*by_answer, strict=True))


def _keeps(config: JudgeConfig, margin: int, pair: GradedPair) -> bool:
    return pair.right(margin) if config.keep == "correct" else pair.lead is not None


def _enough(config: JudgeConfig, margin: int) -> Enough[GradedPair]:
    if config.sampling == "all":
        return never_enough

    def one_kept(pairs: Iterable[GradedPair]) -> bool:
        return any(_keeps(config, margin, pair) for pair in pairs)

    return one_kept
