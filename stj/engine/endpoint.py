"""The engine of a model behind an API: the official client of OpenAI, for any server that speaks its chat completions.

What the server answers decides what becomes of a request:

    429, 408, 409, 5xx                      sent again, after Retry-After if the server names a time
    no connection, a time-out, a torn or
    unreadable answer                       sent again
    401, 402, 403, 404, no quota left       EndpointError: every other request would fail too
    400: the prompt is too long             PromptTooLong
    400: refused by a content filter        a completion without text, finish reason "content_filter"
    another 4xx, or no tries left           RequestFailed
    a refusal of the model                  a completion with finish reason "refusal"
    no log-probabilities, if asked for      EndpointError

The key is sent in a header and nowhere else. Servers may repeat it, so it is taken out of every error and every answer.
"""

import asyncio
import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import openai
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from stj.config import ModelConfig
from stj.errors import ConfigError, EndpointError, EngineDied, PromptTooLong, RequestFailed
from stj.generate import Completion, Sampling, SeededSampling, Token, TracedSampling, Usage
from stj.models.api_key import api_key
from stj.rows import Turn
from stj.text import without_surrogates
from stj.thoughts import Reply, join_thought

_WAITS_S = (0.5, 1, 2, 4, 8, 16, 30)  # Waits between the tries of a request; about a minute in all.
_LONGEST_WAIT_S = 300.0  # Give up if the server asks for a longer wait: it means a quota of hours or days.
_LONGEST_REASON = 300  # Characters of a server's message in an error: a proxy may answer with a whole page.
_AGAIN = frozenset({408, 409, 429, *range(500, 600)})
_HOPELESS = frozenset({401, 402, 403, 404})
_REFUSED = frozenset({400, 413, 422})
_NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_TOO_LONG = re.compile(r"maximum context length|context[_ ]length|context window|prompt is too long", re.IGNORECASE)
_ROOM = re.compile(r"maximum context length is (\d+) tokens.*?\((\d+) in the (?:messages|prompt|input)", re.DOTALL)
_FILTERED = "content_filter"
_NO_LOGPROBS = "vote.aggregate=distribution needs them: set vote.aggregate=majority"
_ACCOUNT_HEADERS = ("OpenAI-Organization", "OpenAI-Project")  # The client takes them from the environment for any server.
_MOST_TOKENS = 10**9  # No answer counts more; a column of the artifact could not hold 10**30.


def _words(value: Any) -> Any:
    """The text of a field, without lone surrogates; None for what is not text."""
    return without_surrogates(value) if isinstance(value, str) else None


def _text_of(parts: Any, kind: str) -> str:
    """The text of the parts of one kind in a content that is a list of parts; a thought is a list of parts itself."""
    texts = (
        _text_of(part.get(kind), "text") if isinstance(part.get(kind), list) else _words(part.get(kind)) or ""
        for part in (parts if isinstance(parts, list) else [])
        if isinstance(part, dict)
    )
    return "".join(texts)


def _content(value: Any) -> Any:
    return _text_of(value, "text") if isinstance(value, list) else _words(value)


def _count(value: Any) -> int | None:
    """A number of tokens; None for what is no such number, because an answer is paid for whatever its usage says."""
    is_count = isinstance(value, int | float) and 0 <= value <= _MOST_TOKENS and value == int(value)
    return int(value) if is_count else None


def _mapping(value: Any) -> Any:
    return value if isinstance(value, dict) else None


_Words = Annotated[str | None, BeforeValidator(_words)]
_Count = Annotated[int | None, BeforeValidator(_count)]


class _Message(BaseModel):
    content: Annotated[str | None, BeforeValidator(_content)] = None
    refusal: _Words = None
    reasoning_content: _Words = None
    reasoning: _Words = None  # what newer versions of vLLM's server call it

    @model_validator(mode="before")
    @classmethod
    def _with_thought(cls, message: Any) -> Any:
        """The message of Mistral's API, whose content has a thought among its parts, with the thought apart."""
        if isinstance(message, dict) and (thought := _text_of(message.get("content"), "thinking")):
            return {"reasoning_content": thought, **message}
        return message


class _Alternative(BaseModel):
    token: str
    logprob: float = Field(lt=0.01)  # a rounded 0; NaN is refused too

    @property
    def choice(self) -> tuple[str, float]:
        return without_surrogates(self.token), min(1.0, math.exp(self.logprob))


class _WrittenToken(_Alternative):
    top_logprobs: list[_Alternative]


class _Logprobs(BaseModel):
    content: list[_WrittenToken]


def _tokens(logprobs: Any) -> tuple[Token, ...]:
    """The written tokens with their alternatives, among which some servers do not name the written one; none if unreadable."""
    try:
        written = _Logprobs.model_validate(logprobs).content
    except ValidationError:
        return ()
    return tuple(
        Token(text=token.choice[0], choices=tuple({other.choice: None for other in (token, *token.top_logprobs)}))
        for token in written
    )


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: Any = None


class _CachedTokens(BaseModel):
    cached_tokens: _Count = None


