"""`Judge`: a judge for scripts, notebooks and training loops, without Ray.

Example::

    with Judge("runs/mini/iteration_3/model") as judge:
        judge.compare("What is 2 + 2?", "4", "5").verdict    # "A"

The engine has its own process. A Judge talks to it from a thread with its own event loop, so it also works inside a
running event loop.
"""

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from stj.config import Aggregate, EngineConfig, JudgeMode, ModelConfig, StopRule, check_format_is_used, installed_engine
from stj.engine.hosted import MakeEngine
from stj.engine.start import start_engine
from stj.errors import ConfigError, EngineDied, RequestFailed, SourceError
from stj.findings import require
from stj.generate import Engine, Generate, Sampling
from stj.judging.calibration_file import read_abstention
from stj.judging.grading import GradeRequest, given_rubric, grade_response
from stj.judging.ranking import Comparison, Pairing, RankedResponse, Tournament, all_pairs, strengths
from stj.models.check import ModelUse, check_model_use
from stj.passes.model_here import model_here
from stj.prompts.given import variant_of
from stj.rows import HELDOUT, OPEN, Pair, Row
from stj.rubrics import Rubric
from stj.sources.dialogue import text_of, turns_from, usable
from stj.stages.grade import RubricGrade
from stj.stages.runner import RequestSeeds, TokenCounter
from stj.stages.vote import PairVerdict, Vote, pair_verdict, vote
from stj.use_config import GradeConfig, VoteConfig
from stj.verdict import Parser, parse

_CLOSING_S = 0.2  # The loop lives this long after `close`: it closes the engine's socket and cancels open requests.

_T = TypeVar("_T")
Instruction = str | Sequence[Mapping[str, str]]
"""One user message, or the turns of a dialogue, each with role and content. The last turn is the user's."""


