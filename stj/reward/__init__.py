"""A judge as a reward function of TRL, for reinforcement learning from pairwise preferences.

    with Judge("runs/mini/iteration_3/model") as judge:
        GRPOTrainer(model, reward_funcs=pairwise_reward(judge), train_dataset=prompts).train()

TRL need not be installed for this module; the function that it gives has the form that TRL's trainers call.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from stj.judging.judge import Instruction, Judge

Text = str | Sequence[Mapping[str, str]]
"""Plain text, or the messages of TRL's conversational form."""
RewardFunction = Callable[..., list[float | None]]


def pairwise_reward(judge: Judge) -> RewardFunction:
    """A reward function: how each completion fares on the mean against the others of its prompt, from -1 to 1.

    A group of n completions takes n (n - 1) / 2 comparisons in both orders, which the engine works on at once. A completion
    that is alone with its prompt has no reward (None, which TRL leaves out), so `num_generations` must be 2 or more, and a
    group on one process. What cannot be judged counts 0, as a tie.
    """

    def stj_judge(prompts: Sequence[Text], completions: Sequence[Text], **columns: Any) -> list[float | None]:
        duels = [duel for group in _groups(prompts) for duel in itertools.combinations(group, 2)]
        texts = [_answer(completion) for completion in completions]
        compared = judge.compare_many((_instruction(prompts[one]), texts[one], texts[other]) for one, other in duels)
        results: defaultdict[int, list[float]] = defaultdict(list)
        for (one, other), said in zip(duels, compared, strict=True):
            results[one].append(said.reward)
            results[other].append(-said.reward)
        return [fmean(results[index]) if results[index] else None for index in range(len(completions))]

    return stj_judge  # TRL logs a reward under its function's name


def _groups(prompts: Sequence[Text]) -> list[list[int]]:
    """Indices of equal prompts."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        groups[json.dumps(prompt)].append(index)
    return list(groups.values())


def _instruction(prompt: Text) -> Instruction:
    return prompt if isinstance(prompt, str) else [{"role": turn["role"], "content": turn["content"]} for turn in prompt]


def _answer(completion: Text) -> str:
    """What the completion says; of several messages, the last."""
    return completion if isinstance(completion, str) else completion[-1]["content"]