class _Tokens(BaseModel):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    prompt_tokens_details: Annotated[_CachedTokens | None, BeforeValidator(_mapping)] = None


class _Answer(BaseModel):
    """The part of a chat completion that stj reads. Other fields may have any form."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Tokens | None, BeforeValidator(_mapping)] = None


class EndpointEngine:
    """A model behind an API, as an `Engine`. It must be used in one event loop."""

    def __init__(self, model: ModelConfig) -> None:
        """Connects to nothing yet. Raises ConfigError if the environment lacks the key, or holds proxies that are of no use."""
        self._model = model
        self._key = api_key(model)
        self._client = _client(model, self._key)
        unsent = _ACCOUNT_HEADERS if self._key else (*_ACCOUNT_HEADERS, "Authorization")
        self._headers = {name: openai.Omit() for name in unsent}
        self._pace = Pace(model.requests_per_minute)
        self._slots = asyncio.Semaphore(model.parallel_requests)
        self._loop = asyncio.get_running_loop()
        self._length_parameter = "max_tokens"
        self._hopeless: EndpointError | None = None
        self.usage = Usage()

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """One completion; the request is aborted if the caller is cancelled.

        Raises PromptTooLong, RequestFailed if the API does not answer this request, and EndpointError if it would answer none:
        then no further request is sent. Raises EngineDied if the engine is closed, also before the answer.
        """
        async with self._slots:
            if self._hopeless:
                raise EndpointError(str(self._hopeless))
            try:
                return await self._complete(messages, sampling, sampling.max_tokens)
            except EndpointError as error:
                self._hopeless = error
                raise
            except RuntimeError:  # httpx's word for a client that is closed
                if self._client.is_closed():
                    raise EngineDied("the engine is closed; start another one") from None
                raise

    def close(self) -> None:
        """Closes the connections, and ends open requests. Any thread may call it, also after the event loop."""
        with suppress(RuntimeError):  # the event loop is closed, and the connections with it
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._client.close()))

    async def _complete(self, messages: Sequence[Turn], sampling: Sampling, max_tokens: int) -> Completion:
        body = self._body(messages, sampling, max_tokens)
        try:
            completion = self._completion(await self._answer(body))
        except openai.APIStatusError as error:
            reason = self._reason(error)
            if "max_tokens" in body and "max_completion_tokens" in reason:  # what newer models of OpenAI call it
                self._length_parameter = "max_completion_tokens"
                return await self._complete(messages, sampling, max_tokens)
            if 0 < (room := _room(reason)) < max_tokens:
                return await self._complete(messages, sampling, room)
            if _is_filtered(error, reason):
                return Completion(text="", finish_reason=_FILTERED, prompt_tokens=0, output_tokens=0)
            raise self._failure(error) from None
        except openai.APIError as error:
            raise RequestFailed(f"{self._model.label}: {self._reason(error)}") from None
        except _Unreadable as error:
            raise RequestFailed(f"{self._model.label}: {error}") from None
        if "logprobs" in body and completion.text and not completion.tokens:
            raise EndpointError(f"{self._model.label}: gives no log-probabilities. {_NO_LOGPROBS}")
        return completion

    def _body(self, messages: Sequence[Turn], sampling: Sampling, max_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model.name,
            "messages": [{"role": turn.role, "content": without_surrogates(turn.content)} for turn in messages],
            self._length_parameter: max_tokens,
        }
        if isinstance(sampling, SeededSampling):
            body["seed"] = sampling.seed
        if variables := self._model.chat_options.variables:  # a field of vLLM's and SGLang's servers
            body["extra_body"] = {"chat_template_kwargs": variables}
        if isinstance(sampling, TracedSampling) and sampling.choices:
            body |= {"logprobs": True, "top_logprobs": sampling.choices}
        if not self._model.fixed_sampling:
            body |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        return body

    async def _answer(self, body: dict[str, Any]) -> _Answer:
        """The API's answer to a request, which is sent again while that may help."""
        for wait in _WAITS_S:
            try:
                return await self._try(body)
            except (openai.APIError, _Unreadable) as error:
                asked = _retry_after(error)
                if not _may_heal(error) or (asked or 0) > _LONGEST_WAIT_S:
                    raise
                if asked:
                    self._pace.pause(asked)
                await asyncio.sleep(wait if asked is None else asked)
        return await self._try(body)

    async def _try(self, body: dict[str, Any]) -> _Answer:
        await self._pace.turn()
        try:
            # The client's own time-out is for each piece of an answer: a server that sends a byte a second would never end.
            async with asyncio.timeout(self._model.request_timeout_s):
                raw = await self._client.chat.completions.with_raw_response.create(**body, extra_headers=self._headers)
                content = raw.http_response.content
        except TimeoutError:
            raise _Unreadable(f"no answer within request_timeout_s={self._model.request_timeout_s:g} s") from None
        try:
            return _Answer.model_validate(json.loads(content))
        except (ValidationError, ValueError, RecursionError):
            start = self._without_key(" ".join(content.decode(errors="replace").split()))[:_LONGEST_REASON]
            raise _Unreadable(f"not a chat completion: {start or 'nothing'}") from None

    def _completion(self, answer: _Answer) -> Completion:
        choice, tokens = answer.choices[0], answer.usage or _Tokens()
        read, written = tokens.prompt_tokens, tokens.completion_tokens
        if (read is None or written is None) and self._model.dollars_per_million_tokens:
            raise EndpointError(
                f"{self._model.label} reports no usage, so its dollars cannot be counted; leave out "
                "dollars_per_million_prompt_tokens and dollars_per_million_output_tokens"
            )
        cached = tokens.prompt_tokens_details.cached_tokens if tokens.prompt_tokens_details else None
        self.usage += Usage(
            prompt_tokens=read or 0,
            computed_tokens=max(0, (read or 0) - (cached or 0)),
            output_tokens=written or 0,
        )
        if not choice.finish_reason:
            raise RequestFailed(f"{self._model.label}: gives no finish_reason, so a cut answer would pass for a whole one")
        message, refusal = choice.message, self._without_key(choice.message.refusal or "")
        thought = self._without_key(message.reasoning_content or message.reasoning or "")
        reply = Reply(text=refusal) if refusal else join_thought(thought, self._without_key(message.content or ""))
        return Completion.of(
            reply,
            finish_reason="refusal" if refusal else self._without_key(choice.finish_reason),
            prompt_tokens=read or 0,
            output_tokens=written or 0,
            tokens=_tokens(choice.logprobs),
        )

    def _failure(self, error: openai.APIStatusError) -> EndpointError | RequestFailed:
        """What a status means for the row and for the pass."""
        text = f"{self._model.label}: status {error.status_code}, {self._reason(error)}"
        if error.status_code in _HOPELESS or error.code in _NO_QUOTA:
            return EndpointError(f"{text}. {self._remedy(error.status_code)}")
        if error.status_code in _REFUSED and error.param in ("temperature", "top_p"):
            return EndpointError(f"{text}. Set fixed_sampling=true to send neither temperature nor top_p")
        if error.status_code in _REFUSED and "logprobs" in f"{error.param} {error.body}":
            return EndpointError(f"{text}. {_NO_LOGPROBS}")
        return PromptTooLong(text) if error.status_code in _REFUSED and _is_too_long(error) else RequestFailed(text)

    def _remedy(self, status: int) -> str:
        if status == 404:
            return "Check endpoint and name; finished rows are kept"
        variable = self._model.key_variable
        where = (
            f"the key in {variable}" if variable else "whether it needs a key (set key_variable to a variable that holds it)"
        )
        return f"Check {where}; finished rows are kept"

    def _reason(self, error: openai.APIError) -> str:
        """The server's words, or what happened on the way, on one line and without the key."""
        body = error.body
        words = body.get("message") or body.get("detail") or body if isinstance(body, dict) else body
        text = str(words or error.__cause__ or error.message)
        return self._without_key(" ".join(text.split()))[:_LONGEST_REASON]

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def _client(model: ModelConfig, key: str | None) -> openai.AsyncOpenAI:
    """The client. Raises ConfigError for what it cannot use in this machine's environment."""
    try:
        return openai.AsyncOpenAI(
            base_url=model.endpoint,
            api_key=key or "none",  # without one the client would look for OPENAI_API_KEY, the key of another service
            timeout=model.request_timeout_s,
            max_retries=0,
        )
    except (ValueError, ImportError, OSError) as error:  # a proxy of an unknown kind, no file of certificates
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{model.label}: no client can be made: {reason}. Check the variables ALL_PROXY, HTTPS_PROXY, HTTP_PROXY and "
            "SSL_CERT_FILE of this machine"
        ) from None


