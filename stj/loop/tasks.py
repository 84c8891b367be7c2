"""The training tasks: what a pair that the judge was right about becomes (section 3.4).

kind       prompt                            what is learned                   what it is learned against
judgment   Figure 8                          a right judgment                  a wrong judgment of the same comparison
verdict    Figure 8, asked for no reasons    its verdict                       the other one
deduction  the instruction and a judgment    the two responses that it         the same two, exchanged
           that was right                    was about

The first is the paper's, and the only one unless `examples` in the config asks for others. All three, 70:15:15, are the tasks
of Direct Judgement Preference Optimization (Wang et al., arXiv 2409.14664: critique, standard judgement, response deduction).
The prompts of the second and third are our own words. DJPO learns a deduction against what a weaker model has written. Here it
is learned against the exchanged responses. They need no model and have the same length, so only the judgment's words about A
and B decide.

An example has a wrong side only if the judge was also wrong about the pair (`to_learn`). A pair that it always gets right
teaches little about preference. A judgment keeps the thought of a thinking judge, unless `examples.thoughts` is `drop`; the
other kinds have none. An example has the label of its pair (which answer is better), so each kind has as many
examples with A as with B.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stj.config import ExamplesConfig
from stj.errors import PassFailed
from stj.prompts import DEDUCTION_ANSWER, DEDUCTION_SYSTEM, DEDUCTION_USER, JUDGE_USER, VERDICT_ONLY_SYSTEM, fill, prompt
from stj.prompts.grading import GradePrompt
from stj.prompts.variants import FIGURE_8, of_files
from stj.randomness import uniform
from stj.rows import Example, Grade, Judgment, Kind, Pair, Row, Turn
from stj.stages.grade import digest_of, grade_messages
from stj.stages.judge import judge_messages
from stj.thoughts import comparable_thoughts
from stj.verdict import Label, other

PROMPTS = (VERDICT_ONLY_SYSTEM, DEDUCTION_SYSTEM, DEDUCTION_USER, DEDUCTION_ANSWER)
"""The prompts of the kinds other than judgments."""
_VERDICT_ONLY = of_files("verdict_only", FIGURE_8.wording, (VERDICT_ONLY_SYSTEM, JUDGE_USER))


class TaskMix:
    """Which example becomes which kind, only by the seed and its id; an example takes 8 bytes of memory.

    For each label, the shares hold among the examples with a wrong judgment and among those without, up to rounding to whole
    examples. So they hold for a warm-up, which learns from all, and for the preferences that are learned after it.
    """

    def __init__(self, config: ExamplesConfig, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._ends: dict[tuple[Label, bool], tuple[float, float]] = {}

    def share_out(self, examples: Iterable[tuple[str, Label, bool]]) -> None:
        """Draws for all examples, given as id, label and whether there is a wrong judgment."""
        draws: dict[tuple[Label, bool], array[float]] = {}
        for row_id, winner, with_wrong in examples:
            draws.setdefault((winner, with_wrong), array("d")).append(uniform(self._seed, row_id, "kind"))
        for group, numbers in draws.items():
            ordered = np.sort(np.array(numbers))
            verdicts = round(len(ordered) * self._config.verdicts)
            both = round(len(ordered) * (self._config.verdicts + self._config.deductions))
            self._ends[group] = _end(ordered, verdicts), _end(ordered, both)

    def of(self, row_id: str, winner: Label, with_wrong: bool) -> Kind:
        """The kind of an example."""
        if self._config.judgments_alone:
            return "judgment"
        verdicts, both = self._ends[winner, with_wrong]
        draw = uniform(self._seed, row_id, "kind")
        return "verdict" if draw <= verdicts else "deduction" if draw <= both else "judgment"


def _end(ordered: NDArray[np.float64], count: int) -> float:
    """The highest among the `count` lowest draws; -1 if there are none."""
    return float(ordered[count - 1]) if count else -1.0


def to_example(
    row: Row,
    right: Judgment,
    wrong: Judgment | None = None,
    kind: Kind = "judgment",
    thoughts: Literal["keep", "drop"] = "keep",
) -> Example:
    """The training example of a pair: the completion to learn and, if the judge was also wrong, one to learn it against.

    `right` and `wrong` are judgments with a verdict, in the same order of the responses. If only one of them has a thought, it
    is left out: the judge must not learn to prefer a thought as such.
    """
    assert row.pair is not None, f"row {row.id} has no pair"
    messages, completion, rejected = _BUILD[kind](row.instruction, row.pair, right, wrong)
    with_thoughts = (
        thoughts == "keep" and kind == "judgment" and (wrong is None or comparable_thoughts(right.thought, wrong.thought))
    )
    return Example(
        id=row.id,
        winner=right.winner,
        kind=kind,
        messages=tuple(messages),
        completion=completion,
        rejected=None if wrong is None else rejected,
        thought=right.thought if with_thoughts else "",
        rejected_thought=wrong.thought if with_thoughts and wrong else "",
    )


def grade_example(row: Row, grade: Grade, words: GradePrompt, thoughts: Literal["keep", "drop"] = "keep") -> Example:
    """The training example of a grade: the prompt with the answer and the rubric that it was given for, and its text.

    Raises PassFailed if the row now asks for something else: a grade is never used for another answer, rubric or reference.
    """
    rubric = next((rubric for rubric in row.rubrics if rubric.name == grade.rubric), None)
    messages = () if rubric is None else tuple(grade_messages(row, grade.answer, rubric, words))
    if digest_of(messages) != grade.asked:
        raise PassFailed(
            f"{row.id}: its grade of the {grade.answer} answer by {grade.rubric} was given for another text, rubric or prompt; "
            "delete the judged rows, and run the same command again"
        )
    return Example(
        id=f"{row.id}/grade-{grade.answer}",
        kind="grade",
        score=grade.score,
        messages=messages,
        completion=grade.text,
        thought=grade.thought if thoughts == "keep" else "",
    )


_Parts = tuple[list[Turn], str, str | None]


def _judgment(instruction: str, pair: Pair, right: Judgment, wrong: Judgment | None) -> _Parts:
    return judge_messages(instruction, pair, right.winner), right.text, wrong.text if wrong else None


def _verdict(instruction: str, pair: Pair, right: Judgment, wrong: Judgment | None) -> _Parts:
    verdict: Label = "A" if right.verdict == "A" else "B"  # the winner, except in the control that keeps any judgment
    return judge_messages(instruction, pair, right.winner, _VERDICT_ONLY), f"[[{verdict}]]", f"[[{other(verdict)}]]"


def _deduction(instruction: str, pair: Pair, right: Judgment, wrong: Judgment | None) -> _Parts:
    user = fill(DEDUCTION_USER, {"instruction": instruction, "judgment": right.text})
    messages = [Turn(role="system", content=prompt(DEDUCTION_SYSTEM)), Turn(role="user", content=user)]
    return messages, _responses(pair, right.winner), _responses(pair, other(right.winner))


def _responses(pair: Pair, winner: Label) -> str:
    first, second = (pair.chosen, pair.rejected) if winner == "A" else (pair.rejected, pair.chosen)
    return fill(DEDUCTION_ANSWER, {"response A": first, "response B": second})


_BUILD: Mapping[Kind, Callable[[str, Pair, Judgment, Judgment | None], _Parts]] = {
    "judgment": _judgment,
    "verdict": _verdict,
    "deduction": _deduction,
}
