"""Asks for the server's API key on every route but /health, and checks at the start that the key can be sent at all.

vLLM guards only the paths that begin with /v1, /v2, /inference and /cohere: /invocations, /tokenize, /metrics and /docs of a
server with a key would be open, and so would whatever routes its next version has.
"""

import hashlib
import os
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stj.errors import ConfigError
from stj.judging.body_limit import refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

KEY_VARIABLE = "VLLM_API_KEY"
_OPEN = "/health"
_POLICY_VIOLATION = 1008  # the code with which a WebSocket closes


class KeyGuard:
    """ASGI middleware that answers 401 to a request without one of the keys."""

    def __init__(self, app: "ASGIApp", keys: Sequence[str]) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] not in ("http", "websocket") or _is_open(scope) or self._knows(scope["headers"]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "no or a wrong API key"})
        else:
            message = "no or a wrong API key: send the server's as `Authorization: Bearer KEY`"
            await refusal(401, message, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _knows(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether the headers hold a key. The time that this takes says nothing about the keys."""
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, key = given[0].partition(b" ")
        digest = _digest(key)
        matches = [secrets.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == b"bearer" and any(matches)


def server_keys(args: Any) -> list[str]:
    """The keys of a server with these arguments of vLLM; none if it asks for no key.

    Raises ConfigError if a key is empty, or cannot be sent.
    """
    given = list(getattr(args, "api_key", None) or [])
    return [sendable_key(key, "--api-key") for key in given] if given else environment_keys()


def environment_keys() -> list[str]:
    """The key in the environment. Raises ConfigError if it is empty, or cannot be sent."""
    key = os.environ.get(KEY_VARIABLE)
    return [] if key is None else [sendable_key(key, KEY_VARIABLE)]


def sendable_key(key: str, setting: str) -> str:
    """The key. Raises ConfigError if a header cannot carry it; the message does not hold it."""
    if not key:
        raise ConfigError(
            f"{setting} is empty, which would leave the server open: give a key, or unset it for a server without one"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(
            f"{setting} holds white space or characters beyond ASCII, which a client cannot send: give another key"
        )
    return key


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _is_open(scope: "Scope") -> bool:
    path: str = scope["path"]
    return scope["type"] == "http" and path.removeprefix(scope.get("root_path", "")) == _OPEN
