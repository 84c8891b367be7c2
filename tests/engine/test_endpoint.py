"""The engine of a model behind an API, against a real server that behaves or misbehaves."""

import asyncio
import email.utils
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from stj.config import ModelConfig
from stj.engine import endpoint
from stj.engine.endpoint import EndpointEngine, Pace
from stj.errors import ConfigError, EndpointError, EngineDied, PromptTooLong, RequestFailed
from stj.generate import Completion, Sampling, TracedSampling, Usage
from stj.rows import Turn
from tests.conftest import soon
from tests.engine.api_server import KEY, Api, Reply, api, refused, said

ASKED = [Turn(role="system", content="Be brief."), Turn(role="user", content="2 + 2?")]
SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_tokens=64)
FILTER = "The response was filtered"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", KEY)
    monkeypatch.setattr(endpoint, "_WAITS_S", (0.01, 0.01, 0.01))  # the waits' lengths are not what is tested


def model(server: Api, **settings: Any) -> ModelConfig:
    return ModelConfig(endpoint=server.url, name="judge-1", key_variable="TEST_API_KEY", **settings)


def ask(server: Api, *, times: int = 1, sampling: Sampling = SAMPLING, **settings: Any) -> tuple[list[Any], Usage]:
    """The completions or errors of requests at once, and the engine's usage."""

    async def ask_all() -> tuple[list[Any], Usage]:
        engine = EndpointEngine(model(server, **settings))
        results = await asyncio.gather(*(engine.generate(ASKED, sampling) for _ in range(times)), return_exceptions=True)
        engine.close()
        await asyncio.sleep(0)
        return list(results), engine.usage

    return asyncio.run(ask_all())


def served(replies: Sequence[Reply]) -> Callable[[dict[str, Any], int], Reply]:
    """Sends these replies, one a request; the last one again for every further request."""
    return lambda body, number: replies[min(number, len(replies) - 1)]


def test_a_request_holds_the_messages_the_sampling_and_the_key() -> None:
    with api(served([said("It is 4.")])) as server:
        [completion], usage = ask(server)
    assert completion == Completion(text="It is 4.", finish_reason="stop", prompt_tokens=100, output_tokens=10)
    assert usage == Usage(prompt_tokens=100, computed_tokens=100, output_tokens=10)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    sampling = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 64}
    assert server.requests == [{"model": "judge-1", "messages": messages, **sampling}]
    assert server.keys == [f"Bearer {KEY}"]


def traced(logprobs: Any) -> Reply:
    """A chat completion with this under `logprobs`."""
    reply = said("[[A]]")
    reply.body["choices"][0]["logprobs"] = logprobs
    return reply


def written(token: str, logprob: Any, **others: Any) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "top_logprobs": [{"token": t, "logprob": p} for t, p in others.items()]}


def test_log_probabilities_are_asked_for_and_read() -> None:
    content = [
        written("[[", 0.0),
        written("A", math.log(0.7), A=math.log(0.7), B=math.log(0.2)),
        written("]]", -math.inf, x=1e-9),
    ]
    with api(served([traced({"content": content})])) as server:
        [completion], _ = ask(server, sampling=TracedSampling(choices=5))
    assert {"logprobs": True, "top_logprobs": 5}.items() <= server.requests[0].items()
    assert [token.text for token in completion.tokens] == ["[[", "A", "]]"]
    choices = [dict(token.choices) for token in completion.tokens]
    assert choices == [{"[[": 1}, {"A": pytest.approx(0.7), "B": pytest.approx(0.2)}, {"]]": 0, "x": 1}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        "none",
        {"content": None},
        {"content": []},
        {"content": [{"token": "A", "logprob": -1}]},
        {"content": [written("A", None)]},
        {"content": [written("A", 3.0)]},
        {"content": [written("A", math.nan)]},
        {"content": [written("A", -1.0, B="high")]},
    ],
)
def test_an_api_without_log_probabilities_is_refused_only_if_they_are_needed(logprobs: Any) -> None:
    with api(served([traced(logprobs)])) as server:
        [error], _ = ask(server, sampling=TracedSampling(choices=5))
        [completion], _ = ask(server)
    assert isinstance(error, EndpointError)
    assert str(error).endswith(
        "gives no log-probabilities. vote.aggregate=distribution needs them: set vote.aggregate=majority"
    )
    assert (completion.text, completion.tokens) == ("[[A]]", ())
    assert "logprobs" not in server.requests[1]


