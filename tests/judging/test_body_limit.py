"""Requests over the limits are refused before they are read, announced or not; others reach the application unchanged."""

import asyncio
import gzip
import json
import unicodedata
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from stj.judging import body_limit
from stj.judging.body_limit import MOST_BYTES, OTHER_BYTES, BodyLimit, most_bytes

LIMIT = 100


def app_with(paths: Sequence[str] = (), limit: int | None = LIMIT) -> FastAPI:
    app = FastAPI()
    app.add_middleware(BodyLimit, paths=paths)
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
        size = f"{len(whole)} bytes" if announced else "more than 100 bytes"
        assert answer["error"]["message"] == f"the body has {size}; the limit for this model's context is 100 bytes"
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


def test_a_body_that_comes_byte_by_byte_is_held_and_given_in_one_piece() -> None:
    """As messages of one byte it would take 300 times its size."""
    messages: list[Message] = [{"type": "http.request", "body": b"%d" % n, "more_body": n < 9} for n in range(10)]
    messages.append({"type": "http.disconnect"})
    given: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        given.extend([await receive(), await receive()])

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    asyncio.run(BodyLimit(app)({"type": "http", "path": "/x", "headers": [], "app": FastAPI()}, receive, send))
    assert given == [{"type": "http.request", "body": b"0123456789", "more_body": False}, {"type": "http.disconnect"}]


def test_a_client_that_leaves_early_gets_no_answer() -> None:
    assert exchange([], [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]) == ([], 2)


def test_other_paths_and_requests_without_a_body_pass() -> None:
    assert send(app_with(["/v1/judge"]), b"x" * 200, "/v1/judge")[0] == 413
    assert send(app_with(["/v1/judge"]), b"x" * 200, "/v1/chat/completions") == (200, {"size": 200})
    assert send(app_with(), b"x" * 200, "/v1/chat/completions")[0] == 413

    async def get() -> int:
        async with AsyncClient(transport=ASGITransport(app=app_with()), base_url="http://stj") as client:
            return (await client.get("/health")).status_code

    assert asyncio.run(get()) == 200


def test_the_limits_follow_from_the_context() -> None:
    assert most_bytes(2048, 20) == OTHER_BYTES + 8 * 2048 * 20
    assert most_bytes(1_000_000, 128) == most_bytes(2048, 0) == MOST_BYTES
    assert send(app_with(limit=None), b"x" * (OTHER_BYTES + 1))[0] == 413


@given(text=st.text(min_size=1), escaped=st.booleans())
def test_a_byte_of_text_takes_at_most_eight_in_json(text: str, escaped: bool) -> None:
    """Also if the tokenizer composes characters."""
    text = text.encode(errors="replace").decode()
    assert len(json.dumps(text, ensure_ascii=escaped)) - 2 <= 8 * len(unicodedata.normalize("NFC", text).encode())


@pytest.mark.parametrize("character", ["\u212a", "\u1f82", "\0", "\u00e9", "🎉", "각"])
def test_also_where_few_bytes_take_many(character: str) -> None:
    decomposed = unicodedata.normalize("NFD", character)
    for form in (character, decomposed):
        assert len(json.dumps(form)) - 2 <= 8 * len(unicodedata.normalize("NFC", form).encode())


@pytest.mark.parametrize("length", ["", "many", "-5"])
def test_a_length_that_is_none_is_not_believed(length: str) -> None:
    chunk: Message = {"type": "http.request", "body": b"x" * 200, "more_body": False}
    assert exchange([(b"content-length", length.encode())], [chunk])[0][0]["status"] == 413


def test_a_length_of_thousands_of_digits_is_over_the_limit() -> None:
    async def post() -> int:
        async with AsyncClient(transport=ASGITransport(app=app_with()), base_url="http://stj") as client:
            return (await client.post("/v1/judge", content=b"x", headers={"content-length": "9" * 5000})).status_code

    assert asyncio.run(post()) == 413


def test_bodies_that_are_held_have_a_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is held until it is answered; then there is room again."""
    monkeypatch.setattr(body_limit, "MOST_HELD_BYTES", 150)
    app = app_with()

    async def post_all() -> list[list[int]]:
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://stj") as client:
            rounds = []
            for size in (90, 70, 40):
                answers = await asyncio.gather(*(client.post("/slow", content=b"x" * size) for _ in range(2)))
                rounds.append(sorted(answer.status_code for answer in answers))
            return rounds

    @app.post("/slow", include_in_schema=False)
    async def slow(request: Request) -> dict[str, int]:
        await asyncio.sleep(0.1)
        return {"size": len(await request.body())}

    app.router.routes.insert(0, app.router.routes.pop())
    assert asyncio.run(post_all()) == [[200, 503], [200, 200], [200, 200]]


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_TIMEOUT_S", 0.1)

    async def slowly() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.03)
            yield b"x"

    status, answer = send(app_with(), slowly())
    assert (status, answer["error"]["message"]) == (408, "the body did not arrive within 0.1 s")


def request_with(headers: dict[str, str], content: bytes = b"x") -> tuple[int, str]:
    async def post() -> tuple[int, str]:
        async with AsyncClient(transport=ASGITransport(app=app_with()), base_url="http://stj") as client:
            answer = await client.post("/v1/judge", content=content, headers=headers)
            return answer.status_code, answer.json()["error"]["message"]

    return asyncio.run(post())


def test_large_headers_and_compressed_bodies_are_refused() -> None:
    assert request_with({"x-large": "y" * 70_000})[0] == 431
    status, message = request_with({"content-encoding": "gzip"}, gzip.compress(b"{}"))
    assert (status, message) == (415, "the body is compressed; send it without Content-Encoding")


def test_nesting_that_overwhelms_the_reader_is_the_clients_fault() -> None:
    app = app_with(limit=10**6)

    @app.post("/json", include_in_schema=False)
    async def read(request: Request) -> Any:
        return await request.json()

    app.router.routes.insert(0, app.router.routes.pop())
    status, answer = send(app, b"[" * 100_000, "/json")
    assert (status, answer["error"]["message"]) == (400, "the body is nested too deeply")
