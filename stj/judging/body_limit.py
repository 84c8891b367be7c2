"""Refuses HTTP requests over a size at once: before they are read, and so before anything parses or tokenizes them.

    413  the body is over the limit: if its length is announced, unread; any other is read up to the limit
    408  the body did not arrive in time
    415  the body is compressed: its size would say nothing
    431  the headers are over the limit
    503  all bodies that the server holds are over their limit together
    400  the JSON is nested too deeply for its reader

A body's limit follows from the model's context. A token stands for at most n bytes of text, where n is the length of the
longest token. One of them takes at most 8 bytes in JSON: a character that is escaped (`\\u00e9`) takes 6, or 12 for the few
beyond the first plane, and some decomposed characters become one. So no text is refused that could fit, but for the last limit,
16 MiB.
"""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OTHER_BYTES = 2**20
"""Room for all in a body that is no text: names, settings, white space."""
MOST_BYTES = 2**24
"""No body may be larger, whatever the context."""
MOST_HELD_BYTES = 2**28
"""The bodies of all open requests together."""
BODY_TIMEOUT_S = 60
"""A body must arrive in this time."""
_HEADER_BYTES = 2**16
_JSON_BYTES = 8  # bytes of JSON for a byte of a token's text, see above
_LONGEST_NUMBER = 20  # digits of a length; Python refuses to read numbers of thousands of digits


def most_bytes(context: int, longest_token: int) -> int:
    """The most bytes of a body, for a context in tokens and the bytes of the longest token; 0 if that is not known."""
    return min(MOST_BYTES, OTHER_BYTES + _JSON_BYTES * context * longest_token) if longest_token else MOST_BYTES


class BodyLimit:
    """ASGI middleware that refuses requests over the limits.

    That of a body is `app.state.stj_most_bytes`, or, before the model is known, the room for all but text.
    """

    def __init__(self, app: "ASGIApp", paths: Collection[str] = ()) -> None:
        """`paths` are the only ones that are limited; none limits all."""
        self._app = app
        self._paths = paths
        self._held = 0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http" or (self._paths and scope["path"] not in self._paths):
            return await self._app(scope, receive, send)
        limit = getattr(scope["app"].state, "stj_most_bytes", OTHER_BYTES)
        if refusal := _refused_unread(scope, limit):
            return await refusal(scope, receive, send)
        body = _Body()
        try:
            await self._take(body, receive, limit)
            if body.refusal:
                await body.refusal(scope, receive, send)
            elif body.complete:
                await self._answer(scope, body.again(receive), send)
        finally:
            self._held -= body.size
        return None

    async def _take(self, body: "_Body", receive: "Receive", limit: int) -> None:
        """Reads a body, until it is complete or refused, or until its sender has left."""
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                while body.open:
                    self._held += body.add(await receive())
                    if body.size > limit:
                        body.refusal = _too_large(f"more than {limit:,} bytes", limit)
                    elif self._held > MOST_HELD_BYTES:
                        body.refusal = refusal(503, "the server holds too many large bodies; try again later")
        except TimeoutError:
            body.refusal = refusal(408, f"the body did not arrive within {BODY_TIMEOUT_S} s")

    async def _answer(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Lets the application answer. Nesting that overwhelms the reader of JSON does so before there is an answer."""
        begun = False

        async def note(message: "Message") -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except RecursionError:
            if begun:
                raise
            await refusal(400, "the body is nested too deeply")(scope, receive, send)


class _Body:
    """What has arrived of a body, in one piece: sent byte by byte, its messages would take 300 times its size."""

    def __init__(self) -> None:
        self.size = 0
        self.complete = False
        self.refusal: JSONResponse | None = None
        self._left = False
        self._content = bytearray()

    @property
    def open(self) -> bool:
        """Whether there is more to read."""
        return not (self.complete or self.refusal or self._left)

    def add(self, message: "Message") -> int:
        """Takes the next message; returns its size."""
        part = message.get("body", b"")
        self._content += part
        self.size += len(part)
        self._left = message["type"] == "http.disconnect"
        self.complete = not self._left and not message.get("more_body", False)
        return len(part)

    def again(self, receive: "Receive") -> "Receive":
        """Gives the body as one message, then the messages that follow."""
        first: list[Message] = [{"type": "http.request", "body": bytes(self._content), "more_body": False}]
        self._content.clear()

        async def give() -> "Message":
            return first.pop() if first else await receive()

        return give


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer in the form of vLLM's errors."""
    error = {"message": message, "type": _TYPES[status], "param": None, "code": status}
    return JSONResponse({"error": error}, status, headers)


_TYPES = {
    400: "Bad Request",
    401: "Unauthorized",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def _refused_unread(scope: "Scope", limit: int) -> JSONResponse | None:
    """The refusal of a request by its headers, if they suffice for one."""
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > _HEADER_BYTES:
        return refusal(431, f"the headers have {size:,} bytes, more than {_HEADER_BYTES:,}, the limit")
    headers = dict(scope["headers"])
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return refusal(415, "the body is compressed; send it without Content-Encoding")
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or (len(length) <= _LONGEST_NUMBER and int(length) <= limit):
        return None
    return _too_large(f"{int(length):,} bytes" if len(length) <= _LONGEST_NUMBER else "a length of too many digits", limit)


def _too_large(size: str, limit: int) -> JSONResponse:
    return refusal(413, f"the body has {size}; the limit for this model's context is {limit:,} bytes")
