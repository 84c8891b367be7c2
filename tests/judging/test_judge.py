"""`Judge`: both orders, votes, rewards and their symmetry on a scripted engine; then on real vLLM, from a script and a loop."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj import Judge
from stj.config import EngineConfig, ModelConfig
from stj.engine.scripted import Handler, ScriptedEngine
from stj.errors import ConfigError, EngineDied, ModelError, PromptTooLong, RequestFailed, SourceError
from stj.generate import Engine, Sampling
from stj.prompts.variants import VARIANTS
from stj.rows import Turn
from stj.stages.vote import PairVerdict, Vote
from stj.use_config import VoteConfig
from stj.verdict import Parser
from tests.conftest import engines, soon

ROOT = Path(__file__).parents[2]
SEED_MODEL = "package://mini/seed_model"
WORDS = {"figure8": ("[[A]]", "[[B]]"), "arena": ("[[A>>B]]", "[[B>A]]"), "prometheus": ("[RESULT] A", "[RESULT] B")}


def scripted(handler: Handler, **settings: object) -> Judge:
    async def make(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
        return ScriptedEngine(handler)

    return Judge("scripted", make_engine=make, **settings)  # type: ignore[arg-type]


def knows(messages: Sequence[Turn], sampling: Sampling) -> str:
    """Prefers the response that says "four", in the form that the prompt asks for; knows nothing of other pairs."""
    system, shown = messages[0].content, messages[-1].content
    name = "arena" if "[[A>>B]]" in system else "prometheus" if "[RESULT]" in shown else "figure8"
    first, second = (shown.find(word) for word in ("four", "five"))
    return f"One is right. {WORDS[name][0] if 0 <= first < second else WORDS[name][1]}"


def always_first(messages: Sequence[Turn], sampling: Sampling) -> str:
    return "The first. [[A]]"


@pytest.mark.parametrize("prompt", VARIANTS)
def test_the_better_response_wins_in_both_orders_with_every_prompt(prompt: str) -> None:
    with scripted(knows, prompt=prompt) as judge:
        result = judge.compare("What is 2 + 2?", "four", "five")
        assert (result.verdict, result.confidence, result.reward) == ("A", 1.0, 1.0)
        assert [(vote.shown_first, vote.verdict) for vote in result.votes] == [("A", "A"), ("B", "A")]
        assert "One is right." in result.votes[0].text
        swapped = judge.compare("What is 2 + 2?", "five", "four")
        assert (swapped.verdict, swapped.reward) == ("B", -1.0)


def test_a_judge_in_a_published_judges_own_words(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("user: 'q: {instruction} 1: {response A} 2: {response B}'")

    def boxes(messages: Sequence[Turn], sampling: Sampling) -> str:
        [turn] = messages
        assert turn.role == "user"
        return f"\\boxed{{{'A' if turn.content.index('four') < turn.content.index('five') else 'B'}}}"

    with scripted(boxes, prompt=str(tmp_path / "mine.yaml"), prompt_format="boxed") as judge:
        assert judge.compare("2 + 2?", "four", "five").verdict == "A"
    with pytest.raises(ConfigError, match="prompt=figure8 has its own format"):
        scripted(boxes, prompt_format="boxed")


def test_position_bias_is_a_tie_with_half_the_confidence() -> None:
    with scripted(always_first) as judge:
        result = judge.compare("What is 2 + 2?", "four", "five")
        assert (result.verdict, result.confidence, result.reward) == (None, 0.5, 0.0)
        assert judge.reward("What is 2 + 2?", "four", "five") == 0.0


@pytest.mark.parametrize(("parser", "verdict"), [("strict", None), ("distinct", "A"), ("paper", "A")])
def test_a_vote_is_read_by_the_parser_that_is_asked_for(parser: Parser, verdict: str | None) -> None:
    def gives_reasons_last(messages: Sequence[Turn], sampling: Sampling) -> str:
        return f"{knows(messages, sampling)} is my verdict, because it is right."

    with scripted(gives_reasons_last, parser=parser) as judge:
        assert judge.compare("What is 2 + 2?", "four", "five").verdict == verdict


def test_one_vote_is_greedy_and_more_are_sampled() -> None:
    asked: list[float] = []

    def note(messages: Sequence[Turn], sampling: Sampling) -> str:
        asked.append(sampling.temperature)
        return "[[A]]"

    with scripted(note) as judge:
        judge.compare("x", "a", "b")
    assert asked == [0.0] * 2
    with scripted(note, votes=3, sampling=Sampling(temperature=0.5, max_tokens=9)) as judge:
        assert len(judge.compare("x", "a", "b").votes) == 6
    assert asked[2:] == [0.5] * 6


@given(st.lists(st.sampled_from(["A", "B", None]), max_size=12))
def test_verdict_confidence_and_reward_agree(verdicts: list[str | None]) -> None:
    votes = tuple(Vote(shown_first="A", verdict=verdict, text="") for verdict in verdicts)  # type: ignore[arg-type]
    result = PairVerdict(votes=votes)
    turned = PairVerdict(votes=tuple(Vote(shown_first="B", verdict=_other(v.verdict), text="") for v in votes))  # type: ignore[arg-type]
    assert result.reward == -turned.reward
    assert -1 <= result.reward <= 1
    assert {1: "A", 0: None, -1: "B"}[(result.reward > 0) - (result.reward < 0)] == result.verdict
    assert 0 <= result.confidence <= 1
    assert result.confidence >= abs(result.reward)


def _other(verdict: str | None) -> str | None:
    return {"A": "B", "B": "A", None: None}[verdict]


def test_a_dialogue_is_judged_as_one_instruction() -> None:
    shown: list[str] = []

    def note(messages: Sequence[Turn], sampling: Sampling) -> str:
        shown.append(messages[-1].content)
        return "[[A]]"

    turns = [
        {"role": "user", "content": "Think of a number."},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "Is it even?"},
    ]
    with scripted(note) as judge:
        judge.compare(turns, "yes", "no")
        assert "User: Think of a number.\n\nAssistant: Done.\n\nUser: Is it even?" in shown[0]
        assert judge.compare(turns[1:2], "yes", "no").error == "no_user_turn"
        assert judge.compare([], "yes", "no").error == "no_user_turn"


def test_a_pair_that_cannot_be_judged_says_why_and_others_are_judged() -> None:
    def fail(messages: Sequence[Turn], sampling: Sampling) -> str:
        for word, error in {"long": PromptTooLong("prompt of 9 tokens"), "odd": RequestFailed("vLLM: no")}.items():
            if word in messages[-1].content:
                raise error
        return "[[A]] indeed" if "chatty" in messages[-1].content else "[[A]]"

    with scripted(fail) as judge:
        results = judge.compare_many((text, "a", "b") for text in ("fine", "long", "odd", "chatty"))
    assert [result.error for result in results] == [None, "prompt of 9 tokens", "vLLM: no", None]
    assert [result.reward for result in results] == [0.0] * 4
    assert [len(result.votes) for result in results] == [2, 0, 0, 2]


@pytest.mark.parametrize(("pair", "message"), [((3, "a", "b"), "instruction"), (("x", None, "b"), "response_a")])
def test_a_value_of_a_wrong_type_raises_at_once(pair: tuple[str, str, str], message: str) -> None:
    with scripted(always_first) as judge, pytest.raises(SourceError, match=message):
        judge.compare(*pair)


@pytest.mark.parametrize("pair", [("x", "a"), ("x", "a", "b", "c"), "xab", {"instruction": "x"}, None])
def test_what_is_no_pair_is_named_by_its_number(pair: Any) -> None:
    with scripted(always_first) as judge:
        for call in (judge.compare_many, judge.rewards):
            with pytest.raises(SourceError, match=r"pair 1: .*a tuple of an instruction and two responses"):
                call([("x", "a", "b"), pair])


def test_it_works_from_a_running_loop_and_from_threads() -> None:
    async def in_a_notebook(judge: Judge) -> list[PairVerdict]:
        there = judge.compare("x", "four", "five")  # a cell without await
        return [there, *await asyncio.gather(*(judge.acompare("x", "four", "five") for _ in range(5)))]

    with scripted(knows) as judge:
        assert {result.verdict for result in asyncio.run(in_a_notebook(judge))} == {"A"}
        results: list[PairVerdict] = []
        threads = [threading.Thread(target=lambda: results.append(judge.compare("x", "five", "four"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [result.verdict for result in results] == ["B"] * 8


@pytest.fixture
def others() -> set[threading.Thread]:
    """The threads before the test: those of judges that other tests left open are not its own."""
    return set(threading.enumerate())


def judging(others: set[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in set(threading.enumerate()) - others if thread.name == "stj-judge"]


def test_a_closed_judge_says_so_and_its_thread_ends(others: set[threading.Thread]) -> None:
    judge = scripted(knows)
    judge.close()
    judge.close()
    with pytest.raises(EngineDied, match="closed"):
        judge.compare("x", "a", "b")
    assert soon(lambda: not judging(others))


def test_a_judge_that_is_closed_while_it_is_asked_keeps_nobody_waiting(
    others: set[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread closes it in the moment between the look whether it is open and the question to its engine."""
    judge, ask = scripted(knows), asyncio.run_coroutine_threadsafe

    def close_first(*work: Any) -> Future[Any]:
        threading.Thread(target=judge.close).start()
        soon(lambda: not judging(others), 0.5)  # a judge that could be closed now would have ended
        return ask(*work)

    def compare() -> None:
        with suppress(EngineDied, CancelledError):  # or it is answered just before
            judge.compare("x", "four", "five")

    monkeypatch.setattr("stj.judging.judge.asyncio.run_coroutine_threadsafe", close_first)
    asking = threading.Thread(target=compare, daemon=True)
    asking.start()
    asking.join(600)
    assert not asking.is_alive()
    assert soon(lambda: not judging(others))


