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

from collections.abc import Callable, Iterable, Mapping, Set

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


def assign_kinds(
    examples: Iterable[tuple[str, Label]], with_wrong: Set[str], config: ExamplesConfig, seed: int
) -> Mapping[str, Kind]:
    """The kind of each example that is no judgment, by id, from the ids and labels of all.

    The shares hold exactly, but for rounding to whole examples, among those of each label that have a wrong judgment and among
    those that have none: so they hold for a warm-up, which learns from all, and for the pairs that are learned after it.
    Which example becomes what is a function of the seed and the ids alone.
    """
    if config == ExamplesConfig():
        return {}
    groups: dict[tuple[Label, bool], list[str]] = {}
    for row_id, winner in examples:
        groups.setdefault((winner, row_id in with_wrong), []).append(row_id)
    kinds: dict[str, Kind] = {}
    for ids in groups.values():
        ids.sort(key=lambda row_id: (uniform(seed, row_id, "kind"), row_id))
        verdicts = round(len(ids) * config.verdicts)
        deductions = round(len(ids) * (config.verdicts + config.deductions)) - verdicts
        kinds |= dict.fromkeys(ids[:verdicts], "verdict")
        kinds |= dict.fromkeys(ids[verdicts : verdicts + deductions], "deduction")
    return kinds


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
