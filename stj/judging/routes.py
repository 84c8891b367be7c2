"""The routes that `stj serve` adds to vLLM's server: POST /v1/judge and POST /v1/grade.

A request names a prompt or a rubric of this package, or holds a rubric: it names no file, which would be one of the server's.
"""

import json
import math
from collections import Counter as Counts
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import Counter
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from stj.config import Aggregate, StopRule
from stj.errors import ConfigError, EngineDied, PromptTooLong, RequestFailed
from stj.judging.calibration import Abstention
from stj.judging.grading import GradeRequest, grade_response, total_of
from stj.judging.judge import compare_responses
from stj.monitoring import SERVER_METRICS
from stj.prompts.variants import VARIANTS
from stj.rubrics import Rubric, library, rubric, rubric_of
from stj.stages.runner import TokenCounter, together
from stj.text import without_surrogates
from stj.thoughts import shown_response

JUDGE = "/v1/judge"
GRADE = "/v1/grade"
_SHOWN = 40  # Repeat this many characters of a name in an error.
_MOST_VOTES = 64
"""Limit of a request's judgments in each order."""

_SETTINGS = {"prompt", "votes", "stop", "stop_error", "aggregate"}
"""Fields of a request that are settings of VoteConfig."""


_GRADE_SETTINGS = {"votes", "aggregate"}
"""Fields of a request for grades that are settings of GradeConfig."""
_MOST_RUBRICS = 32
"""Limit of a request's rubrics."""


