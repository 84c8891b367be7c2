"""Training examples: what a pair becomes that the judge was right about (section 3.4).

kind       prompt                            what is learned                   what it is learned against
judgment   Figure 8                          a right judgment                  a wrong judgment of the same comparison
verdict    Figure 8, asked for no reasons    its verdict                       the other one
deduction  the instruction and a judgment    the two responses that it         the same two, exchanged
           that was right                    was about

The first is the paper's, and the only one unless `examples` in the config asks for others. All three, 70:15:15, are the tasks
of Direct Judgement Preference Optimization (Wang et al., arXiv 2409.14664: critique, standard judgement, response deduction);
the prompts of the second and third are our own words. What DJPO learns a deduction against, a weaker model has written.
Exchanged responses need no model, and are as long as the right ones: only what the judgment says of A and B tells them apart.

Every kind is learned against something only where the judge has been wrong about the pair as well (`to_learn`): what it always
has right has little to teach a preference. A pair's label (which answer is better) is that of its example, so a kind has as
many examples with A as with B.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from stj.config import ExamplesConfig
from stj.prompts import DEDUCTION_ANSWER, DEDUCTION_SYSTEM, DEDUCTION_USER, JUDGE_USER, VERDICT_ONLY_SYSTEM, fill, prompt
from stj.prompts.variants import FIGURE_8, Variant
from stj.randomness import uniform
from stj.rows import Example, Judgment, Kind, Pair, Row, Turn
from stj.stages.judge import judge_messages
from stj.verdict import Label, other

PROMPTS = (VERDICT_ONLY_SYSTEM, DEDUCTION_SYSTEM, DEDUCTION_USER, DEDUCTION_ANSWER)
"""The prompts that the kinds besides judgments are written with."""
_VERDICT_ONLY = Variant(name="verdict_only", system=VERDICT_ONLY_SYSTEM, user=JUDGE_USER, wording=FIGURE_8.wording)


class TaskMix:
    """Which example becomes what: by the seed and its id alone, 8 bytes of memory an example.

    The shares hold exactly, but for rounding to whole examples, among those of each label that have a wrong judgment and among
    those that have none: so they hold for a warm-up, which learns from all, and for the pairs that are learned after it.
    """

    def __init__(self, config: ExamplesConfig, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._ends: dict[tuple[Label, bool], tuple[float, float]] = {}

    @property
    def judgments_alone(self) -> bool:
        """Whether nothing has to be shared out."""
        return self._config == ExamplesConfig()

    def share_out(self, examples: Iterable[tuple[str, Label, bool]]) -> None:
        """Draws for all examples: their ids, labels, and whether they have a wrong judgment."""
        draws: dict[tuple[Label, bool], array[float]] = {}
        for row_id, winner, with_wrong in examples:
            draws.setdefault((winner, with_wrong), array("d")).append(uniform(self._seed, row_id, "kind"))
        for group, found in draws.items():
            ordered = np.sort(np.array(found))
            verdicts = round(len(ordered) * self._config.verdicts)
            both = round(len(ordered) * (self._config.verdicts + self._config.deductions))
            self._ends[group] = _end(ordered, verdicts), _end(ordered, both)

    def of(self, row_id: str, winner: Label, with_wrong: bool) -> Kind:
        """The kind of an example."""
        if self.judgments_alone:
            return "judgment"
        verdicts, both = self._ends[winner, with_wrong]
        draw = uniform(self._seed, row_id, "kind")
        return "verdict" if draw <= verdicts else "deduction" if draw <= both else "judgment"


def _end(ordered: NDArray[np.float64], count: int) -> float:
    """The highest of the lowest draws."""
    return float(ordered[count - 1]) if count else -1.0


def to_example(row: Row, right: Judgment, wrong: Judgment | None = None, kind: Kind = "judgment") -> Example:
    """The training example of a pair: what to write there, and what is wrong there if the judge was wrong about it too.

    `right` and `wrong` are judgments with a verdict, in the same order of the responses.
    """
    assert row.pair is not None, f"row {row.id} has no pair"
    messages, completion, rejected = _BUILD[kind](row.instruction, row.pair, right, wrong)
    return Example(
        id=row.id,
        winner=right.winner,
        kind=kind,
        messages=tuple(messages),
        completion=completion,
        rejected=None if wrong is None else rejected,
    )


_Parts = tuple[list[Turn], str, str | None]


def _judgment(instruction: str, pair: Pair, right: Judgment, wrong: Judgment | None) -> _Parts:
    return judge_messages(instruction, pair, right.winner), right.text, wrong.text if wrong else None


def _verdict(instruction: str, pair: Pair, right: Judgment, wrong: Judgment | None) -> _Parts:
    said: Label = "A" if right.verdict == "A" else "B"  # the winner, but for the control that keeps any judgment
    return judge_messages(instruction, pair, right.winner, _VERDICT_ONLY), f"[[{said}]]", f"[[{other(said)}]]"


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