def test_a_judge_that_nobody_closed_ends_with_its_last_reference(others: set[threading.Thread]) -> None:
    judge = scripted(knows)
    judge.compare("x", "four", "five")
    del judge
    assert soon(lambda: not judging(others))


def test_an_engine_that_does_not_start_is_an_error_and_leaves_nothing(others: set[threading.Thread]) -> None:
    async def refuse(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
        raise ModelError("model scripted: no")

    with pytest.raises(ModelError, match="model scripted: no"):
        Judge("scripted", make_engine=refuse)
    with pytest.raises(ModelError, match="the directory does not exist"):
        Judge("/nowhere")
    assert soon(lambda: not judging(others))


def test_ctrl_c_while_the_engine_starts_ends_the_start(ctrl_c: None) -> None:
    ended, main = threading.Event(), threading.main_thread().ident
    assert main

    async def starts_for_ever(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
        await asyncio.sleep(0.3)  # by then the Judge waits
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    with pytest.raises(KeyboardInterrupt):
        Judge("scripted", make_engine=starts_for_ever)
    assert ended.wait(600)


def test_importing_stj_is_light() -> None:
    code = "import sys, stj; print([m for m in ('omegaconf', 'pyarrow', 'ray', 'stj.judging') if m in sys.modules]); "
    code += "stj.Judge; print([m for m in ('ray', 'torch', 'vllm') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert printed.stdout == "[]\n[]\n"


SCRIPT = """
import json, sys
from stj import Judge
from stj.config import ModelConfig
from stj.generate import Sampling

model = ModelConfig(path="package://mini/seed_model", dtype="float32")
with Judge(model, sampling=Sampling(max_tokens=128)) as judge:
    pairs = [tuple(pair) for pair in json.load(sys.stdin)]
    results = judge.compare_many(pairs)
    swapped = judge.compare_many((x, b, a) for x, a, b in pairs)
    too_long = judge.compare("fox " * 5000, "a", "b")
print(json.dumps([[r.verdict, r.reward, s.reward, r.votes[0].text] for r, s in zip(results, swapped)]))
print(too_long.error)
"""


@pytest.mark.engine
def test_a_script_judges_on_real_vllm_and_leaves_no_process(mark: str) -> None:
    lines = [json.loads(line) for line in (ROOT / "stj/mini/data/heldout.jsonl").read_text().splitlines()[:40]]
    pairs = json.dumps([[line["instruction"], line["chosen"], line["rejected"]] for line in lines])
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=pairs, capture_output=True, text=True, check=True, cwd=ROOT)
    results, error = done.stdout.splitlines()
    rewards = [(reward, swapped) for _, reward, swapped, _ in json.loads(results)]
    # Greedy judgments in both orders are antisymmetric. In bf16 six of these 80 have two tokens that are nearly equal, and a
    # batch of another size may write the other one; in float32 none of their tokens is that close.
    assert all(reward == -swapped for reward, swapped in rewards)
    assert sum(reward for reward, _ in rewards) > 0  # M_0 is right more often than not: the sum is 22 of at most 40.
    assert "context of 2048 tokens" in error
    assert soon(lambda: engines(mark) == [])


@pytest.mark.long
@pytest.mark.engine
def test_an_engine_that_is_killed_is_an_error_and_the_process_lives(mark: str) -> None:
    with Judge(SEED_MODEL, votes=4, sampling=Sampling(max_tokens=128)) as judge:
        assert judge.compare("Which color does the ant have?", "The answer is purple.", "The answer is red.").error is None
        os.kill(engines(mark)[-1], signal.SIGKILL)
        with pytest.raises(EngineDied, match="has ended"):
            judge.compare("Which color does the ant have?", "The answer is purple.", "The answer is red.")
    with Judge(SEED_MODEL, sampling=Sampling(max_tokens=128)) as again:
        assert again.compare("Which color does the ant have?", "The answer is purple.", "The answer is red.").votes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"votes": 0}, r"vote.votes=0 judgments in each order: must be 1 to 1000"),
        ({"votes": "8"}, "vote.votes=8 judgments"),
        ({"votes": 1.5}, "vote.votes=1.5 judgments"),
        ({"votes": None}, "vote.votes=None judgments"),
        ({"stop": "never"}, "vote.stop=never: must be one of 'all', 'exact', 'unlikely'"),
        ({"stop_error": "few"}, "vote.stop_error=few: must be a share"),
        ({"aggregate": "mean"}, "vote.aggregate=mean: must be one of 'majority', 'distribution'"),
        ({"parser": "loose"}, "vote.parser=loose: must be one of 'strict', 'distinct', 'paper'"),
        ({"prompt": None}, "vote.prompt=None: no such prompt or file"),
        ({"calibration": "c.json", "risk": "0.1x"}, "risk=0.1x: must be a share"),
        ({"calibration": "c.json", "risk": 0.1, "confidence": "high"}, "confidence=high: must be a probability"),
    ],
)
def test_settings_are_checked_before_anything_starts(settings: dict[str, object], message: str) -> None:
    assert VoteConfig().votes == 1
    with pytest.raises(ConfigError, match=message):
        scripted(knows, **settings)


def test_a_model_and_a_prompt_may_be_paths(tmp_path: Path) -> None:
    words = tmp_path / "judge.yaml"
    words.write_text("user: |-\n  {instruction}: {response A} or {response B}?\n")

    async def make(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
        assert model.path == str(tmp_path / "model")
        return ScriptedEngine(always_first)

    with Judge(tmp_path / "model", prompt=words, prompt_format="figure8", make_engine=make) as judge:
        assert judge.compare("x", "a", "b").confidence == 0.5