class _StrictRequest(Request):
    """A request whose JSON names each key once: nothing says which of two texts is meant."""

    async def json(self) -> Any:
        """The body's value. Raises HTTPException if an object names a key twice."""
        return json.loads(await self.body(), object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        repeated = next(name for name, count in Counts(name for name, _ in pairs).items() if count > 1)
        raise HTTPException(400, f"the body names {without_surrogates(repeated)[:_SHOWN]!r} twice")
    return members


class _StrictRoute(APIRoute):
    """A route with strict JSON, whose error for a wrong body can be sent: it repeats the body's values.

    JSON or UTF-8 may not allow them.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with its errors changed."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(_StrictRequest(request.scope, request.receive))
            except RequestValidationError as error:
                raise RequestValidationError(_sendable(error.errors())) from None

        return handled


def _sendable(value: Any) -> Any:
    """The value without lone surrogates, infinity and NaN."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {_sendable(name): _sendable(member) for name, member in value.items()}
    return [_sendable(member) for member in value] if isinstance(value, list | tuple) else value


router = APIRouter(route_class=_StrictRoute)
[_VOTES] = SERVER_METRICS
_votes = Counter(_VOTES.name, _VOTES.description, _VOTES.labels)


class Message(BaseModel):
    """One turn of a dialogue."""

    role: str
    content: str


def _known_prompt(name: str) -> str:
    """The name of a prompt. A request names no file: it would read files of the server."""
    if name not in VARIANTS:
        raise ValueError(f"known prompts are {', '.join(VARIANTS)}")
    return name


def _given_rubric(value: object) -> Rubric:
    """A rubric of the library, or the one that a request holds."""
    try:
        if isinstance(value, Rubric):
            return value
        if isinstance(value, dict):
            return rubric_of(value, "rubric")
        if value not in library():
            raise ValueError(f"known rubrics are {', '.join(library())}; or give an object with criterion, scale and points")
        return rubric(str(value), "rubric")
    except ConfigError as error:
        raise ValueError(str(error)) from None


GivenRubric = Annotated[Any, BeforeValidator(_given_rubric)]


class PairRequest(BaseModel):
    """The body of a request to /v1/judge."""

    model_config = ConfigDict(extra="forbid")

    instruction: str | list[Message]
    response_a: str
    response_b: str
    prompt: Annotated[str, AfterValidator(_known_prompt)] | None = None
    votes: int | None = Field(default=None, ge=1, le=_MOST_VOTES)
    stop: StopRule | None = None
    stop_error: float | None = None
    aggregate: Aggregate | None = None

    @property
    def texts(self) -> list[str]:
        """All that the judge is shown, and so without the thoughts before responses."""
        return [*_contents(self.instruction), shown_response(self.response_a), shown_response(self.response_b)]


class GradeBody(BaseModel):
    """The body of a request to /v1/grade: one rubric, or several with their weights."""

    model_config = ConfigDict(extra="forbid")

    instruction: str | list[Message]
    response: str
    rubric: GivenRubric | None = None
    rubrics: list[GivenRubric] | None = Field(default=None, min_length=1, max_length=_MOST_RUBRICS)
    weights: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    reference: str | None = None
    context: str | None = None
    votes: int | None = Field(default=None, ge=1, le=_MOST_VOTES)
    aggregate: Aggregate | None = None

    @model_validator(mode="after")
    def _one_or_several(self) -> "GradeBody":
        if (self.rubric is None) == (self.rubrics is None):
            raise ValueError("give one of rubric and rubrics")
        if self.weights is not None and len(self.weights) != len(self.rubrics or ()):
            raise ValueError("weights has one number for each of rubrics")
        if len({by.digest for by in self.asked}) < len(self.asked):
            raise ValueError("rubrics holds a rubric twice")
        return self

    @property
    def asked(self) -> list[Rubric]:
        """The rubrics, one or several."""
        return self.rubrics or ([self.rubric] if self.rubric else [])

    @property
    def texts(self) -> list[str]:
        """All that the judge is shown for its longest rubric, and so without the thought before the response."""
        longest = max(self.asked, key=lambda by: len(by.packed))
        given = [text for text in (self.reference, self.context) if text is not None]
        return [*_contents(self.instruction), shown_response(self.response), *given, longest.criterion, *longest.descriptions]


@router.post(JUDGE)
async def judge_pair(pair: PairRequest, request: Request) -> dict[str, Any]:
    """Compares two responses: the better one, its share of the votes, the reward of A over B, and each judgment's text."""
    state = request.app.state
    abstention: Abstention | None = getattr(state, "stj_abstention", None)
    instruction = pair.model_dump()["instruction"]
    with _answered():
        state.stj_check_room(pair.texts)
        config = replace(state.stj_vote, **pair.model_dump(include=_SETTINGS, exclude_none=True))
        if abstention and config.key != state.stj_vote.key:
            raise ConfigError(f"this server's calibration is for its own settings of votes: leave out {_set_in(pair)}")
        verdict = await compare_responses(
            instruction, pair.response_a, pair.response_b, TokenCounter(state.stj_generate), config
        )
    _refuse(verdict.error, "judged")
    for vote in verdict.votes:
        _votes.labels(config.words.name, vote.verdict or "none").inc()
    return (abstention.applied(verdict) if abstention else verdict).plain()


@router.post(GRADE)
async def grade(body: GradeBody, request: Request) -> dict[str, Any]:
    """Grades one response: its score, the distribution over the scale, the feedback and the confidence, for each rubric."""
    state = request.app.state
    instruction = body.model_dump(include={"instruction"})["instruction"]
    with _answered():
        state.stj_check_room(body.texts)
        config = replace(state.stj_grade, **body.model_dump(include=_GRADE_SETTINGS, exclude_none=True))
        asked = [
            GradeRequest(
                instruction=instruction, response=body.response, rubric=by, reference=body.reference, context=body.context
            )
            for by in body.asked
        ]
        grades = await together(grade_response(given, TokenCounter(state.stj_generate), config) for given in asked)
    _refuse(next((given.error for given in grades if given.error), None), "graded")
    if body.rubric:
        return grades[0].plain()
    total = total_of(grades, body.weights or ())
    return {
        "grades": [given.plain() for given in grades],
        "total": total and total.total,
        "total_ci95": total and list(total.interval),
    }


@contextmanager
def _answered() -> Iterator[None]:
    """Answers each expected error with its status."""
    try:
        yield
    except (PromptTooLong, ConfigError) as error:
        raise HTTPException(400, str(error)) from None
    except EngineDied as error:
        raise HTTPException(503, str(error)) from None
    except RequestFailed as error:
        raise HTTPException(500, str(error)) from None


def _refuse(error: str | None, asked: str) -> None:
    """Refuses a request whose texts cannot be judged or graded."""
    if error:
        raise HTTPException(400, f"cannot be {asked}: {error}")


def _contents(instruction: str | list[Message]) -> list[str]:
    return [instruction] if isinstance(instruction, str) else [turn.content for turn in instruction]


def _set_in(pair: PairRequest) -> str:
    return ", ".join(sorted(pair.model_dump(include=_SETTINGS, exclude_none=True)))
