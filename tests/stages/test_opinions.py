"""Opinions on a pair: what a member is asked, and what its failure costs the others."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from stj.config import JudgeConfig
from stj.engine.scripted import ScriptedEngine
from stj.errors import PromptTooLong
from stj.generate import Sampling
from stj.panel import PanelMember
from stj.rows import Pair, Turn
from stj.stages.judge import judge
from stj.stages.opinions import give_opinions
from stj.stages.runner import run_stages
from tests.conftest import make_row

PAIR = Pair(method="given", chosen="Two and two make four.", rejected="Two and two make five.")


def test_a_member_whose_prompt_does_not_fit_costs_neither_the_pair_nor_other_opinions() -> None:
    def answer(messages: Sequence[Turn], sampling: Sampling) -> str:
        if "[RESULT]" in messages[-1].content:
            raise PromptTooLong("2,100 tokens of prompt, and the context has 2,048")
        right = "A" if messages[-1].content.index(PAIR.chosen) < messages[-1].content.index(PAIR.rejected) else "B"
        return f"It adds correctly. [[{right}]]"

    members = [PanelMember(name="long", prompt="prometheus", samples=2), PanelMember(name="hot", temperature=1.2, samples=2)]
    config = JudgeConfig(panel=members)
    stages = [partial(give_opinions, members=members, config=config, seed=0), partial(judge, config=config, seed=0)]
    row = replace(make_row(0), pair=PAIR)
    done = asyncio.run(run_stages(row, stages, ScriptedEngine(answer).generate))
    assert (done.dropped, done.error, done.kept) == (None, None, 0)
    assert [(opinion.member, opinion.judgment.index, opinion.judgment.correct) for opinion in done.opinions] == [
        ("hot", 0, True),
        ("hot", 1, True),
    ]