class Judge:
    """A model that compares two responses to an instruction, in both orders.

    Example::

        with Judge("runs/mini/iteration_3/model") as judge:
            judge.compare("What is 2 + 2?", "4", "5").verdict    # "A"

    The constructor starts the engine. `close`, the end of a `with` block, or the end of the process stops it. Several threads
    may use one Judge at once.
    """

    def __init__(
        self,
        model: str | Path | ModelConfig,
        *,
        mode: JudgeMode = "pairwise",
        rubric: Rubric | str | Path | None = None,
        prompt: str | Path = "figure8",
        prompt_format: str | None = None,
        parser: Parser = "distinct",
        votes: int = 1,
        stop: StopRule = "exact",
        stop_error: float = 0.02,
        aggregate: Aggregate = "majority",
        sampling: Sampling | None = None,
        engine: EngineConfig | None = None,
        seed: int = 0,
        calibration: str | Path | None = None,
        risk: float | None = None,
        confidence: float = 0.9,
        grade: GradeConfig | None = None,
        make_engine: MakeEngine | None = None,
    ) -> None:
        """Starts the engine of a model: a directory, a URI, or an id on the hub; a ModelConfig may name one behind an API.

        With `mode` pointwise, pairs are decided by a grade of each response, by `rubric`. `grade` says how single responses are
        graded. `prompt` is the name of a prompt, or a YAML file of one; then `prompt_format` names the format of its verdicts.
        `parser` reads the verdict of a judgment, like `judge.parser`. `votes` is the number of judgments in each order: one is
        greedy, more are sampled with `sampling`. `stop` and `stop_error` say when votes end that cannot change the verdict, or
        probably will not. `aggregate` says how votes become a verdict. All are settings of VoteConfig. `engine` defaults to
        settings for the device that the installed vLLM is built for. `make_engine` starts another engine in place of vLLM.

        `calibration` is a file that `stj calibrate` wrote for this judge. With it, the judge abstains so that at most the share
        `risk` of the answered pairs is wrong, with probability `confidence` over calibrations (stj/judging/risk.py).

        Raises ModelError if the model is missing or its chat template cannot serve. Raises CapacityError if the engine
        does not start. Raises ConfigError if a setting is out of range, or if the calibration is damaged, of another judge, or
        cannot keep the risk.
        """
        self._config = VoteConfig(
            mode=mode,
            rubric=None if rubric is None else given_rubric(rubric).packed,
            prompt=str(prompt),
            prompt_format=prompt_format,
            parser=parser,
            votes=votes,
            stop=stop,
            stop_error=stop_error,
            aggregate=aggregate,
            decoding=sampling or VoteConfig().decoding,
        )
        check_format_is_used(self._config.prompt_format, [self._config.prompt], "prompt")
        self._grade = grade or GradeConfig()
        given = model if isinstance(model, ModelConfig) else ModelConfig(path=str(model))
        self._abstention = read_abstention(calibration, risk, confidence, given, self._config)
        settings = (engine or installed_engine()).serving(given)
        made = (
            make_engine(given, settings, seed)
            if make_engine
            else start_engine(_checked(given, settings), settings, seed, scope=None)
        )
        self._seed = seed if settings.deterministic else None
        self._slots = asyncio.Semaphore(settings.rows_in_flight)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="stj-judge", daemon=True).start()
        starting = asyncio.run_coroutine_threadsafe(made, self._loop)
        try:
            self._engine = starting.result()
        except BaseException:
            starting.cancel()  # for example after Ctrl-C: the engine that starts ends too
            self._loop.call_soon_threadsafe(self._loop.call_later, _CLOSING_S, self._loop.stop)
            raise
        self._closing = threading.RLock()  # A question that came to the loop after its end would never be answered.
        self._end = weakref.finalize(self, _end, self._loop, self._engine)  # Also closes a judge that nobody closed.

    def compare(self, instruction: Instruction, response_a: str, response_b: str) -> PairVerdict:
        """Compares two responses: the verdict, the votes of both orders, and the share of votes that agree.

        A pair that cannot be judged has no verdict, and its `error` says why: for example, its prompt is longer than the
        model's context. Raises SourceError if the instruction or a response has a wrong type, and EngineDied if the engine has
        ended or the judge is closed.
        """
        return self._start(self._compare(instruction, response_a, response_b, self._config)).result()

    def compare_many(self, pairs: Iterable[tuple[Instruction, str, str]]) -> list[PairVerdict]:
        """Compares many pairs at once: tuples of instruction, response_a and response_b.

        Returns the results in the order of the pairs. The engine works on up to `engine.rows_in_flight` pairs at a time. Raises
        the errors of `compare`.
        """
        return self._start(self._compare_all(_triples(pairs), self._config)).result()

    async def acompare(self, instruction: Instruction, response_a: str, response_b: str) -> PairVerdict:
        """Compares two responses from a coroutine, on any event loop in any thread. Raises the errors of `compare`."""
        return await asyncio.wrap_future(self._start(self._compare(instruction, response_a, response_b, self._config)))

    def reward(self, instruction: Instruction, response: str, reference: str) -> float:
        """Scores a response against a reference, from -1 (worse) to 1 (better): the mean vote, `PairVerdict.reward`.

        All votes are asked, because their mean is wanted. Position bias cancels because both orders count. A pair that cannot
        be judged scores 0. Raises the errors of `compare`.
        """
        return self.rewards([(instruction, response, reference)])[0]

    def rewards(self, pairs: Iterable[tuple[Instruction, str, str]]) -> list[float]:
        """The `reward` of many pairs at once: tuples of instruction, response and reference. Raises the errors of `compare`."""
        return [result.reward for result in self._by_every_vote(_triples(pairs))]

    async def arewards(self, pairs: Iterable[tuple[Instruction, str, str]]) -> list[float]:
        """The `rewards` of many pairs from a coroutine, on any event loop in any thread. Raises the errors of `compare`."""
        asked = self._compare_all(_triples(pairs), replace(self._config, stop="all"))
        return [result.reward for result in await asyncio.wrap_future(self._start(asked))]

    def grade(
        self,
        instruction: Instruction,
        response: str,
        rubric: Rubric | str | Path,
        reference: str | None = None,
        context: str | None = None,
    ) -> RubricGrade:
        """Grades one response by a rubric: its score, the distribution over the scale, the feedback and the confidence.

        `rubric` is a rubric, the name of one in the library (docs/rubrics.md), or a file of one. A response that cannot be
        graded has no score, and its `error` says why: for example, it is empty, or the rubric needs a reference.

        Raises ConfigError if there is no such rubric, SourceError if a text has a wrong type, and EngineDied if the engine has
        ended or the judge is closed.
        """
        request = _request(instruction, response, rubric, reference, context)
        return self._start(self._graded(request)).result()

    def grade_many(self, requests: Iterable[GradeRequest]) -> list[RubricGrade]:
        """Grades many responses at once, or one by several rubrics; the results are in the order of the requests.

        `stj.judging.grading.total_of` makes one figure of several rubrics. Raises the errors of `grade`.
        """
        listed = list(requests)
        for number, asked in enumerate(listed):
            if not isinstance(asked, GradeRequest):
                raise SourceError(f"request {number}: {type(asked).__name__}; a request is a GradeRequest")
        return self._start(self._all_graded([replace(asked, rubric=given_rubric(asked.rubric)) for asked in listed])).result()

    def rank(
        self, instruction: Instruction, responses: Sequence[str], method: Literal["all", "tournament"] = "all"
    ) -> list[RankedResponse]:
        """Ranks responses by comparing pairs of them, from the strongest to the weakest; `place` is that in the list.

        `all` compares each two. `tournament` compares fewer: each round pairs responses of similar strength. All votes on a
        pair are asked, because their mean is wanted. A pair that cannot be judged, or none of whose judgments holds a verdict,
        is no comparison.

        Raises ConfigError for another method, SourceError if the responses are one text, and the errors of `compare`.
        """
        if method not in ("all", "tournament"):
            raise ConfigError(f"method={method}: must be one of 'all', 'tournament'")
        if isinstance(responses, str):
            raise SourceError("responses is one text; rank takes a list of them")
        listed = list(responses)
        if method == "all":
            return strengths(len(listed), self._compared(instruction, listed, all_pairs(len(listed))))
        tournament, comparisons = Tournament(len(listed)), list[Comparison]()
        for _ in range(tournament.rounds):
            comparisons += self._compared(instruction, listed, tournament.next_round(comparisons))
        return strengths(len(listed), comparisons)

    def _compared(self, instruction: Instruction, responses: Sequence[str], pairs: Sequence[Pairing]) -> list[Comparison]:
        asked = [(instruction, responses[first], responses[second]) for first, second in pairs]
        return [
            Comparison(first=first, second=second, share=(1 + verdict.reward) / 2)
            for (first, second), verdict in zip(pairs, self._by_every_vote(asked), strict=True)
            if any(self._is_read(vote) for vote in verdict.votes)
        ]

    def _by_every_vote(self, pairs: Sequence[tuple[Instruction, str, str]]) -> list[PairVerdict]:
        return self._start(self._compare_all(pairs, replace(self._config, stop="all"))).result()

    def _is_read(self, vote: Vote) -> bool:
        """Whether a vote has a verdict, which may be a tie."""
        if vote.scores is not None:
            return None not in vote.scores
        wording = variant_of(self._config.prompt).wording
        return vote.verdict is not None or parse(vote.text, wording, self._config.parser) is not None

    async def agrade(
        self,
        instruction: Instruction,
        response: str,
        rubric: Rubric | str | Path,
        reference: str | None = None,
        context: str | None = None,
    ) -> RubricGrade:
        """Grades one response from a coroutine, on any event loop in any thread. Raises the errors of `grade`."""
        request = _request(instruction, response, rubric, reference, context)
        return await asyncio.wrap_future(self._start(self._graded(request)))

    def close(self) -> None:
        """Stops the engine and cancels open requests. A second call does nothing."""
        with self._closing:
            self._end()

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        with self._closing:
            if not self._end.alive:
                work.close()
                raise EngineDied("this judge is closed; make a new one")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _seeds(self) -> RequestSeeds | None:
        """The seeds of one comparison: they come from what is asked, so the same pair gets the same votes again."""
        return None if self._seed is None else RequestSeeds(self._seed, "")

    async def _compare_all(self, pairs: Sequence[tuple[Instruction, str, str]], config: VoteConfig) -> list[PairVerdict]:
        return list(await asyncio.gather(*(self._compare(*pair, config) for pair in pairs)))

    async def _compare(self, instruction: Instruction, response_a: str, response_b: str, config: VoteConfig) -> PairVerdict:
        async with self._slots:
            try:
                result = await compare_responses(
                    instruction, response_a, response_b, TokenCounter(self._engine.generate, seeds=self._seeds()), config
                )
            except RequestFailed as error:
                result = PairVerdict(votes=(), error=str(error))
        return self._abstention.applied(result) if self._abstention else result

    async def _all_graded(self, requests: Sequence[GradeRequest]) -> list[RubricGrade]:
        return list(await asyncio.gather(*map(self._graded, requests)))

    async def _graded(self, request: GradeRequest) -> RubricGrade:
        async with self._slots:
            try:
                return await grade_response(request, TokenCounter(self._engine.generate, seeds=self._seeds()), self._grade)
            except RequestFailed as error:
                asked = given_rubric(request.rubric)
                return RubricGrade(rubric=asked.name, points=asked.points, error=str(error))


