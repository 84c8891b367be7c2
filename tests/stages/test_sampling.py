"""The sampling rules, with judges that are right more often in long judgments, and samples that finish in any order."""

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import JudgeConfig
from stj.engine.load import EngineLoad
from stj.generate import Completion, Sampling, Usage
from stj.rows import Judgment, Pair, Row, Turn
from stj.stages.judge import judge
from stj.stages.runner import run_stages
from stj.stages.sampling import Drawn, Enough, draw, never_enough, one_correct, one_correct_and_one_wrong
from tests.conftest import make_row

N = 15
RULES: list[Enough] = [one_correct, one_correct_and_one_wrong, never_enough]


def judgment(index: int, correct: bool, length: int = 1, parsed: bool = True) -> Judgment:
    return Judgment(
        purpose="training",
        winner="A",
        index=index,
        text="x" * length,
        verdict=("A" if correct else "B") if parsed else None,
        finish_reason="stop",
        output_tokens=length,
    )


async def no_room() -> None:
    await asyncio.Event().wait()


async def much_room() -> None:
    await asyncio.sleep(0)


class Judge:
    """Returns prepared judgments, each after a given number of turns of the event loop; records what was asked."""

    def __init__(self, judgments: list[Judgment], turns: list[int]) -> None:
        self.judgments, self.turns = judgments, turns
        self.started: list[int] = []
        self.tokens = 0

    async def sample(self, index: int) -> Judgment:
        self.started.append(index)
        for _ in range(self.turns[index]):
            await asyncio.sleep(0)
            self.tokens += 1
        return self.judgments[index]


def expected(judgments: list[Judgment], enough: Enough) -> list[Judgment]:
    """The rule applied by hand, to one judgment after another."""
    for count in range(1, len(judgments) + 1):
        if enough(judgments[:count]):
            return judgments[:count]
    return judgments


@pytest.mark.slow
@given(
    outcomes=st.lists(st.sampled_from(["right", "wrong", "unparsed", "fails"]), min_size=1, max_size=N),
    turns=st.lists(st.integers(0, 20), min_size=N, max_size=N),
    rule=st.sampled_from(RULES),
    width=st.integers(1, N),
    room=st.sampled_from([no_room, much_room]),
)
def test_the_result_is_that_of_one_sample_after_another_in_any_order_of_finishing(
    outcomes: list[str], turns: list[int], rule: Enough, width: int, room: Callable[[], object]
) -> None:
    judgments = [judgment(i, outcome == "right", parsed=outcome != "unparsed") for i, outcome in enumerate(outcomes)]
    judge = Judge(judgments, turns)
    failing = next((i for i, outcome in enumerate(outcomes) if outcome == "fails"), N)

    async def sample(index: int) -> Judgment:
        sampled = await judge.sample(index)
        if outcomes[index] == "fails":
            raise RuntimeError(f"sample {index}")
        return sampled

    drawing = draw(sample, len(judgments), rule, width, room)  # type: ignore[arg-type]
    if len(expected(judgments[:failing], rule)) == failing < len(judgments) and not rule(judgments[:failing]):
        with pytest.raises(RuntimeError, match=f"sample {failing}$"):
            asyncio.run(drawing)
        return
    drawn = asyncio.run(drawing)
    assert list(drawn.samples) == expected(judgments, rule)
    assert judge.started == list(range(len(drawn.samples) + drawn.aborted))


def test_one_at_a_time_starts_nothing_in_vain() -> None:
    judgments = [judgment(i, i == 3) for i in range(N)]
    judge = Judge(judgments, [1] * N)
    drawn = asyncio.run(draw(judge.sample, N, one_correct, 1, no_room))
    assert (len(drawn.samples), drawn.aborted) == (4, 0)


def test_a_right_one_aborts_later_samples_and_waits_for_earlier_ones() -> None:
    judgments = [judgment(i, i in {2, 5}) for i in range(N)]
    turns = [50] * N
    turns[5] = 1  # right, and finished first: not kept, since sample 2 is right as well
    judge = Judge(judgments, turns)
    drawn = asyncio.run(draw(judge.sample, N, one_correct, N, no_room))
    assert [j.index for j in drawn.samples] == [0, 1, 2]
    assert drawn.aborted == N - 3
    assert drawn.surplus_tokens == 3  # sample 5, and 3 and 4, which finish in the same moment as 2
    assert judge.tokens < 50 * 7  # those above 5 ended at once