def test_an_api_that_refuses_to_give_log_probabilities_says_what_to_do() -> None:
    for refusal in (refused(400, "Unrecognized: top_logprobs"), refused(422, "no", param="logprobs")):
        with api(served([refusal])) as server:
            [error], _ = ask(server, sampling=TracedSampling(choices=5))
        assert isinstance(error, EndpointError)
        assert "vote.aggregate=distribution needs them" in str(error)


def test_an_answer_without_text_needs_no_log_probabilities() -> None:
    with api(served([said("", "length")])) as server:
        [completion], _ = ask(server, sampling=TracedSampling(choices=5))
    assert completion.finish_reason == "length"


@pytest.mark.slow
@pytest.mark.parametrize(
    "bad",
    [
        refused(429, "slow down", retry_after="0.05"),
        refused(429, "slow down", retry_after=email.utils.formatdate(usegmt=True)),
        refused(429, "slow down", retry_after="soon"),
        refused(500, "oops"),
        Reply("<html>Bad gateway</html>", 502, {"Content-Type": "text/html"}),
        Reply("<html>Welcome</html>", 200, {"Content-Type": "text/html"}),
        Reply('{"choices": [', 200),
        Reply({"choices": []}),
        Reply({"error": {"message": "inside a 200"}}),
        Reply(b"\xff\xfe", 200),
        Reply("", 200),
        Reply(said("It is 4.").body, torn=True),
        Reply(said("It is 4.").body, wait_s=1.5),
        Reply(said("It is 4.").body, drip=True),
    ],
)
def test_a_fault_that_may_heal_is_tried_again(bad: Reply) -> None:
    late = bool(bad.wait_s or bad.drip)
    with api(served([bad, said("It is 4.")])) as server:
        [completion], usage = ask(server, **({"request_timeout_s": 1} if late else {}))
    assert completion.text == "It is 4."
    assert len(server.requests) == 2 or late  # on a busy machine the good answer may be late too
    assert usage.output_tokens == 10


def test_a_fault_that_stays_fails_the_row_with_the_servers_words_and_without_the_key() -> None:
    with api(served([refused(503, f"overloaded, {KEY}\nplease wait")])) as server:
        [error], _ = ask(server)
    assert isinstance(error, RequestFailed)
    assert str(error) == f"judge-1 at {server.url}: status 503, overloaded, [key] please wait"
    assert len(server.requests) == 4


def test_a_server_that_is_not_there_or_breaks_off_always_fails_the_row() -> None:
    with api(served([Reply(said("x").body, torn=True)])) as server:
        [torn], _ = ask(server)
    assert isinstance(torn, RequestFailed)
    [gone], _ = ask(server)  # closed by now
    assert isinstance(gone, RequestFailed)
    assert "onnect" in str(gone)


def test_retry_after_delays_other_requests_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pause, pauses = Pace.pause, threading.Event()

    def pause_and_say_so(pace: Pace, seconds: float) -> None:
        pause(pace, seconds)
        pauses.set()

    monkeypatch.setattr(Pace, "pause", pause_and_say_so)

    async def ask_twice(server: Api) -> list[Completion]:
        engine = EndpointEngine(model(server))
        first = asyncio.create_task(engine.generate(ASKED, SAMPLING))
        assert await asyncio.to_thread(pauses.wait, 60)
        return list(await asyncio.gather(first, engine.generate(ASKED, SAMPLING)))

    with api(served([refused(429, "slow down", retry_after="1"), said("4")])) as server:
        answers = asyncio.run(ask_twice(server))
    assert [answer.text for answer in answers] == ["4", "4"]
    assert [later - server.times[0] >= 1 for later in server.times[1:]] == [True, True]


