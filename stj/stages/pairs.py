"""Response pair construction: a good answer, and an answer that is worse by construction (section 3.3, Figures 2 and 10).

The order in which a judge sees the two answers is decided later, in stages/judge.py.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from stj.attacks.use import hard_case
from stj.config import PairsConfig
from stj.generate import Generate
from stj.prompts import MODIFIED_INSTRUCTION, WORSE_ANSWER, fill
from stj.rows import Pair, Row, Turn
from stj.stages.judge import label_of_winner

_APOSTROPHE = "[’']"
_BEFORE, _AFTER = (
    r"[ \t*\[#_]*",
    r"[ \t*\]#_:]*",
)  # brackets and markdown that models write around a marker, at the start of a line
_MODIFIED = re.compile(
    rf"^{_BEFORE}User Question Modified{_AFTER}(?P<instruction>.*?)"
    rf"^{_BEFORE}The start of Assistant{_APOSTROPHE}s answer to the modified instruction{_AFTER}(?P<answer>.*?)"
    rf"^{_BEFORE}The end of Assistant{_APOSTROPHE}s answer to the modified instruction",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)
_WORSE = re.compile(
    rf"^{_BEFORE}The start of a rewritten worse answer{_AFTER}(?P<answer>.*?)"
    rf"^{_BEFORE}The end of a rewritten worse answer",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)

PAIR_PROMPTS = {"modified_instruction": MODIFIED_INSTRUCTION, "worse_answer": WORSE_ANSWER}
"""The prompt of each method of `pairs.method`."""


async def make_pair(row: Row, generate: Generate, config: PairsConfig) -> Row:
    """The row with its pair, or dropped with what the model wrote.

    Reasons: "answer_refused" (by the model behind an API, or by its filter), "answer_truncated" (max_tokens cut the good
    answer, or the thought before it), "answer_empty", "rejected_truncated" and "rejected_unparsed" (the worse answer is cut, or
    not in the prompt's format), "pair_identical" (the two answers are equal, so neither is better). Neither answer holds the
    thought before it: it would show which answer is the better one.
    """
    answer = await generate(row.turns, config.answer)
    chosen = answer.text.strip()
    if answer.refused:
        return row.drop("answer_refused", answer.text)
    if not chosen or answer.finish_reason == "length":
        return row.drop("answer_truncated" if answer.finish_reason == "length" else "answer_empty", answer.evidence)
    prompt = fill(PAIR_PROMPTS[config.method], {"Instruction": row.instruction, "Baseline Response": chosen})
    written = await generate([Turn(role="user", content=prompt)], config.rejected)
    pair = _PARSERS[config.method](written.text, chosen)
    if pair is None:
        cut = written.finish_reason == "length"
        return row.drop("rejected_truncated" if cut else "rejected_unparsed", written.evidence)
    if pair.rejected == chosen:
        return row.drop("pair_identical", written.text)
    return replace(row, pair=pair)


async def attack_pair(row: Row, generate: Generate, share: float, seed: int) -> Row:
    """The row, for a share of the rows with its worse answer attacked: a hard case. Not in the paper."""
    assert row.pair is not None, f"row {row.id} has no pair"
    return replace(row, pair=hard_case(row.pair, share, label_of_winner(seed, row.id), seed, row.id))


def parse_modified(text: str, chosen: str) -> Pair | None:
    """The pair of Figure 2: the answer to the modified instruction is rejected. None if the text has another format."""
    match = _MODIFIED.search(text)
    if not match:
        return None
    instruction, rejected = match["instruction"].strip(), match["answer"].strip()
    if not (instruction and rejected):
        return None
    return Pair(method="modified_instruction", chosen=chosen, rejected=rejected, modified_instruction=instruction)


def parse_worse(text: str, chosen: str) -> Pair | None:
    """The pair of Figure 10: the rewritten answer is rejected. None if the text has another format."""
    match = _WORSE.search(text)
    rejected = match["answer"].strip() if match else ""
    return Pair(method="worse_answer", chosen=chosen, rejected=rejected) if rejected else None


_PARSERS: dict[str, Callable[[str, str], Pair | None]] = {"modified_instruction": parse_modified, "worse_answer": parse_worse}
