"""Serves the page on this machine alone, read-only.

The server knows six paths and no files, so no path can lead out of anything. It answers only if the Host header names this
machine: a page of another site, whose name was made to point here (DNS rebinding), gets nothing.
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stj.errors import ConfigError, StjError
from stj.viewing.details import row_details
from stj.viewing.index import Index
from stj.viewing.lookup import contradicting, search
from stj.viewing.page import page, policy

ADDRESS = "127.0.0.1"
_HTTP_PORT = 80  # Browsers leave it out of the Host header.
_MOST_TITLES = 500
_LONGEST_TEXT = 1_000_000  # characters of one text; a browser shows this within a second
_HTML, _JSON, _PLAIN = "text/html", "application/json", "text/plain"
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
Query = dict[str, str]


class ViewServer(ThreadingHTTPServer):
    """A server of one index. Its port is chosen by the system if none is given."""

    daemon_threads = True

    def __init__(self, name: str, index: Index, port: int = 0) -> None:
        self.answers = answers(name, index)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise ConfigError(f"--port {port}: cannot be used: {error.strerror}; leave it out to take a free one") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that left before its answer was whole, as each reload does."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def names_this_machine(self, host: str | None) -> bool:
        """Whether a Host header names this server as its own user does."""
        names = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        return host in (names | {ADDRESS, "localhost"} if self.server_port == _HTTP_PORT else names)


def answers(name: str, index: Index) -> dict[str, Callable[[Query], bytes]]:
    """What the server answers, by path. An answer raises ValueError or KeyError for a query that makes no sense."""

    def titles(query: Query) -> bytes:
        numbers = [_number(word, index) for word in query["rows"].split(",")[:_MOST_TITLES]]
        return _json([{"id": index.id(number), "title": index.title(number)} for number in numbers])

    def row(query: Query) -> bytes:
        number = _number(query["row"], index)
        return _json(row_details(index.id(number), index.judged(number), _LONGEST_TEXT))

    def find(query: Query) -> bytes:
        number = index.find(query["id"])
        return _json(-1 if number is None else number)

    @cache
    def contradictions() -> bytes:
        """All texts are read for it, which takes seconds, so it is kept."""
        return _json(contradicting(index))

    return {
        "/": lambda query: page(name).encode(),
        "/index.json": lambda query: _json(index.plain()),
        "/titles.json": titles,
        "/row.json": row,
        "/find.json": find,
        "/search.json": lambda query: _json(search(index, query["text"])),
        "/contradictions.json": lambda query: contradictions(),
    }


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    server_version, sys_version = "stj", ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds without a request, after which a connection is closed

    def do_GET(self) -> None:
        """Answers a request for a page or for data."""
        if not self.server.names_this_machine(self.headers.get("Host")):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"this server answers only to 127.0.0.1 and localhost", _PLAIN)
            return
        try:
            target = urlsplit(self.path)
        except ValueError:  # `http://[/` is no address.
            self._send(HTTPStatus.BAD_REQUEST, b"no address", _PLAIN)
            return
        answer = self.server.answers.get(target.path)
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, b"no such page", _PLAIN)
            return
        try:
            query = {key: values[-1] for key, values in parse_qs(target.query, keep_blank_values=True).items()}
            content = answer(query)
        except (ValueError, KeyError):
            self._send(HTTPStatus.BAD_REQUEST, b"the query names no row", _PLAIN)
        except StjError as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode(errors="backslashreplace"), _PLAIN)
        else:
            self._send(HTTPStatus.OK, content, _HTML if target.path == "/" else _JSON)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal shows only where the page is."""

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Security-Policy": f"{policy(served=True)}; frame-ancestors 'none'"}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _number(word: str, index: Index) -> int:
    number = int(word)
    if not 0 <= number < index.rows:
        raise ValueError(word)
    return number


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
