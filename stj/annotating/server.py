"""Serves the page and takes labels.

Only who has the address with its token reads pairs or writes labels: neither another user of this machine nor a page of another
site has it. The token stands behind the #, so that no browser sends it along or keeps it in a log. Each request for data is a
POST of JSON with the token in a header of its own, which no page of another site can send without being asked first.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from stj.annotating.labels import LabelledElsewhere
from stj.annotating.page import page, policy
from stj.annotating.session import Session, annotator_name, choice_of
from stj.errors import ConfigError, StjError
from stj.viewing.local_server import ADDRESS, HTML, JSON, PLAIN, LocalServer, PageHandler

TOKEN_HEADER = "X-Stj-Token"
_LONGEST_BODY = 4096  # bytes; a name of 60 characters and a choice take at most some 800
Body = Mapping[str, Any]


class AnnotateServer(LocalServer):
    """A server of one session, for one annotator if a name is given, or for all who give theirs on the page."""

    def __init__(self, session: Session, name: str | None, port: int = 0, host: str = ADDRESS) -> None:
        self.token = secrets.token_urlsafe(16)
        self.answers = _answers(session, name)
        super().__init__(_Handler, port, host)

    @property
    def url(self) -> str:
        """Where a browser finds the page, with the token that the page sends back."""
        return f"{super().url}#{self.token}"


def _answers(session: Session, name: str | None) -> dict[str, Callable[[Body], Any]]:
    """What the server answers, by path. An answer raises an error of `_STATUS` for a body that makes no sense."""

    def annotator(body: Body) -> str:
        return name or annotator_name(body["name"])

    def pair(body: Body) -> Any:
        number = body.get("number")
        return session.shown(annotator(body), None if number is None else _whole(number))

    def label(body: Body) -> Any:
        before = None if body["before"] is None else choice_of(body["before"])
        session.choose(annotator(body), _whole(body["number"]), choice_of(body["choice"]), before)
        return session.shown(annotator(body))

    return {"/name.json": lambda body: {"name": name}, "/pair.json": pair, "/label.json": label}


class _Refused(Exception):
    """A request that gets no answer."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(PageHandler):
    server: AnnotateServer

    def policy(self) -> str:
        """The policy of the page that the server sends."""
        return policy()

    def do_GET(self) -> None:
        """Answers with the page, which holds nothing of the pairs."""
        if not self.host_is_known():
            return
        if self._path() == "/":
            self.send_content(HTTPStatus.OK, page().encode(), HTML)
        else:
            self.send_content(HTTPStatus.NOT_FOUND, b"no such page", PLAIN)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Answers a request for a pair, or takes a label."""
        try:
            content = self._content()
            if not self.host_is_known():
                return
            answer = self._answer()(_body(content))
        except _Refused as refused:
            self._refuse(refused.status, str(refused))
        except (ValueError, KeyError, IndexError, TypeError):
            self._refuse(HTTPStatus.BAD_REQUEST, "the request names no pair or no label")
        except ConfigError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except LabelledElsewhere as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        except StjError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        else:
            self.send_content(HTTPStatus.OK, json.dumps(answer, separators=(",", ":")).encode(), JSON)

    def _content(self) -> bytes:
        """The whole body. What is refused before it was read ends the connection, or it would pass for the next request."""
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdecimal()):
            self.close_connection = True
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "give the body's length")
        if len(length) > len(str(_LONGEST_BODY)) or int(length) > _LONGEST_BODY:
            self.close_connection = True
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {_LONGEST_BODY:,} bytes")
        return self.rfile.read(int(length))

    def _answer(self) -> Callable[[Body], Any]:
        """What answers this request, if it comes from the page that this server sent."""
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers.get('Host')}":
            raise _Refused(HTTPStatus.FORBIDDEN, "a page of another site sent this")
        if not secrets.compare_digest(self.headers.get(TOKEN_HEADER, "").encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.FORBIDDEN, "this is not the server's address, or no longer: open the one that it printed")
        if self.headers.get_content_type() != JSON:
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {JSON}")
        answer = self.server.answers.get(self._path())
        if answer is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "no such page")
        return answer

    def _path(self) -> str:
        try:
            return urlsplit(self.path).path
        except ValueError:  # `http://[/` is no address.
            return ""

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.send_content(status, why.encode(errors="backslashreplace"), PLAIN)


def _body(content: bytes) -> Body:
    try:
        body = json.loads(content)
    except RecursionError:
        body = None
    if not isinstance(body, dict):
        raise ValueError(body)
    return body


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value