def test_a_wait_of_hours_fails_the_row_at_once() -> None:
    with api(served([refused(429, "daily quota", retry_after="7200")])) as server:
        [error], _ = ask(server)
    assert isinstance(error, RequestFailed)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refused(401, f"Incorrect API key provided: {KEY}"), "provided: [key]. Check the key in TEST_API_KEY"),
        (refused(403, "no access to this model"), "Check the key in TEST_API_KEY"),
        (refused(404, "The model `judge-1` does not exist", "model_not_found"), "Check endpoint and name"),
        (Reply("<html>Not found</html>", 404, {"Content-Type": "text/html"}), "Check endpoint and name"),
        (refused(429, "You exceeded your current quota", "insufficient_quota"), "exceeded your current quota"),
        (refused(400, "Unsupported value", "unsupported_value", "temperature"), "Set fixed_sampling=true"),
    ],
)
def test_what_would_fail_every_request_ends_the_pass_at_once(reply: Reply, words: str) -> None:
    with api(served([reply])) as server:
        [error], _ = ask(server)
    assert isinstance(error, EndpointError)
    assert words in str(error)
    assert KEY not in str(error)
    assert "\n" not in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "completion"),
    [
        (said(None, refusal="I cannot judge that."), ("I cannot judge that.", "refusal")),
        (said("", "content_filter"), ("", "content_filter")),
        (said(None), ("", "stop")),
        (said("The answer", "length"), ("The answer", "length")),
        (refused(400, FILTER, "content_filter"), ("", "content_filter")),
        (refused(403, "Your input was flagged"), ("", "content_filter")),
    ],
)
def test_refusals_and_cut_answers_are_data(reply: Reply, completion: tuple[str, str]) -> None:
    with api(served([reply])) as server:
        [answer], _ = ask(server)
    assert (answer.text, answer.finish_reason) == completion
    assert answer.refused == (completion[1] in ("refusal", "content_filter"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": -1, "completion_tokens": 10**30},
        {"prompt_tokens": "many", "completion_tokens": 1.5},
        {},
        [],
        "none",
    ],
)
def test_an_answer_is_paid_for_and_kept_whatever_its_usage_says(usage: Any) -> None:
    with api(served([Reply(said("It is 4.").body | {"usage": usage})])) as server:
        [completion], counted = ask(server)
        [priced], _ = ask(server, dollars_per_million_prompt_tokens=1, dollars_per_million_output_tokens=1)
        assert len(server.requests) == 2
    assert (completion.text, counted) == ("It is 4.", Usage())
    assert "reports no usage" in str(priced)


def test_details_of_the_usage_may_have_any_form() -> None:
    usage = {"prompt_tokens": 7.0, "completion_tokens": 2, "prompt_tokens_details": [{"modality": "TEXT", "tokenCount": 7}]}
    with api(served([Reply(said("It is 4.").body | {"usage": usage})])) as server:
        assert ask(server)[1] == Usage(prompt_tokens=7, computed_tokens=7, output_tokens=2)


def test_a_content_in_parts_is_read() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2 "}, {"type": "text", "text": "are 4"}]}
    parts = [thought, {"type": "text", "text": "It is "}, {"type": "reference"}, {"type": "text", "text": "4."}, "?"]
    with api(served([said(parts)])) as server:  # type: ignore[arg-type]
        [completion], _ = ask(server)
    assert (completion.thought, completion.text) == ("<think>\n2 and 2 are 4\n</think>\n\n", "It is 4.")


def test_half_a_surrogate_pair_and_fields_of_other_kinds_are_no_reason_to_ask_again() -> None:
    with api(served([said("It is 4 \ud83d.", reasoning={"steps": 1}, refusal=False)])) as server:
        [completion], _ = ask(server)
        assert len(server.requests) == 1
    assert completion.text == "It is 4 \ufffd."


