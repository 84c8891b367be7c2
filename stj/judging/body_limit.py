"""Refuses HTTP bodies over a size at once: before they are read, and so before anything parses or tokenizes them.

A body's limit follows from the model's context. More than 16 characters a token, over a whole request, is no text that a model
could read: English has 4 or 5. A character takes at most 6 bytes in JSON, or 12 for the few beyond the first plane. So a
context of 2,048 tokens has room for 32,768 characters. No limit of a body is below 1 MiB.
"""

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEAST_BODY_BYTES = 2**20
_CHARACTERS_A_TOKEN = 16
_BYTES_A_CHARACTER = 6
_LONGEST_NUMBER = 20  # digits of a length; Python refuses to read numbers of thousands of digits


def most_characters(context: int) -> int:
    """The most characters of a request's texts together, for a model whose context has this many tokens."""
    return _CHARACTERS_A_TOKEN * context


def most_bytes(context: int) -> int:
    """The most bytes of a request's body."""
    return max(LEAST_BODY_BYTES, _BYTES_A_CHARACTER * most_characters(context))


class BodyLimit:
    """ASGI middleware that answers 413 to a body over the limit: `app.state.stj_most_bytes`, or the least one.

    A body whose length is announced is refused unread. Any other is read up to the limit before the application sees it.
    """

    def __init__(self, app: "ASGIApp", path: str | None = None) -> None:
        """`path` is the only path that is limited; None limits all."""
        self._app = app
        self._path = path

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http" or (self._path and scope["path"] != self._path):
            return await self._app(scope, receive, send)
        limit = getattr(scope["app"].state, "stj_most_bytes", LEAST_BODY_BYTES)
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit():
            size = int(announced) if len(announced) <= _LONGEST_NUMBER else limit + 1
        else:
            messages = await _read(receive, limit)
            if messages[-1]["type"] == "http.disconnect":
                return None
            size, receive = _size(messages), _again(messages, receive)
        return await (self._app if size <= limit else _refusal(limit))(scope, receive, send)


async def _read(receive: "Receive", limit: int) -> "list[Message]":
    """The messages of a whole body, or those up to the first one that exceeds the limit, or after which nobody listens."""
    messages = [await receive()]
    while messages[-1].get("more_body", False) and _size(messages) <= limit:
        messages.append(await receive())
    return messages


def _size(messages: "list[Message]") -> int:
    return sum(len(message.get("body", b"")) for message in messages)


def _again(messages: "list[Message]", receive: "Receive") -> "Receive":
    """Gives the messages that were read, then those that follow."""
    waiting = iter(messages)

    async def give() -> "Message":
        message = next(waiting, None)
        return await receive() if message is None else message

    return give


def _refusal(limit: int) -> JSONResponse:
    message = f"the body is larger than {limit:,} bytes, the limit for this model's context"
    error = {"message": message, "type": "Request Entity Too Large", "param": None, "code": 413}  # the form of vLLM's errors
    return JSONResponse({"error": error}, 413)