def test_a_failing_sample_ends_the_others() -> None:
    class Fails(Judge):
        async def sample(self, index: int) -> Judgment:
            if index == 1:
                raise RuntimeError("no")
            return await super().sample(index)

    async def run() -> int:
        judge = Fails([judgment(i, False) for i in range(N)], [1000] * N)
        with pytest.raises(RuntimeError, match="no"):
            await draw(judge.sample, N, never_enough, N, no_room)
        before = judge.tokens
        await asyncio.sleep(0.01)
        return judge.tokens - before

    assert asyncio.run(run()) <= N


class LengthJudge:
    """A judge that is right more often the longer it thinks, and takes as many turns as it writes tokens."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tokens = 0
        self.prepared: dict[int, tuple[int, bool]] = {}

    def prepare(self, index: int) -> tuple[int, bool]:
        """Length and correctness, drawn in index order so that they do not depend on who finishes first."""
        while len(self.prepared) <= index:
            length = 1 + int(self.random.expovariate(1 / 8))
            self.prepared[len(self.prepared)] = length, self.random.random() < min(0.9, 0.2 + length / 25)
        return self.prepared[index]

    async def sample(self, index: int) -> Judgment:
        length, correct = self.prepare(index)
        for _ in range(length):
            await asyncio.sleep(0)
            self.tokens += 1
        return judgment(index, correct, length)


PAIRS = 4_000


async def kept_lengths(width: int, seed: int) -> tuple[list[int], int, int, int]:
    """Lengths of the kept judgments of many pairs, how many there are, draws, and tokens written."""
    lengths, draws, tokens = [], 0, 0
    for pair in range(PAIRS):
        judge = LengthJudge(seed * PAIRS + pair)
        drawn: Drawn = await draw(judge.sample, N, one_correct, width, no_room)
        draws += len(drawn.samples)
        tokens += judge.tokens
        if drawn.samples[-1].correct:
            lengths.append(drawn.samples[-1].output_tokens)
    return lengths, len(lengths), draws, tokens


def random_correct_of_all(seed: int) -> list[int]:
    """The paper's way: draw all N, keep a random right judgment."""
    lengths = []
    for pair in range(PAIRS):
        judge = LengthJudge(seed * PAIRS + pair)
        right = [length for length, correct in (judge.prepare(i) for i in range(N)) if correct]
        if right:
            lengths.append(random.Random(pair).choice(right))
    return lengths


async def first_finished(seed: int) -> list[int]:
    """A wrong rule: keep the right judgment that finishes first."""
    lengths = []
    for pair in range(PAIRS):
        judge = LengthJudge(seed * PAIRS + pair)
        right = [length for length, correct in (judge.prepare(i) for i in range(N)) if correct]
        if right:
            lengths.append(min(right))
    return lengths


def same_distribution(first: list[int], second: list[int]) -> bool:
    """The two-sample Kolmogorov-Smirnov test at p = 0.001."""
    first_share, second_share = _cumulative(first), _cumulative(second)
    top = max(*first, *second)
    distance = max(abs(first_share(x) - second_share(x)) for x in range(top + 1))
    return distance < 1.949 * math.sqrt((len(first) + len(second)) / (len(first) * len(second)))


def _cumulative(values: list[int]) -> Callable[[int], float]:
    top = max(values)
    counts = [0] * (top + 2)
    for value in values:
        counts[value] += 1
    total, sums = 0, []
    for count in counts:
        total += count
        sums.append(total / len(values))
    return lambda x: sums[min(x, top + 1)]


def share_right() -> float:
    """The share of right judgments of LengthJudge, summed over its geometric lengths."""
    stay = math.exp(-1 / 8)
    return sum(stay ** (length - 1) * (1 - stay) * min(0.9, 0.2 + length / 25) for length in range(1, 1000))