class Pace:
    """Spaces requests evenly, so that no minute has more than `per_minute` of them, whichever minute it is."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Waits for the turn of the next request."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        self._next = at + self._interval
        if at > now:
            await asyncio.sleep(at - now)

    def pause(self, seconds: float) -> None:
        """Delays all later turns: the server has asked for a pause."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds)


class _Unreadable(RequestFailed):
    """No answer, or one that is no chat completion."""


def _may_heal(error: openai.APIError | _Unreadable) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in _AGAIN and error.code not in _NO_QUOTA
    return isinstance(error, openai.APIConnectionError | _Unreadable)


def _retry_after(error: openai.APIError | _Unreadable) -> float | None:
    """The seconds that the server asks to wait: a number, or the time until a date. None if it does not say."""
    if not isinstance(error, openai.APIStatusError):
        return None
    value = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _room(reason: str) -> int:
    """Tokens that a context leaves for the answer, where a server refuses max_tokens because of it; else 0."""
    match = _ROOM.search(reason)
    return int(match[1]) - int(match[2]) if match else 0


def _is_too_long(error: openai.APIStatusError) -> bool:
    return error.code == "context_length_exceeded" or bool(_TOO_LONG.search(str(error.body)))


def _is_filtered(error: openai.APIStatusError, reason: str) -> bool:
    """Whether a filter refused the content of this one request (Azure's form, then OpenRouter's)."""
    return error.code == _FILTERED or (error.status_code == 403 and "flagged" in reason)