def test_half_a_surrogate_pair_in_a_prompt_is_sent_as_a_replacement() -> None:
    async def generate() -> Completion:
        return await EndpointEngine(model(server)).generate([Turn(role="user", content="2 \ud83d?")], SAMPLING)

    with api(served([said("It is 4.")])) as server:
        assert asyncio.run(generate()).text == "It is 4."
        assert server.requests[0]["messages"][0]["content"] == "2 \ufffd?"


@pytest.mark.parametrize(
    "reply",
    [
        said(f"You sent {KEY}."),
        said("yes", reasoning_content=KEY),
        said(None, refusal=KEY),
        said([{"type": "text", "text": KEY}]),
    ],  # type: ignore[arg-type]
)
def test_a_server_that_repeats_the_key_in_an_answer_does_not_bring_it_to_the_disk(reply: Reply) -> None:
    with api(served([reply])) as server:
        [completion], _ = ask(server)
    assert "[key]" in completion.thought + completion.text
    assert KEY not in repr(completion)


@pytest.mark.parametrize(
    "environment",
    [{"ALL_PROXY": "ftp://proxy"}, {"ALL_PROXY": "socks5://127.0.0.1:9"}, {"SSL_CERT_FILE": "/nowhere/certificates.pem"}],
)
def test_an_environment_that_no_client_can_use_is_one_line(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with api(served([said("It is 4.")])) as server, pytest.raises(ConfigError, match=r"no client can be made.*SSL_CERT_FILE"):
        ask(server)


@pytest.mark.parametrize(
    "url",
    ["http://[::1/v1", "http://host:99999/v1", "http://host:abc/v1", "http://host\0/v1", "http://ho st/v1", "http://host/v1 "],
)
def test_an_endpoint_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="endpoint of the model m: not a URL"):
        ModelConfig(endpoint=url, name="m")


def test_the_detail_of_a_refusal_is_told() -> None:
    with api(served([Reply({"detail": "Not authenticated"}, 401)])) as server:
        assert "status 401, Not authenticated" in str(ask(server)[0][0])


def test_an_answer_without_a_finish_reason_fails_the_row() -> None:
    with api(served([said("The answer", None)])) as server:
        [error], _ = ask(server)
    assert isinstance(error, RequestFailed)
    assert "finish_reason" in str(error)


@pytest.mark.parametrize(
    "reply",
    [
        refused(400, "too long", "context_length_exceeded"),
        refused(400, "This model's maximum context length is 2048 tokens. However, your prompt contains 9000 input tokens"),
        refused(413, "prompt is too long: 300000 tokens > 200000 maximum"),
    ],
)
def test_a_prompt_over_the_context_is_too_long(reply: Reply) -> None:
    with api(served([reply])) as server:
        [error], _ = ask(server)
    assert isinstance(error, PromptTooLong)


def test_an_answer_is_shortened_to_what_the_context_leaves() -> None:
    words = (
        "This model's maximum context length is 2048 tokens. However, you requested 2100 tokens (2000 in the messages, 100 in"
    )
    with api(served([refused(400, f"{words} the completion)."), said("4")])) as server:
        [answer], _ = ask(server, sampling=Sampling(max_tokens=100))
    assert answer.text == "4"
    assert [request["max_tokens"] for request in server.requests] == [100, 48]


def test_a_model_that_wants_max_completion_tokens_gets_it_from_then_on() -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

    def answer(body: dict[str, Any], number: int) -> Reply:
        return refused(400, words, "unsupported_parameter", "max_tokens") if "max_tokens" in body else said("4")

    with api(answer) as server:
        results, _ = ask(server, times=2, parallel_requests=1, fixed_sampling=True)
    assert [result.text for result in results] == ["4", "4"]
    assert [request.get("max_completion_tokens") for request in server.requests] == [None, 64, 64]
    assert "temperature" not in server.requests[0]


