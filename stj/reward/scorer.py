"""A judge as a scorer of inspect_ai: by comparison with the sample's target, or by a rubric. Needs the extra `inspect`.

Example::

    with Judge("runs/mini/iteration_3/model") as judge:
        eval(Task(dataset=samples, scorer=preferred(judge)), model="openai/gpt-5")

Scorers run on inspect_ai's event loop, and the judge on its own: many samples are judged at once.
"""

from pathlib import Path

from inspect_ai.model import ChatMessage
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState

from stj.errors import SourceError
from stj.judging.judge import Instruction, Judge
from stj.rubrics import Rubric

_TIE = 0.5


@scorer(metrics=[mean(), stderr()])  # type: ignore[untyped-decorator]
def preferred(judge: Judge) -> Scorer:
    """Whether the judge prefers the answer to the sample's target, in both orders: 1, 0, or 0.5 if it prefers neither.

    So the mean is the win rate over the targets. The explanation holds the judgments. A pair that cannot be judged, or on
    which a calibrated judge abstains, is unscored and gives the reason; inspect_ai leaves it out of the metrics.

    A sample without a target fails with SourceError.
    """

    async def score(state: TaskState, target: Target) -> Score:
        if not target.text:
            raise SourceError(
                f"sample {state.sample_id}: has no target to compare with; give one, or score by a rubric: graded"
            )
        answer = state.output.completion
        result = await judge.acompare(_instruction(state), answer, target.text)
        texts = "\n\n".join(vote.text for vote in result.votes)
        if result.error is not None:
            return Score.unscored(reason="not judged", answer=answer, explanation=result.error)
        if result.abstained:
            return Score.unscored(reason="abstained", answer=answer, explanation=texts)
        value = {"A": 1.0, "B": 0.0}.get(result.verdict or "", _TIE)
        facts = {"verdict": result.verdict, "confidence": result.confidence, "reward": result.reward}
        return Score(value=value, answer=answer, explanation=texts, metadata=facts)

    return score


@scorer(metrics=[mean(), stderr()])  # type: ignore[untyped-decorator]
def graded(judge: Judge, rubric: Rubric | str | Path) -> Scorer:
    """The judge's grade of the answer by a rubric, on the rubric's own scale; the sample's target is its reference, if any.

    `rubric` is as in `Judge.grade`. An answer that cannot be graded is unscored and gives the reason.
    """

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion
        grade = await judge.agrade(_instruction(state), answer, rubric, reference=target.text or None)
        if grade.score is None:
            return Score.unscored(reason="not graded", answer=answer, explanation=grade.error or grade.feedback)
        facts = {"rubric": grade.rubric, "confidence": grade.confidence}
        return Score(value=float(grade.score), answer=answer, explanation=grade.feedback, metadata=facts)

    return score


def _instruction(state: TaskState) -> Instruction:
    """The sample's input: one user message, or the turns of a dialogue. What a solver adds is not shown to the judge."""
    given = state.input
    return given if isinstance(given, str) else [_turn(message) for message in given]


def _turn(message: ChatMessage) -> dict[str, str]:
    return {"role": message.role, "content": message.text}
