"""Further opinions on a training pair: what the members of a panel that share the weights of a pass say about it.

They stand before the judge in the chain, because a pair that the judge never gets right ends there, and needs them most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from stj.config import JudgeConfig
from stj.errors import PromptTooLong
from stj.generate import Generate, Sampling
from stj.panel import PanelMember
from stj.prompts.given import variant_of
from stj.rows import Judgment, Opinion, Row
from stj.stages.judge import judge_messages, label_of_winner, sample_judgment
from stj.stages.runner import together
from stj.verdict import parse


async def give_opinions(row: Row, generate: Generate, members: Sequence[PanelMember], config: JudgeConfig, seed: int) -> Row:
    """The row with the opinions of these members, all in the A/B order that the judge sees.

    A member whose prompt leaves no room for an answer has none: the pair stays, for the judge and the other members.
    """
    opinions = await together(_opinion(row, generate, member, index, config, seed) for member, index in _asked(members))
    return replace(row, opinions=tuple(opinion for opinion in opinions if opinion is not None))


def decoding_of(member: PanelMember, config: JudgeConfig) -> Sampling:
    """How a member samples: as the judge, at its own temperature."""
    if member.temperature is None:
        return config.decoding
    return config.decoding.greedy() if member.temperature == 0 else replace(config.decoding, temperature=member.temperature)


def _asked(members: Sequence[PanelMember]) -> Iterator[tuple[PanelMember, int]]:
    for member in members:
        yield from ((member, index) for index in range(member.samples))


async def _opinion(
    row: Row, generate: Generate, member: PanelMember, index: int, config: JudgeConfig, seed: int
) -> Opinion | None:
    assert row.pair is not None, f"row {row.id} has no pair"
    winner = row.pair.better_as or label_of_winner(seed, row.id)
    variant = variant_of(member.prompt)
    try:
        judgment: Judgment = await sample_judgment(
            generate,
            judge_messages(row.instruction, row.pair, winner, variant, row.reference),
            decoding_of(member, config),
            purpose="sampled",
            winner=winner,
            index=index,
            read=partial(parse, wording=variant.wording, parser=config.parser),
        )
    except PromptTooLong:
        return None
    return Opinion(member=member.name, judgment=judgment)
