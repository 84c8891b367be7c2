"""A judge as a reward function of TRL, for reinforcement learning from pairwise preferences.

Example::

    with Judge("runs/mini/iteration_3/model") as judge:
        GRPOTrainer(model, reward_funcs=pairwise_reward(judge), train_dataset=prompts).train()

This module does not need TRL. Its function has the form that TRL's trainers call.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stj.errors import SourceError
from stj.judging.judge import Instruction, Judge

Text = str | Sequence[Mapping[str, str]]
"""Plain text, or the messages of TRL's conversational form."""
RewardFunction = Callable[..., list[float | None]]
"""Takes prompts, completions and TRL's other columns; returns one reward for each completion."""
AsyncRewardFunction = Callable[..., Awaitable[list[float | None]]]
"""The same, awaited."""


def pairwise_reward(judge: Judge) -> RewardFunction:
    """Makes a reward function for TRL: each completion's mean reward against the other completions of its prompt, from -1 to 1.

    A batch may hold several prompts. A group of n completions takes n (n - 1) / 2 comparisons in both orders, and the engine
    works on those of the whole batch at once. Every vote of the judge is asked, whatever its `stop` is: a mean needs them all.
    The rewards of a group sum to 0. A pair that cannot be judged counts 0, as a tie. The only completion of a prompt gets None,
    which TRL leaves out. So `num_generations` must be 2 or more, and a group must be on one process.

    GRPO, RLOO and online DPO call it; the two completions of online DPO's prompts are chosen and rejected by their rewards.

    The reward function raises the errors of `Judge.rewards`, and SourceError if prompts and completions differ in number.
    """

    def stj_judge(prompts: Sequence[Text], completions: Sequence[Text], **columns: Any) -> list[float | None]:
        duels = _Duels.of(prompts, completions)
        return duels.means(judge.rewards(duels.asked))

    return stj_judge  # TRL logs a reward under the name of its function.


def async_pairwise_reward(judge: Judge) -> AsyncRewardFunction:
    """Makes the same reward function as a coroutine function: GRPO and RLOO await it beside their other reward functions.

    Online DPO only takes `pairwise_reward`: TRL calls reward functions there without awaiting them.
    """

    async def stj_judge(prompts: Sequence[Text], completions: Sequence[Text], **columns: Any) -> list[float | None]:
        duels = _Duels.of(prompts, completions)
        return duels.means(await judge.arewards(duels.asked))

    return stj_judge


@dataclass(frozen=True)
class _Duels:
    """All comparisons of two completions of the same prompt."""

    completions: int
    places: tuple[tuple[int, int], ...]
    """Which completions each comparison is between."""
    asked: tuple[tuple[Instruction, str, str], ...]

    @classmethod
    def of(cls, prompts: Sequence[Text], completions: Sequence[Text]) -> "_Duels":
        """The comparisons of a batch, whose prompts are repeated for each completion."""
        if len(prompts) != len(completions):
            raise SourceError(f"{len(prompts)} prompts for {len(completions)} completions: give each completion its prompt")
        places = tuple(duel for group in _groups(prompts) for duel in itertools.combinations(group, 2))
        texts = [_answer(completion) for completion in completions]
        return cls(len(completions), places, tuple((_instruction(prompts[a]), texts[a], texts[b]) for a, b in places))

    def means(self, compared: Sequence[float]) -> list[float | None]:
        """Each completion's mean reward over its comparisons; None if it has none."""
        results: defaultdict[int, list[float]] = defaultdict(list)
        for (a, b), reward in zip(self.places, compared, strict=True):
            results[a].append(reward)
            results[b].append(-reward)
        return [fmean(results[index]) if results[index] else None for index in range(self.completions)]


def _groups(prompts: Sequence[Text]) -> list[list[int]]:
    """Indices of equal prompts."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        groups[json.dumps(prompt)].append(index)
    return list(groups.values())


def _instruction(prompt: Text) -> Instruction:
    return prompt if isinstance(prompt, str) else [{"role": turn["role"], "content": turn["content"]} for turn in prompt]


def _answer(completion: Text) -> str:
    """The text of a completion, or of the last of its messages."""
    return completion if isinstance(completion, str) else completion[-1]["content"]