@pytest.mark.slow
def test_kept_lengths_are_those_of_a_random_right_one_and_the_first_finished_is_caught() -> None:
    paper = random_correct_of_all(seed=1)
    lengths, kept, draws, _ = asyncio.run(kept_lengths(width=4, seed=2))
    assert same_distribution(lengths, paper)
    assert not same_distribution(asyncio.run(first_finished(seed=2)), paper)
    p = share_right()
    rate = 1 - (1 - p) ** N
    assert abs(kept / PAIRS - rate) <= 3 * math.sqrt(rate * (1 - rate) / PAIRS) + 1e-9
    assert draws / PAIRS == pytest.approx(rate / p, rel=0.05)


class CountingEngine:
    """Writes judgments that are right half of the time, longer ones more often; a word in each turn of the loop."""

    def __init__(self) -> None:
        self.random = random.Random(3)
        self.usage = Usage()
        self.words = self.judgments = 0

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        length = self.random.randint(1, 16)
        right = self.random.random() < (length - 0.5) / 16
        self.judgments += 1
        for _ in range(length):
            await asyncio.sleep(0)
            self.words += 1
        label = "A" if ("A’s Answer]\nbetter" in messages[-1].content) == right else "B"
        return Completion(text=f"[[{label}]]", finish_reason="stop", prompt_tokens=1, output_tokens=length)

    def close(self) -> None:
        """Nothing to release."""


@pytest.mark.slow
def test_a_judge_that_is_right_half_of_the_time_writes_a_sixth_of_all_n(monkeypatch: pytest.MonkeyPatch) -> None:
    """All written tokens count, even those of samples that run ahead while the engine drains and are aborted."""
    monkeypatch.setattr("stj.engine.load._CHECK_INTERVAL_S", 0)
    slots, count = 32, 500
    pair = Pair(method="given", chosen="better", rejected="worse")

    async def run(config: JudgeConfig) -> tuple[CountingEngine, list[Row]]:
        engine = CountingEngine()
        load = EngineLoad(engine, slots)
        watching = asyncio.ensure_future(load.watch())
        gate = asyncio.Semaphore(slots)

        async def judge_row(position: int) -> Row:
            async with gate:
                row = make_row(position, pair=pair)
                return await run_stages(row, [partial(judge, config=config, seed=0)], load.ask, load.room)

        rows = await asyncio.gather(*map(judge_row, range(count)))
        watching.cancel()
        return engine, rows

    first, rows = asyncio.run(run(JudgeConfig(samples=N)))
    every, _ = asyncio.run(run(JudgeConfig(samples=N, sampling="all")))
    assert every.judgments == N * count
    assert first.words * 6 <= every.words
    assert sum(row.aborted for row in rows) > 0
    assert sum(len(row.judgments) + row.aborted for row in rows) == first.judgments
    for row in rows:
        right = [judgment.index for judgment in row.judgments if judgment.correct]
        assert [judgment.index for judgment in row.judgments] == list(range(len(row.judgments)))
        assert (row.kept, len(right)) == ((len(row.judgments) - 1, 1) if right else (None, 0))
        assert row.output_tokens >= sum(judgment.output_tokens for judgment in row.judgments)


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_keep_rate_and_draws_are_those_of_the_theory(p: float) -> None:
    source = random.Random(7)
    kept = draws = 0

    async def run() -> None:
        nonlocal kept, draws
        for _ in range(PAIRS):
            judgments = [judgment(i, source.random() < p) for i in range(N)]
            drawn = await draw(Judge(judgments, [0] * N).sample, N, one_correct, 1, no_room)
            kept += drawn.samples[-1].correct
            draws += len(drawn.samples)

    asyncio.run(run())
    rate = 1 - (1 - p) ** N
    assert abs(kept / PAIRS - rate) <= 3 * math.sqrt(rate * (1 - rate) / PAIRS) + 1e-9
    assert draws / PAIRS == pytest.approx(rate / p, rel=0.05)
    if p == 0.5:
        assert draws * 6 <= N * PAIRS
