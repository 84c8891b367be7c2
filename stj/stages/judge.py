"""Judgment annotation: the A/B order of a pair, the prompt that a judge sees, and the judgment that is kept (section 3.4).

    A/B order    `label_of_winner`: a coin from seed and row id (randomness.py); held-out pairs are judged in both orders
    prompt       `judge_messages`: Figure 8 (prompts/judge_system.txt and judge_user.txt), or another of prompts/variants.py
    N            stages/sampling.py decides how many judgments are sampled
    verdict      verdict.py reads it from the text, with the parser that `judge.parser` names
    kept         `judge`: the first right judgment in index order

The label under which the better answer is shown is the `winner` of a judgment.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from stj.config import HeldoutConfig, JudgeConfig
from stj.generate import Generate, Sampling
from stj.prompts import BEST_OF_FOUR_SYSTEM, BEST_OF_FOUR_USER, JUDGE_SYSTEM, JUDGE_USER, RATE, fill, prompt
from stj.prompts.variants import FIGURE_8, Variant, Words
from stj.randomness import uniform
from stj.rows import Judgment, Pair, Purpose, Row, Turn
from stj.stages.runner import together
from stj.stages.sampling import Enough, draw, never_enough, one_correct, one_correct_and_one_wrong, one_parsed
from stj.stages.stopping import Stopping, ask_in_rounds
from stj.thoughts import shown_response
from stj.verdict import BEST_OF_FOUR, PAIR, PARSERS, RATING, Format, Label, Parser, Verdict, parse

LABELS: tuple[Label, Label] = ("A", "B")
FOUR_LABELS: tuple[Label, Label, Label, Label] = ("A", "B", "C", "D")
JUDGE_PROMPTS = (JUDGE_SYSTEM, JUDGE_USER)
"""The prompt files of a training judgment."""
NO_CORRECT_JUDGMENT = "no_correct_judgment"
"""Why a pair is dropped of which no sample is right."""
_ENOUGH: dict[tuple[str, str], Enough[Judgment]] = {
    ("correct", "first_correct"): one_correct,
    ("correct", "first_pair"): one_correct_and_one_wrong,
    ("correct", "all"): never_enough,
    ("random", "first_correct"): one_parsed,
}
MORE_ANSWERS_PROMPTS = (BEST_OF_FOUR_SYSTEM, BEST_OF_FOUR_USER, RATE)
"""The prompt files of benchmarks with more than two answers."""
JudgmentRequest = tuple[Purpose, Sampling, int]
"""A judgment to sample in every order: its purpose, its sampling, and its index."""


async def judge(row: Row, generate: Generate, config: JudgeConfig, seed: int) -> Row:
    """The row with at most N judgments, the first right one kept; dropped as "no_correct_judgment" if none is right.

    The paper keeps a random right judgment of N (section 3.4). Samples are independent, so the first right one in index order
    has exactly the same distribution, and the same share of rows is kept. With a share p of right judgments, the expected
    number of samples is (1 - (1-p)^N) / p.
    """
    assert row.pair is not None, f"row {row.id} has no pair"
    winner = row.pair.better_as or label_of_winner(seed, row.id)
    messages = judge_messages(row.instruction, row.pair, winner)
    read = partial(parse, wording=PAIR, parser=config.parser)

    def sample(index: int) -> Awaitable[Judgment]:
        return sample_judgment(generate, messages, config.decoding, purpose="training", winner=winner, index=index, read=read)

    width = config.samples if config.sampling == "all" else 1
    drawn = await draw(sample, config.samples, _ENOUGH[config.keep, config.sampling], width, generate.room)
    surplus = row.surplus_tokens + drawn.surplus_tokens  # An answer to a question may have some too.
    row = replace(row, judgments=drawn.samples, aborted=drawn.aborted, surplus_tokens=surplus)
    kept = next((j.index for j in drawn.samples if j.correct or (config.keep == "random" and j.verdict is not None)), None)
    return row.drop(NO_CORRECT_JUDGMENT) if kept is None else replace(row, kept=kept)


async def judge_heldout(row: Row, generate: Generate, config: HeldoutConfig, parser: Parser = "distinct") -> Row:
    """The row judged in both orders: sampled as the paper samples HelpSteer2 (Table 8), and greedily."""
    requests: list[JudgmentRequest] = [("sampled", config.decoding, index) for index in range(config.samples)]
    if config.greedy:
        requests.append(("greedy", config.decoding.greedy(), 0))
    return await judge_in_every_order(row, generate, requests, parser)


async def judge_in_every_order(
    row: Row, generate: Generate, requests: Sequence[JudgmentRequest], parser: Parser, variant: Variant = FIGURE_8
) -> Row:
    """The row judged with its better answer under each label in turn: a pair in two orders, four answers in four."""
    orders, wording = _orders(row, variant)
    read = partial(parse, wording=wording, parser=parser)
    judgments = await together(
        sample_judgment(generate, messages, sampling, purpose=purpose, winner=winner, index=index, read=read)
        for purpose, sampling, index in requests
        for winner, messages in orders.items()
    )
    return replace(row, judgments=tuple(judgments))


async def vote_in_every_order(
    row: Row, generate: Generate, sampling: Sampling, votes: int, stopping: Stopping, parser: Parser, variant: Variant
) -> Row:
    """The row with at most `votes` sampled judgments in each order, whose majority is the verdict of the order.

    The votes of an order stop once they are settled for every parser, because an evaluation is scored by each of them.
    """
    orders, wording = _orders(row, variant)
    read = partial(parse, wording=wording, parser=parser)

    def ask(winner: Label, index: int) -> list[Awaitable[Judgment]]:
        return [sample_judgment(generate, orders[winner], sampling, purpose="sampled", winner=winner, index=index, read=read)]

    def readings(judgment: Judgment) -> list[Verdict | None]:
        return [judgment.read(wording, parser) for parser in PARSERS]

    asked = await together(ask_in_rounds(partial(ask, winner), votes, 1, stopping, readings) for winner in orders)
    judgments = sorted((judgment for order in asked for judgment in order), key=lambda judgment: judgment.index)
    return replace(row, judgments=tuple(judgments))


def _orders(row: Row, variant: Variant) -> tuple[dict[Label, list[Turn]], Format]:
    """The prompt of each order, by the label of the better answer, and the format of the verdict.

    A pair whose texts name labels has only its own order.
    """
    if row.candidates is not None:
        return best_of_four_messages(row.instruction, row.candidates.answers), BEST_OF_FOUR
    assert row.pair is not None, f"row {row.id} has nothing to judge"
    shown = partial(judge_messages, row.instruction, row.pair, variant=variant, reference=row.reference)
    labels = LABELS if row.pair.better_as is None else (row.pair.better_as,)
    return {winner: shown(winner=winner) for winner in labels}, variant.wording


async def rate(row: Row, generate: Generate, sampling: Sampling, parser: Parser) -> Row:
    """The row with each of its answers rated alone, greedily, from 1 to 10 (RewardBench 2's ratings)."""
    assert row.candidates is not None, f"row {row.id} has no candidates"
    greedy = sampling.greedy()
    read = partial(parse, wording=RATING, parser=parser)
    judgments = await together(
        sample_judgment(generate, _rate_messages(row, answer), greedy, purpose="rating", winner="A", index=index, read=read)
        for index, answer in enumerate(row.candidates.answers)
    )
    return replace(row, judgments=tuple(judgments))


def judge_messages(
    instruction: str, pair: Pair, winner: Label, variant: Variant = FIGURE_8, reference: str | None = None
) -> list[Turn]:
    """The prompt that a judge sees for a pair: Figure 8 or another variant, with the better answer under the label `winner`.

    Neither response shows the thought that a thinking model wrote before it.
    """
    first, second = (pair.chosen, pair.rejected) if winner == "A" else (pair.rejected, pair.chosen)
    return messages_of(variant.ask(instruction, shown_response(first), shown_response(second), reference))


def messages_of(words: Words) -> list[Turn]:
    """The messages of a prompt; one without a system message if it has none."""
    system = [Turn(role="system", content=words.system)] if words.system else []
    return [*system, Turn(role="user", content=words.user)]


def best_of_four_messages(instruction: str, answers: Sequence[str]) -> dict[Label, list[Turn]]:
    """Figure 8 for four answers, in four orders, by the label of the first (best) answer; the others rotate behind it."""
    orders: dict[Label, list[Turn]] = {}
    for place, label in enumerate(FOUR_LABELS):
        rotated = [answers[(index - place) % len(FOUR_LABELS)] for index in range(len(FOUR_LABELS))]
        values = {f"response {name}": shown_response(answer) for name, answer in zip(FOUR_LABELS, rotated, strict=True)}
        user = fill(BEST_OF_FOUR_USER, {"instruction": instruction, **values})
        orders[label] = [Turn(role="system", content=prompt(BEST_OF_FOUR_SYSTEM)), Turn(role="user", content=user)]
    return orders


def _rate_messages(row: Row, answer: str) -> list[Turn]:
    return [Turn(role="user", content=fill(RATE, {"instruction": row.instruction, "response": shown_response(answer)}))]


def label_of_winner(seed: int, row_id: str) -> Label:
    """The A/B order of a training pair: its better answer is shown as A for half of the rows, else as B (section 3.3)."""
    return "A" if uniform(seed, row_id, "order") < 0.5 else "B"


async def sample_judgment(
    generate: Generate,
    messages: list[Turn],
    sampling: Sampling,
    *,
    purpose: Purpose,
    winner: Label,
    index: int,
    read: Callable[[str], Verdict | None],
) -> Judgment:
    """One judgment of a prompt that shows the better answer as `winner`; `read` finds its verdict, unless it was cut."""
    completion = await generate(messages, sampling)
    return Judgment(
        purpose=purpose,
        winner=winner,
        index=index,
        text=completion.text,
        verdict=read(completion.text) if completion.finish_reason == "stop" else None,
        finish_reason=completion.finish_reason,
        output_tokens=completion.output_tokens,
        thought=completion.thought,
    )
