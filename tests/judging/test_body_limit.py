"""Bodies over the limit are refused before they are read, announced or not; others reach the application unchanged."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from stj.judging.body_limit import LEAST_BODY_BYTES, BodyLimit, most_bytes, most_characters

LIMIT = 100


def app_with(path: str | None = None, limit: int | None = LIMIT) -> FastAPI:
    app = FastAPI()
    app.add_middleware(BodyLimit, path=path)
    if limit is not None:
        app.state.stj_most_bytes = limit

    @app.post("/{rest:path}")
    async def size(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    @app.get("/health")
    async def health() -> str:
        return "well"

    return app


def send(app: FastAPI, content: Any, path: str = "/v1/judge") -> tuple[int, Any]:
    async def post() -> tuple[int, Any]:
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://stj") as client:
            response = await client.post(path, content=content)
            return response.status_code, response.json()

    return asyncio.run(post())


async def in_chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@given(chunks=st.lists(st.binary(max_size=80), max_size=4), announced=st.booleans())
def test_the_size_alone_decides(chunks: list[bytes], announced: bool) -> None:
    whole = b"".join(chunks)
    status, answer = send(app_with(), whole if announced else in_chunks(*chunks))
    if len(whole) > LIMIT:
        assert status == 413
        assert answer["error"]["message"] == "the body is larger than 100 bytes, the limit for this model's context"
    else:
        assert (status, answer) == (200, {"size": len(whole)})


def exchange(headers: list[tuple[bytes, bytes]], chunks: list[Message]) -> tuple[list[Message], int]:
    """What the application answers, and how many messages of the body it took."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return chunks[taken - 1]

    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/x", "headers": headers, "query_string": b"", "http_version": "1.1"}
    asyncio.run(app_with()(scope, receive, keep))
    return sent, taken


def test_an_announced_body_is_refused_unread_and_another_at_its_limit() -> None:
    sent, taken = exchange([(b"content-length", b"20000000")], [])
    assert (sent[0]["status"], taken) == (413, 0)
    endless: list[Message] = [{"type": "http.request", "body": b"x" * 60, "more_body": True}] * 9
    sent, taken = exchange([(b"transfer-encoding", b"chunked")], endless)
    assert (sent[0]["status"], taken) == (413, 2)


def test_a_client_that_leaves_early_gets_no_answer() -> None:
    assert exchange([], [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]) == ([], 2)


def test_other_paths_and_requests_without_a_body_pass() -> None:
    assert send(app_with("/v1/judge"), b"x" * 200, "/v1/judge")[0] == 413
    assert send(app_with("/v1/judge"), b"x" * 200, "/v1/chat/completions") == (200, {"size": 200})
    assert send(app_with(), b"x" * 200, "/v1/chat/completions")[0] == 413

    async def get() -> int:
        async with AsyncClient(transport=ASGITransport(app=app_with()), base_url="http://stj") as client:
            return (await client.get("/health")).status_code

    assert asyncio.run(get()) == 200


def test_the_limits_follow_from_the_context() -> None:
    assert (most_characters(2048), most_bytes(2048)) == (32_768, LEAST_BODY_BYTES)
    assert (most_characters(131_072), most_bytes(131_072)) == (2_097_152, 12_582_912)
    assert send(app_with(limit=None), b"x" * (LEAST_BODY_BYTES + 1))[0] == 413


@pytest.mark.parametrize("length", ["", "many", "-5"])
def test_a_length_that_is_none_is_not_believed(length: str) -> None:
    chunk: Message = {"type": "http.request", "body": b"x" * 200, "more_body": False}
    assert exchange([(b"content-length", length.encode())], [chunk])[0][0]["status"] == 413


def test_a_length_of_thousands_of_digits_is_over_the_limit() -> None:
    async def post() -> int:
        async with AsyncClient(transport=ASGITransport(app=app_with()), base_url="http://stj") as client:
            return (await client.post("/v1/judge", content=b"x", headers={"content-length": "9" * 5000})).status_code

    assert asyncio.run(post()) == 413
