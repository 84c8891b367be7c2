"""`Judge`: a judge for people who only want to use one, in a script, a notebook or a training loop; without Ray.

    with Judge("runs/mini/iteration_3/model") as judge:
        judge.compare("What is 2 + 2?", "4", "5").verdict    # "A"

The engine has a process of its own. A Judge talks to it from a thread with an event loop, so that it makes no difference
whether a loop runs already where it is asked.
"""

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from stj.config import EngineConfig, ModelConfig, PromptName, VoteConfig, installed_engine
from stj.engine.hosted import HostedEngine, MakeEngine
from stj.errors import EngineDied, RequestFailed
from stj.generate import Engine, Generate, Sampling
from stj.models.locate import within_context
from stj.rows import HELDOUT, OPEN, Pair, Row
from stj.sources.dialogue import text_of, turns_from, usable
from stj.stages.runner import TokenCounter
from stj.stages.vote import PairVerdict, pair_verdict, vote

_CLOSING_S = 0.2  # in which the loop closes the engine's socket and tells whoever waits that it is over

T = TypeVar("T")
Instruction = str | Sequence[Mapping[str, str]]
"""One message of the user, or the turns of a dialogue, each with role and content, of which the last is the user's."""


class Judge:
    """A model that compares two responses to an instruction, in both orders.

    It is made of a directory, a URI or an id on the hub. Making it starts the engine; `close`, the end of a `with` block or
    the end of the process stops it. It may be asked from several threads at once.

    Raises ModelError where the model is missing or has no chat template, CapacityError where the engine does not start.
    """

    def __init__(
        self,
        model: str | ModelConfig,
        *,
        prompt: PromptName = "figure8",
        votes: int = 1,
        sampling: Sampling | None = None,
        engine: EngineConfig | None = None,
        seed: int = 0,
        make_engine: MakeEngine | None = None,
    ) -> None:
        """`votes` are judgments in each order: 1 is greedy, more are sampled, as `sampling` says.

        `engine` is one for the device that vLLM was built for where it is not given; `make_engine` starts another than vLLM.
        """
        self._config = VoteConfig(prompt=prompt, votes=votes, decoding=sampling or VoteConfig().decoding)
        settings = engine or installed_engine()
        given = ModelConfig(path=model) if isinstance(model, str) else model
        made = make_engine(given, settings, seed) if make_engine else _own_engine(within_context(given), settings, seed)
        self._slots = asyncio.Semaphore(settings.rows_in_flight)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="stj-judge", daemon=True).start()
        try:
            self._engine = asyncio.run_coroutine_threadsafe(made, self._loop).result()
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise
        self._end = weakref.finalize(self, _end, self._loop, self._engine)  # also where nobody closes it

    def compare(self, instruction: Instruction, response_a: str, response_b: str) -> PairVerdict:
        """Which response is better, with the votes of both orders and the share that agrees.

        A pair that cannot be judged (its prompt is longer than the model's context, say) has no verdict and says why in
        `error`. Raises SourceError for what is no instruction or response, and EngineDied where the engine is gone.
        """
        return self._start(self._compare(instruction, response_a, response_b)).result()

    def compare_many(self, pairs: Iterable[tuple[Instruction, str, str]]) -> list[PairVerdict]:
        """Comparisons of (instruction, response_a, response_b), in their order; the engine works on many at once."""
        return self._start(self._compare_all(list(pairs))).result()

    async def acompare(self, instruction: Instruction, response_a: str, response_b: str) -> PairVerdict:
        """`compare` for a running event loop, of whatever thread."""
        return await asyncio.wrap_future(self._start(self._compare(instruction, response_a, response_b)))

    def reward(self, instruction: Instruction, response: str, reference: str) -> float:
        """How much better a response is than a reference, from -1 to 1: `Comparison.reward`."""
        return self.compare(instruction, response, reference).reward

    def close(self) -> None:
        """Ends the engine; what is still asked is cancelled."""
        self._end()

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if not self._end.alive:
            work.close()
            raise EngineDied("this judge is closed; make a new one")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _compare_all(self, pairs: Sequence[tuple[Instruction, str, str]]) -> list[PairVerdict]:
        return list(await asyncio.gather(*(self._compare(*pair) for pair in pairs)))

    async def _compare(self, instruction: Instruction, response_a: str, response_b: str) -> PairVerdict:
        async with self._slots:
            try:
                return await compare(instruction, response_a, response_b, TokenCounter(self._engine.generate), self._config)
            except RequestFailed as error:
                return PairVerdict(votes=(), error=str(error))


async def compare(
    instruction: Instruction, response_a: str, response_b: str, generate: Generate, config: VoteConfig
) -> PairVerdict:
    """Which of two responses is better, by whatever model answers `generate`.

    Raises SourceError for what is no instruction or response, and PromptTooLong and RequestFailed as the engine does.
    """
    row = _open_row(instruction, response_a, response_b)
    return pair_verdict(row if row.ended else await vote(row, generate, config))


def _open_row(instruction: object, response_a: object, response_b: object) -> Row:
    responses = [text_of(value, name, "the pair") for name, value in (("response_a", response_a), ("response_b", response_b))]
    pair = Pair(method=OPEN, chosen=responses[0], rejected=responses[1])
    turns = turns_from(instruction, "instruction", "the pair")
    return usable(Row(id="pair", position=0, task=HELDOUT, turns=turns, pair=pair))


def _end(loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
    """Ends an engine and its loop without waiting: the garbage collector may call this from the loop's own thread."""
    loop.call_soon_threadsafe(_cancel_all, loop)
    engine.close()
    loop.call_soon_threadsafe(loop.call_later, _CLOSING_S, loop.stop)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


async def _own_engine(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    return await HostedEngine.start(model, config, seed, scope=None)
