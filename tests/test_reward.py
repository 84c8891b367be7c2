"""The judge as TRL's reward function: by hand, and in steps of TRL's trainers of GRPO and online DPO."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import PromptTooLong, SourceError
from stj.generate import Sampling
from stj.judging.judge import Judge
from stj.reward import async_pairwise_reward, pairwise_reward
from stj.rows import Turn
from tests.judging.test_judge import always_first, scripted

SEED = Path(__file__).parents[1] / "stj/mini/seed_model"


def likes_long(messages: Sequence[Turn], sampling: Sampling) -> str:
    """Prefers the longer response, and neither of two equally long ones."""
    if "endless" in messages[-1].content:
        raise PromptTooLong("prompt of 9 tokens")
    shown = messages[-1].content.split("Answer]\n")
    first, second = len(shown[1].split("\n")[0]), len(shown[3].split("\n")[0])
    return "[[C]]" if first == second else "[[A]]" if first > second else "[[B]]"


def test_each_completion_is_compared_with_the_others_of_its_prompt() -> None:
    prompts = ["p", "p", "q", "p", "r"]
    completions = ["xx", "x", "xxxx", "xxx", "x"]
    with scripted(likes_long) as judge:
        assert pairwise_reward(judge)(prompts=prompts, completions=completions) == [0.0, -1.0, None, 1.0, None]


def test_a_mean_needs_every_vote() -> None:
    """The first 34 votes of 64 would end the poll, and the others are for the other response."""
    asked = 0

    def changes_its_mind(messages: Sequence[Turn], sampling: Sampling) -> str:
        nonlocal asked
        asked += 1
        first = messages[-1].content.index("xx") < messages[-1].content.index("yy")
        return "[[A]]" if first == (asked <= 48) else "[[B]]"

    with scripted(changes_its_mind, votes=32, stop="unlikely") as judge:
        assert pairwise_reward(judge)(["p"] * 2, ["xx", "yy"]) == [0.5, -0.5]
        assert asked == 64
        asked = 0
        assert judge.reward("p", "xx", "yy") == 0.5
        asked = 0
        assert judge.compare("p", "xx", "yy").reward == 1


def test_conversations_are_read_and_other_columns_left_alone() -> None:
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    completions = [[{"role": "assistant", "content": text}] for text in ("xx", "x")]
    with scripted(likes_long) as judge:
        rewards = pairwise_reward(judge)([prompt, prompt], completions, completion_ids=[[1], [2]], trainer_state=object())
    assert rewards == [1.0, -1.0]


def test_thoughts_of_the_policy_are_not_judged() -> None:
    completions = [
        "<think>\nlong and longer\n</think>\n\nx",
        "xx",
        "a long thought, which the template opened\n</think>\n\nxxx",
    ]
    with scripted(likes_long) as judge:
        assert pairwise_reward(judge)(["p"] * 3, completions) == [-1.0, 0.0, 1.0]


def test_position_bias_and_failed_pairs_give_no_reward() -> None:
    with scripted(always_first) as judge:
        assert pairwise_reward(judge)(["p"] * 3, ["a", "b", "c"]) == [0.0] * 3
    with scripted(likes_long) as judge:
        assert pairwise_reward(judge)(["endless"] * 2, ["xx", "x"]) == [0.0] * 2


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("pqr"), st.integers(1, 9)), max_size=9))
def test_rewards_of_a_group_sum_to_zero(asked: list[tuple[str, int]]) -> None:
    prompts, completions = [prompt for prompt, _ in asked], ["x" * size for _, size in asked]
    with scripted(likes_long) as judge:
        rewards = pairwise_reward(judge)(prompts, completions)
    for prompt in set(prompts):
        group = [reward for reward, other in zip(rewards, prompts, strict=True) if other == prompt]
        assert group == [None] if len(group) == 1 else abs(sum(reward or 0 for reward in group)) < 1e-9


def test_a_batch_is_judged_at_once_and_awaited() -> None:
    prompts = [f"p{number % 100}" for number in range(200)]
    completions = ["x" * (1 + number // 100) for number in range(200)]
    with scripted(likes_long) as judge:
        plain = pairwise_reward(judge)(prompts, completions)
        both = asyncio.run(_twice(async_pairwise_reward(judge)(prompts=prompts, completions=completions)))
    assert plain == [-1.0] * 100 + [1.0] * 100 == both


async def _twice(rewards: Awaitable[list[float | None]]) -> list[float | None]:
    """Beside other work on the same loop, which must go on while the judge works."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    result = await rewards
    ticking.cancel()
    assert ticks > 1
    return result


def test_each_completion_has_its_prompt() -> None:
    with scripted(likes_long) as judge, pytest.raises(SourceError, match="1 prompts for 2 completions"):
        pairwise_reward(judge)(["p"], ["x", "xx"])


@pytest.mark.engine
def test_online_dpo_trains_on_it(tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    settings = OnlineDPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=2, max_new_tokens=8, max_steps=1, logging_steps=1, report_to=[],
        use_cpu=True, bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    prompts = [{"prompt": [{"role": "user", "content": f"What is the color of the {name}?"}]} for name in ("fox", "ant")]
    tokenizer = AutoTokenizer.from_pretrained(SEED)
    with scripted(likes_long) as judge:
        trainer = OnlineDPOTrainer(
            AutoModelForCausalLM.from_pretrained(SEED), reward_funcs=pairwise_reward(judge), args=settings,
            processing_class=tokenizer, train_dataset=Dataset.from_list(prompts),
        )  # fmt: skip
        trainer.train()
    [logged] = [entry for entry in trainer.state.log_history if "objective/scores" in entry]
    assert abs(logged["objective/scores"]) < 1e-6  # The two rewards of a prompt sum to zero.


@pytest.mark.engine
@pytest.mark.parametrize("reward", [pairwise_reward, async_pairwise_reward])
def test_trl_trains_on_it(tmp_path: Path, reward: Callable[[Judge], Callable[..., Any]]) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    settings = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        max_steps=2,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    prompts = [
        {"prompt": [{"role": "user", "content": f"What is the color of the {name}?"}]} for name in ("fox", "ant", "bee", "cat")
    ]
    with scripted(likes_long) as judge:
        trainer = GRPOTrainer(str(SEED), reward_funcs=reward(judge), args=settings, train_dataset=Dataset.from_list(prompts))
        trainer.train()
    logged = [entry for entry in trainer.state.log_history if "rewards/stj_judge/mean" in entry]
    assert len(logged) == 2
    assert all(abs(entry["rewards/stj_judge/mean"]) < 1e-6 for entry in logged)  # The rewards of a group sum to zero.
