"""With a key, every route of vLLM's server but /health asks for it, also the routes that a new version may have."""

import asyncio
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import MagicMock

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from starlette.types import Message, Receive, Scope, Send

from stj.cli import main
from stj.errors import ConfigError
from stj.judging.key_guard import KeyGuard, sendable_key, server_keys

KEY = "secret-of-the-server"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    """vLLM's own server with our plugin and every route that it can have, without a model."""
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.tasks import FRONTEND_TASKS, GENERATION_TASKS, POOLING_TASKS
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"VLLM_PLUGINS": "stj", "VLLM_API_KEY": KEY, "VLLM_SERVER_DEV_MODE": "1"}.items():
            patch.setenv(name, value)
        args = make_arg_parser(FlexibleArgumentParser()).parse_args(
            ["--enable-scale-out", "--enable-offline-docs", "--enable-tokenizer-info-endpoint"]
        )
        tasks, model = (*GENERATION_TASKS, *POOLING_TASKS, *FRONTEND_TASKS), MagicMock()
        model.get_pooling_task.return_value = "classify"
        app = build_app(args, tasks, model)
        if not any(getattr(route, "path", "") == "/v1/judge" for route in app.routes):
            pytest.skip("this environment's stj was installed before it had an endpoint: make install")
        yield app


def paths_of(app: FastAPI) -> list[str]:
    """Each route's path as a request may write it."""
    plain = {str(getattr(route, "path", "/nowhere")).replace("{", "").replace("}", "") for route in app.routes} | {"/nowhere"}
    return sorted(
        form for path in plain for form in (path, f"{path}/", f"/{path}", f"/%{ord(path[1]):x}{path[2:]}", f"{path}/x")
    )


def statuses(app: Any, asked: Sequence[tuple[str, str]], headers: dict[str, str] | None = None) -> list[tuple[str, str, int]]:
    async def ask() -> list[tuple[str, str, int]]:
        async with AsyncClient(transport=ASGITransport(app=app, raise_app_exceptions=False), base_url="http://stj") as client:
            return [(method, path, (await client.request(method, path, headers=headers)).status_code) for method, path in asked]

    return asyncio.run(ask())


@pytest.mark.slow
def test_no_route_of_vllms_server_answers_without_the_key(app: FastAPI) -> None:
    paths = [path for path in paths_of(app) if path not in ("/health", "/%68ealth")]
    assert {"/invocations", "/tokenize", "/metrics", "/docs", "/openapi.json", "/v1/judge", "/collective_rpc"} <= set(paths)
    answers = statuses(app, [(method, path) for path in paths for method in METHODS])
    assert [answer for answer in answers if answer[2] != 401] == []


@pytest.mark.parametrize(
    "given", ["Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer  {KEY}", "Bearer é"]
)
def test_a_wrong_key_is_none(app: FastAPI, given: str) -> None:
    headers: Any = {"Authorization": given.encode()}
    answers = statuses(app, [("GET", path) for path in ("/docs", "/version", "/v1/models", "/metrics")], headers)
    assert {status for _, _, status in answers} == {401}


@pytest.mark.slow
def test_the_key_opens_the_routes_and_health_is_open(app: FastAPI) -> None:
    answers = statuses(
        app, [("GET", path) for path in ("/docs", "/openapi.json", "/metrics", "/version")], {"Authorization": f"bearer {KEY}"}
    )
    assert {status for _, _, status in answers} == {200}
    assert 401 not in {status for _, _, status in statuses(app, [("GET", "/health"), ("HEAD", "/health")])}


def test_no_websocket_opens_without_the_key(app: FastAPI) -> None:
    sockets = [route.path for route in app.routes if "WebSocket" in type(route).__name__]
    assert "/v1/realtime" in sockets
    for path in [*sockets, "/nowhere"]:
        sent: list[Message] = []

        async def keep(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "scheme": "ws", "subprotocols": []}
        asyncio.run(app(scope, receive, keep))
        assert sent[0]["type"] in ("websocket.close", "websocket.http.response.start", "http.response.start")


def guarded(keys: Sequence[str]) -> KeyGuard:
    async def hello(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    return KeyGuard(hello, keys)


def test_each_of_several_keys_opens_and_the_answer_names_none() -> None:
    app = guarded(["one", "two"])

    async def ask(*headers: tuple[str, str]) -> tuple[int, str, str | None]:
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://stj") as client:
            answer = await client.get("/x", headers=list(headers))
            return answer.status_code, answer.text, answer.headers.get("www-authenticate")

    assert [asyncio.run(ask(("Authorization", f"Bearer {key}")))[0] for key in ("one", "two", "three")] == [200, 200, 401]
    assert asyncio.run(ask(("Authorization", "Bearer one"), ("Authorization", "Bearer x")))[0] == 401
    status, text, challenge = asyncio.run(ask(("Authorization", "Bearer guess")))
    assert (status, challenge) == (401, "Bearer")
    assert "Authorization: Bearer KEY" in text
    assert not any(key in text for key in ('one"', "two", "guess"))


@pytest.mark.parametrize("key", ["", " ", "a b", "kéy", "key\n", "\tkey", "k\0y"])
def test_a_key_that_cannot_be_sent_is_refused_before_the_start(
    key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\0" not in key:
        monkeypatch.setenv("VLLM_API_KEY", key)
        assert main(["serve", "package://mini/seed_model"]) == 2
        line = capsys.readouterr().err
        assert line.startswith("stj: VLLM_API_KEY ")
        assert line.count("\n") == 1
    with pytest.raises(ConfigError) as refusal:
        sendable_key(key, "--api-key")
    assert not key.strip() or key not in str(refusal.value)


def test_keys_on_the_command_line_stand_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "environment")
    assert server_keys(Namespace(api_key=["a", "b"])) == ["a", "b"]
    assert server_keys(Namespace(api_key=None)) == ["environment"]
    monkeypatch.delenv("VLLM_API_KEY")
    assert server_keys(None) == []