def _request(
    instruction: Instruction, response: str, rubric: Rubric | str | Path, reference: str | None, context: str | None
) -> GradeRequest:
    asked = given_rubric(rubric)  # A file is read here, and not in the thread of the engine.
    return GradeRequest(instruction=instruction, response=response, rubric=asked, reference=reference, context=context)


async def compare_responses(
    instruction: Instruction, response_a: str, response_b: str, generate: Generate, config: VoteConfig
) -> PairVerdict:
    """Compares two responses with the model behind `generate`.

    Raises SourceError if the instruction or a response has a wrong type. Raises PromptTooLong, RequestFailed and EngineDied as
    `generate` does.
    """
    row = _open_row(instruction, response_a, response_b)
    return pair_verdict(row if row.ended else await vote(row, generate, config), config)


def _triples(pairs: Iterable[tuple[Instruction, str, str]]) -> list[tuple[Instruction, str, str]]:
    """The pairs as a list. Raises SourceError if one is not an instruction with two responses."""
    listed = list(pairs)
    for number, pair in enumerate(listed):
        if isinstance(pair, str | Mapping) or not isinstance(pair, Sequence) or len(pair) != 3:
            raise SourceError(f"pair {number}: {type(pair).__name__}; a pair is a tuple of an instruction and two responses")
    return listed


def _open_row(instruction: object, response_a: object, response_b: object) -> Row:
    responses = [text_of(value, name, "the pair") for name, value in (("response_a", response_a), ("response_b", response_b))]
    pair = Pair(method=OPEN, chosen=responses[0], rejected=responses[1])
    turns = turns_from(instruction, "instruction", "the pair")
    return usable(Row(id="pair", position=0, task=HELDOUT, turns=turns, pair=pair))


def _end(loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
    """Ends an engine and its loop without waiting, because the garbage collector may call this in the loop's thread."""
    loop.call_soon_threadsafe(_cancel_all, loop)
    engine.close()
    loop.call_soon_threadsafe(loop.call_later, _CLOSING_S, loop.stop)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


def _checked(model: ModelConfig, engine: EngineConfig) -> ModelConfig:
    """The model with its own context. Raises ModelError before an engine starts if it cannot be used."""
    model = model_here(model, engine)
    require(check_model_use(ModelUse(roles=("model",), model=model, limited=False)))
    return model
