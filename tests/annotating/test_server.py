"""The server: what it sends and takes, and from whom."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stj.annotating.server import AnnotateServer
from stj.errors import ConfigError
from tests.annotating.conftest import lines_of, open_pair, session_of, write_pairs

NOBODY = "no such header"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", [open_pair(n) for n in range(3)])


@contextmanager
def serving(pairs: Path, name: str | None = None, host: str = "127.0.0.1") -> Iterator[AnnotateServer]:
    """A server that runs until the block ends."""
    with AnnotateServer(session_of(pairs, pairs.with_name("labels.jsonl")), name, host=host) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(pairs: Path) -> Iterator[AnnotateServer]:
    with serving(pairs) as started:
        yield started


def request(
    server: AnnotateServer, path: str, body: object = None, method: str = "POST", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """The answer to the request that the page would send, but for these headers; NOBODY leaves one out."""
    ours = {"Content-Type": "application/json", "X-Stj-Token": server.token, **headers}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=600)
    connection.request(method, path, content, {name: value for name, value in ours.items() if value != NOBODY})
    answer = connection.getresponse()
    sent = answer.read()
    connection.close()
    return answer, sent


def asked(server: AnnotateServer, path: str, **body: object) -> dict[str, object]:
    """What the server sends to its page."""
    answer, content = request(server, path, {"name": "Ada", **body})
    assert answer.status == 200, content
    value: dict[str, object] = json.loads(content)
    return value


def test_pairs_come_one_by_one_until_all_have_a_label(server: AnnotateServer, pairs: Path) -> None:
    shown = asked(server, "/pair.json")
    for number, choice in enumerate(("1", "2", "unsure"), start=1):
        assert (shown["number"], shown["of"], shown["labelled"], shown["choice"]) == (number, 3, number - 1, None)
        shown = asked(server, "/label.json", number=number, choice=choice, before=None)
    assert shown == {"number": None, "of": 3, "labelled": 3}
    assert [asked(server, "/pair.json", number=number)["choice"] for number in (1, 2, 3)] == ["1", "2", "unsure"]
    assert len(lines_of(pairs.with_name("labels.jsonl"))) == 3


def test_a_choice_is_a_label_of_the_response_that_was_shown(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl", [open_pair(n) for n in range(12)])
    labels = set()
    with serving(pairs) as server:
        for number in range(1, 13):
            responses = asked(server, "/pair.json", number=number)["responses"]
            asked(server, "/label.json", number=number, choice="2", before=None)
            assert asked(server, "/pair.json", number=number)["choice"] == "2"
            line = lines_of(tmp_path / "labels.jsonl")[-1]
            labels.add(line["label"])
            better = line["response_a"] if line["label"] == "A" else line["response_b"]
            assert better == responses[1]  # type: ignore[index]
    assert labels == {"A", "B"}  # each response was shown first


def test_a_restarted_server_continues(server: AnnotateServer, pairs: Path) -> None:
    asked(server, "/label.json", number=1, choice="1", before=None)
    shown = asked(server, "/pair.json")
    with serving(pairs) as restarted:
        assert asked(restarted, "/pair.json") == shown
        assert asked(restarted, "/pair.json", number=1)["choice"] == "1"
        assert restarted.token != server.token


def test_two_tabs_neither_lose_nor_double_a_label(server: AnnotateServer, pairs: Path) -> None:
    first, second = asked(server, "/pair.json"), asked(server, "/pair.json")
    assert first == second
    body = {"name": "Ada", "number": 1, "choice": "1", "before": None}
    assert request(server, "/label.json", body)[0].status == 200
    assert request(server, "/label.json", body)[0].status == 200
    answer, why = request(server, "/label.json", {**body, "choice": "2"})
    assert (answer.status, why) == (409, b"you have labelled this pair in another tab or on another server")
    assert request(server, "/label.json", {**body, "choice": "2", "before": "1"})[0].status == 200
    assert len(lines_of(pairs.with_name("labels.jsonl"))) == 2


def test_annotators_do_not_see_each_other(server: AnnotateServer) -> None:
    before = asked(server, "/pair.json", name="Bo")
    for number in (1, 2, 3):
        asked(server, "/label.json", number=number, choice="1", before=None)
    assert asked(server, "/pair.json", name="Bo") == before


def test_a_name_of_the_command_line_is_the_only_one(pairs: Path) -> None:
    with serving(pairs, "Ada") as server:
        assert asked(server, "/name.json") == {"name": "Ada"}
        asked(server, "/label.json", name="Eve", number=1, choice="1", before=None)
    assert [line["annotator"] for line in lines_of(pairs.with_name("labels.jsonl"))] == ["Ada"]


@pytest.mark.parametrize(("given", "kept"), [("  Ada  ", "Ada"), ("Zoe\u0308", "Zoë"), ("x" * 60, "x" * 60), ("数", "数")])
def test_a_name_has_one_form(server: AnnotateServer, pairs: Path, given: str, kept: str) -> None:
    asked(server, "/label.json", name=given, number=1, choice="1", before=None)
    assert lines_of(pairs.with_name("labels.jsonl"))[0]["annotator"] == kept


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "a\nb", "a\u202eb", "\ud800", 7, None])
def test_a_name_that_is_none_is_refused(server: AnnotateServer, name: object) -> None:
    answer, why = request(server, "/pair.json", {"name": name})
    assert answer.status == 400
    assert why.endswith(b"give 1 to 60 printable characters")


@pytest.mark.parametrize(
    "body",
    [
        *({"number": number} for number in (0, 4, -1, 1.0, True, "1", [])),
        *({"choice": choice} for choice in ("3", "A", "better", None, 1, ["1"])),
        *({"before": before} for before in ("", "A", 0, {})),
    ],
)
def test_a_label_that_makes_no_sense(server: AnnotateServer, pairs: Path, body: dict[str, object]) -> None:
    answer, why = request(server, "/label.json", {"name": "Ada", "number": 1, "choice": "1", "before": None, **body})
    assert (answer.status, why) == (400, b"the request names no pair or no label")
    assert lines_of(pairs.with_name("labels.jsonl")) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 2000, b'{"name": "Ada"}'])
def test_a_body_that_is_none(server: AnnotateServer, body: bytes) -> None:
    assert request(server, "/label.json", body)[0].status == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"X-Stj-Token": NOBODY}, 403),
        ({"X-Stj-Token": "guess"}, 403),
        ({"X-Stj-Token": "\xe9"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": NOBODY}, 415),
    ],
)
@pytest.mark.parametrize("path", ["/pair.json", "/label.json", "/name.json"])
def test_who_is_not_the_page_gets_nothing(
    server: AnnotateServer, pairs: Path, path: str, headers: dict[str, str], status: int
) -> None:
    body = {"name": "Ada", "number": 1, "choice": "1", "before": None}
    answer, content = request(server, path, body, **headers)
    assert answer.status == status
    assert b"wonder" not in content
    assert lines_of(pairs.with_name("labels.jsonl")) == []


def test_the_page_itself_is_let_in(server: AnnotateServer) -> None:
    for host in ("127.0.0.1", "localhost"):
        ours = f"{host}:{server.server_port}"
        assert request(server, "/pair.json", {"name": "Ada"}, Host=ours, Origin=f"http://{ours}")[0].status == 200


def test_a_server_for_others_needs_the_token_alone(pairs: Path) -> None:
    with serving(pairs, host="0.0.0.0") as server:
        names = {"Host": "my-machine:1234", "Origin": "http://my-machine:1234"}
        assert request(server, "/pair.json", {"name": "Ada"}, **names)[0].status == 200
        assert request(server, "/pair.json", {"name": "Ada"}, **{**names, "X-Stj-Token": "guess"})[0].status == 403
        assert server.url.startswith(f"http://{socket.gethostname()}:{server.server_port}/#")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Content-Length: 4097", 413),
        ("Content-Length: 99999999999999999999", 413),
        ("Content-Length: -1", 411),
        ("Content-Length: ²", 411),
        ("", 411),
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", 411),
    ],
)
def test_a_body_is_limited_and_its_length_is_known(server: AnnotateServer, lines: str, status: int) -> None:
    """What is refused unread ends the connection, so that a request cannot be hidden in it."""
    head = (
        f"POST /label.json HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nX-Stj-Token: {server.token}\r\n{lines}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=600) as connection:
        connection.sendall(head.encode("latin-1"))
        with connection.makefile("rb") as answer:
            whole = answer.read()  # to the end of the connection
    assert whole.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close" in whole


@pytest.mark.parametrize("path", ["/annotate.js", "/../pairs.jsonl", "//etc/passwd", "/pair.json/", "/index.json"])
def test_no_path_leads_to_a_file(server: AnnotateServer, path: str) -> None:
    assert request(server, path, {"name": "Ada"})[0].status == 404
    assert request(server, path, method="GET")[0].status == 404


def test_data_is_never_sent_to_a_get(server: AnnotateServer) -> None:
    """A page of another site can make a browser send a GET."""
    for path in ("/pair.json", "/label.json", "/name.json"):
        assert request(server, path, method="GET")[0].status == 404
    assert {request(server, "/pair.json", {}, method)[0].status for method in ("PUT", "DELETE", "OPTIONS")} == {501}


def test_the_page_holds_nothing_of_the_pairs_and_only_its_own_script(server: AnnotateServer) -> None:
    answer, content = request(server, "/", method="GET", **{"X-Stj-Token": NOBODY})
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'sha256-" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert server.token.encode() not in content
    assert b"wonder" not in content
    assert b"://" not in content


def test_an_address_that_is_none(server: AnnotateServer) -> None:
    for method in ("GET", "POST"):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=600) as connection:
            head = f"{method} http://[/ HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(100).split()[1] in (b"403", b"404")


def test_a_port_in_use_is_refused(pairs: Path) -> None:
    session = session_of(pairs, pairs.with_name("labels.jsonl"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: cannot be used: Address already in use"):
            AnnotateServer(session, None, port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
def test_an_address_of_another_machine_is_refused(pairs: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=f"--host {host}"):
        AnnotateServer(session_of(pairs, pairs.with_name("labels.jsonl")), None, host=host)
