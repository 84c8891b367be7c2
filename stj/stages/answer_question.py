"""A pair of sampled answers to a question whose answer is known: a right one is better than a wrong one (GSM8K in Table 4).

The generator answers, or a policy that the source of the question names.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from stj.final_answer import is_right
from stj.generate import Generate, Sampling
from stj.rows import Pair, Row
from stj.stages.sampling import draw
from stj.thoughts import shown_response

METHOD = "sampled_answers"
"""`method` of such a pair."""
_WIDTH = 2  # A right and a wrong answer are needed.


@dataclass(frozen=True, kw_only=True)
class _Answer:
    text: str
    right: bool | None
    """None if that is not clear (stj/final_answer.py), or if it was cut."""
    output_tokens: int


async def pair_of_answers(row: Row, generate: Generate, sampling: Sampling, samples: int) -> Row:
    """The row with the first right and the first wrong answer in index order, of at most `samples`.

    Dropped as "no_right_answer" or "no_wrong_answer". An answer is neither if it is not clear what it ends with, or if
    max_tokens cut it.
    """
    assert row.origin is not None, f"row {row.id} has no origin"
    assert row.origin.answer is not None, f"row {row.id} has no known answer"
    known = row.origin.answer

    async def sample(index: int) -> _Answer:
        completion = await generate(row.turns, sampling)
        text = completion.text.strip()
        right = is_right(shown_response(text), known) if completion.finish_reason == "stop" else None
        return _Answer(text=text, right=right, output_tokens=completion.output_tokens)

    drawn = await draw(sample, samples, _right_and_wrong, _WIDTH, generate.room)
    row = replace(row, surplus_tokens=drawn.surplus_tokens)
    right, wrong = (next((a.text for a in drawn.samples if a.right is truth), None) for truth in (True, False))
    if right is None or wrong is None:
        evidence = drawn.samples[0].text
        return row.drop("no_right_answer" if right is None else "no_wrong_answer", evidence)
    return replace(row, pair=Pair(method=METHOD, chosen=right, rejected=wrong))


def _right_and_wrong(answers: Iterable[_Answer]) -> bool:
    return {True, False} <= {answer.right for answer in answers}