@pytest.mark.slow
def test_requests_at_once_and_in_a_minute_are_limited_retries_included() -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        reply = refused(500, "oops") if number % 2 else said("4")
        reply.wait_s = 0.05
        return reply

    with api(answer) as server:
        ask(server, times=12, parallel_requests=3)
        assert server.most_at_once == 3
        server.times.clear()
        started = time.monotonic()  # of the client: the server may meet the first request late, and the last at once
        ask(server, times=6, requests_per_minute=600)
    assert len(server.times) >= 6
    assert server.times[-1] - started >= 0.1 * (len(server.times) - 1)


def test_a_cancelled_request_frees_its_place() -> None:
    async def cancel_one(server: Api) -> str:
        engine = EndpointEngine(model(server, parallel_requests=1))
        first = asyncio.create_task(engine.generate(ASKED, SAMPLING))
        assert await asyncio.to_thread(soon, lambda: bool(server.requests))
        first.cancel()
        return (await engine.generate(ASKED, SAMPLING)).text

    with api(lambda body, number: Reply(said(str(number)).body, wait_s=0 if number else 2)) as server:
        assert asyncio.run(cancel_one(server)) == "1"


def test_requests_of_a_closed_engine_end() -> None:
    answer = threading.Event()

    def late(body: dict[str, Any], number: int) -> Reply:
        answer.wait(600)
        return said("4")

    async def close_while_asked(server: Api) -> tuple[EndpointEngine, list[Any]]:
        engine = EndpointEngine(model(server, parallel_requests=2))
        asked = [asyncio.create_task(engine.generate(ASKED, SAMPLING)) for _ in range(4)]  # two of them wait for a place
        while len(server.requests) < 2:
            await asyncio.sleep(0.01)
        for _ in range(2):
            engine.close()
        results = await asyncio.gather(*asked, return_exceptions=True)
        return engine, [*results, *await asyncio.gather(engine.generate(ASKED, SAMPLING), return_exceptions=True)]

    with api(late) as server:
        engine, results = asyncio.run(close_while_asked(server))
        answer.set()
    assert [(type(result), str(result)) for result in results] == [(EngineDied, "the engine is closed; start another one")] * 5
    engine.close()


def test_servers_without_usage_count_no_tokens_and_have_no_price() -> None:
    bare = said("4")
    del bare.body["usage"]
    with api(served([bare])) as server:
        [answer], usage = ask(server)
        assert (answer.output_tokens, usage) == (0, Usage())
        prices = {"dollars_per_million_prompt_tokens": 1.0, "dollars_per_million_output_tokens": 2.0}
        [error], _ = ask(server, **prices)
    assert isinstance(error, EndpointError)
    assert "reports no usage" in str(error)


@pytest.mark.parametrize("value", ["", "  ", "two words", "line\nbreak", "clé"])
def test_a_variable_without_a_key_is_refused_before_any_request(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", value)
    with api(served([said("4")])) as server, pytest.raises(ConfigError, match="TEST_API_KEY") as caught:
        ask(server)
    assert not value.strip() or value not in str(caught.value)
    assert server.requests == []


def test_a_key_may_end_with_a_line_break_and_none_is_sent_without_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", f"{KEY}\n")
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "of-another-service")
    with api(served([said("4")])) as server:
        ask(server)

        async def without_key() -> Completion:
            return await EndpointEngine(ModelConfig(endpoint=server.url, name="m")).generate(ASKED, SAMPLING)

        asyncio.run(without_key())
    assert server.keys[0] == f"Bearer {KEY}"
    assert server.keys[1] is None
    assert set(server.accounts) == {None}


def test_pace_spaces_turns_evenly() -> None:
    async def three() -> float:
        pace = Pace(per_minute=1200)
        started = time.monotonic()
        await asyncio.gather(*(pace.turn() for _ in range(3)))
        return time.monotonic() - started

    assert asyncio.run(three()) >= 0.1
