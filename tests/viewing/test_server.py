"""The server: what it answers, and to whom."""

import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stj.errors import ConfigError
from stj.viewing.index import Index
from stj.viewing.place import sources_of
from stj.viewing.server import ViewServer


@pytest.fixture
def server(run: Path) -> Iterator[ViewServer]:
    with ViewServer("a <run>", Index(sources_of(str(run), None))) as started:
        threading.Thread(target=started.serve_forever, args=(0.01,), daemon=True).start()
        yield started
        started.shutdown()


def get(server: ViewServer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=600)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def test_rows_by_number_and_by_id(server: ViewServer) -> None:
    index = json.loads(get(server, "/index.json")[1])
    assert (index["rows"], [judge["name"] for judge in index["judges"]]) == (7, ["M_0", "M_1"])
    number = json.loads(get(server, "/find.json?id=heldout%2Fwrong")[1])
    titles = json.loads(get(server, f"/titles.json?rows={number},0")[1])
    assert titles[0] == {"id": "heldout/wrong", "title": "How many are left, wrong?"}
    row = json.loads(get(server, f"/row.json?row={number}")[1])
    assert [answer["title"] for answer in row["answers"]] == ["better answer", "worse answer"]
    assert [judge["name"] for judge in row["judges"]] == ["M_0", "M_1"]
    [first, second] = row["judges"][0]["judgments"]
    assert (first["verdict"], first["outcome"], first["order"]) == ("B: wrong", "wrong", "better answer shown first, as A")
    assert second["order"] == "better answer shown second, as B"
    assert [part["text"] for part in first["parts"] if part["mark"]] == ["[[B]]"]
    assert json.loads(get(server, "/search.json?text=SING")[1]) == [0]
    assert len(json.loads(get(server, "/contradictions.json")[1])) == 1
    assert json.loads(get(server, "/find.json?id=")[1]) == -1


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost.evil.example:{port}", "127.0.0.1:1", ""])
def test_another_name_gets_nothing(server: ViewServer, host: str) -> None:
    """A page whose name was made to point to this machine sends its own name."""
    answer, content = get(server, "/index.json", Host=host.format(port=server.server_port))
    assert answer.status == 421
    assert b"rows" not in content


def test_localhost_is_this_machine(server: ViewServer) -> None:
    assert get(server, "/", Host=f"localhost:{server.server_port}")[0].status == 200


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/view.js", "/index.json/", "/.."],
)
def test_no_path_leads_to_a_file(server: ViewServer, path: str) -> None:
    assert get(server, path)[0].status == 404


@pytest.mark.parametrize(
    "path", ["/row.json", "/row.json?row=", "/row.json?row=7", "/row.json?row=-1", "/row.json?row=1e3", "/titles.json?rows=1,x"]
)
def test_a_query_that_names_no_row(server: ViewServer, path: str) -> None:
    answer, content = get(server, path)
    assert (answer.status, content) == (400, b"the query names no row")


def test_an_address_that_is_none(server: ViewServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=600) as connection:
        connection.sendall(f"GET http://[/ HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_browser_that_leaves_early_is_no_error(server: ViewServer, capsys: pytest.CaptureFixture[str]) -> None:
    others = set(threading.enumerate())  # servers of other tests may wait for requests of their own
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # Its end is a reset.
    get(server, "/")  # The server accepted the first connection before this one.
    for thread in set(threading.enumerate()) - others:
        thread.join(timeout=600)
    assert capsys.readouterr().err == ""


def test_the_server_only_reads(server: ViewServer) -> None:
    assert {get(server, "/", method)[0].status for method in ("POST", "PUT", "DELETE", "OPTIONS")} == {501}
    answer, content = get(server, "/", "HEAD")
    assert (answer.status, content) == (200, b"")


def test_the_policy_allows_only_its_own_script(server: ViewServer) -> None:
    answer, content = get(server, "/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'sha256-" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"a &lt;run&gt;" in content
    assert b"://" not in content.replace(b"http-equiv", b"")  # nothing comes from elsewhere


def test_a_port_in_use_is_refused(server: ViewServer, run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=f"--port {taken.getsockname()[1]}: cannot be used"):
            ViewServer("x", Index(sources_of(str(run), None)), taken.getsockname()[1])
