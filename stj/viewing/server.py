"""Serves the page on this machine alone, read-only.

The server knows seven paths and no files, so no path can lead out of anything. It answers only to this machine's own names
(local_server.py).
"""

import json
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stj.errors import StjError
from stj.viewing.details import row_details
from stj.viewing.index import Index
from stj.viewing.local_server import HTML, JSON, PLAIN, LocalServer, PageHandler
from stj.viewing.lookup import contradicting, search
from stj.viewing.page import page, policy

_MOST_TITLES = 500
_LONGEST_TEXT = 1_000_000  # characters of one text; a browser shows this within a second
Query = dict[str, str]


class ViewServer(LocalServer):
    """A server of one index. Its port is chosen by the system if none is given."""

    def __init__(self, name: str, index: Index, port: int = 0) -> None:
        self.answers = answers(name, index)
        super().__init__(_Handler, port)


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


class _Handler(PageHandler):
    server: ViewServer

    def policy(self) -> str:
        """The policy of the page that the server sends."""
        return policy(served=True)

    def do_GET(self) -> None:
        """Answers a request for a page or for data."""
        if not self.host_is_known():
            return
        try:
            target = urlsplit(self.path)
        except ValueError:  # `http://[/` is no address.
            self.send_content(HTTPStatus.BAD_REQUEST, b"no address", PLAIN)
            return
        answer = self.server.answers.get(target.path)
        if answer is None:
            self.send_content(HTTPStatus.NOT_FOUND, b"no such page", PLAIN)
            return
        try:
            query = {key: values[-1] for key, values in parse_qs(target.query, keep_blank_values=True).items()}
            content = answer(query)
        except (ValueError, KeyError):
            self.send_content(HTTPStatus.BAD_REQUEST, b"the query names no row", PLAIN)
        except StjError as error:
            self.send_content(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode(errors="backslashreplace"), PLAIN)
        else:
            self.send_content(HTTPStatus.OK, content, HTML if target.path == "/" else JSON)

    do_HEAD = do_GET


def _number(word: str, index: Index) -> int:
    number = int(word)
    if not 0 <= number < index.rows:
        raise ValueError(word)
    return number


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
