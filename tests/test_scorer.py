"""The judge as a scorer of the installed inspect_ai: whole evaluations, with given answers and a scripted judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stj.errors import PromptTooLong
from stj.generate import Sampling
from stj.rows import Turn
from tests.judging.test_judge import scripted

pytest.importorskip("inspect_ai", reason="the extra `inspect` is not installed")

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ModelOutput
from inspect_ai.solver import Generate, Solver, TaskState, solver

from stj.reward.scorer import graded, preferred


def likes_long(messages: Sequence[Turn], sampling: Sampling) -> str:
    """Prefers the longer answer, neither of equally long ones; gives every answer a 4."""
    text = messages[-1].content
    if "endless" in text:
        raise PromptTooLong("prompt of 9 tokens")
    shown = text.split("Answer]\n")
    if len(shown) < 4:
        return "Fine. Rating: [[4]]"
    first, second = len(shown[1].split("\n")[0]), len(shown[3].split("\n")[0])
    return "It is. [[C]]" if first == second else "It is. [[A]]" if first > second else "It is. [[B]]"


def evaluated(scorer: Any, samples: list[Sample], answers: list[str], logs: Path) -> Any:
    """The log of an evaluation. A solver gives the answers: inspect_ai's mock model fetches a tokenizer from the network."""
    task = Task(dataset=samples, solver=answering(dict(enumerate(answers, start=1))), scorer=scorer)
    [log] = eval(task, model="mockllm/model", log_dir=str(logs), display="none", log_format="json")
    return log


@solver
def answering(answers: dict[int, str]) -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state.output = ModelOutput.from_content("given", answers[int(state.sample_id)])
        return state

    return solve


def test_the_mean_is_the_win_rate_over_the_targets(tmp_path: Path) -> None:
    dialogue = [ChatMessageSystem(content="Be brief."), ChatMessageUser(content="Hello")]
    samples = [Sample(input=given, target="yy") for given in ("a", dialogue, "c", "endless")]
    with scripted(likes_long) as judge:
        log = evaluated(preferred(judge), samples, ["xxx", "x", "xx", "x"], tmp_path)
    assert log.status == "success", log.error
    scores = [sample.scores["preferred"] for sample in log.samples]
    assert [score.value for score in scores[:3]] == [1.0, 0.0, 0.5]
    assert scores[3].reason == "not judged"
    assert "prompt of 9 tokens" in scores[3].explanation
    assert (scores[0].metadata["verdict"], "[[A]]" in scores[0].explanation) == ("A", True)
    assert log.results.scores[0].metrics["mean"].value == 0.5


def test_a_sample_without_a_target_is_an_error(tmp_path: Path) -> None:
    with scripted(likes_long) as judge:
        log = evaluated(preferred(judge), [Sample(input="a")], ["x"], tmp_path)
    assert log.status == "error"
    assert "has no target to compare with" in log.error.message


def test_an_answer_is_graded_by_a_rubric(tmp_path: Path) -> None:
    with scripted(likes_long) as judge:
        log = evaluated(graded(judge, "helpfulness"), [Sample(input="a"), Sample(input="endless")], ["hm", "hm"], tmp_path)
    assert log.status == "success", log.error
    first, second = (sample.scores["graded"] for sample in log.samples)
    assert (first.value, first.explanation) == (4.0, "Fine. Rating: [[4]]")
    assert second.reason == "not graded"
