"""What a real server refuses: requests without its key, large ones and odd ones; its log holds no text and no key."""

import http.client
import json
import os
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.conftest import commands, running, soon, wait_until
from tests.judging.conftest import KEY
from tests.judging.mini_server import serve_words

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        "stj" not in entry_points(group="vllm.endpoint_plugins").names,
        reason="this environment's stj was installed before it had an endpoint: make install",
    ),
]
PAIR = {"instruction": "Which color does the ant have?", "response_a": "Purple.", "response_b": "Red."}
BODY_PATHS = ("/v1/judge", "/v1/chat/completions", "/tokenize", "/invocations")
ODD_BODIES = {
    "not JSON": b'{"instruction":',
    "nested": b"[" * 100_000,
    "nested in a field": b'{"instruction": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "infinity": b'{"instruction": Infinity, "response_a": "canary-of-a-body", "response_b": NaN}',
    "a key twice": b'{"instruction": "a", "instruction": "canary-of-a-body", "response_a": "b", "response_b": "c"}',
    "no UTF-8": b'{"instruction": "\xff\xfe", "response_a": "b", "response_b": "c"}',
    "a gigantic number": b'{"votes": ' + b"9" * 100_000 + b"}",
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
}


def get(url: str, key: str = KEY) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=600) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def status_of(server: str, path: str, body: bytes, key: str = KEY) -> int | None:
    """The status of a request; None if the server closes the connection before it has all of it."""
    connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=600)
    try:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def test_every_route_of_a_server_wants_the_key(server: str) -> None:
    paths = json.loads(get(f"{server}/openapi.json")[1])["paths"]
    asked = {path.replace("{", "").replace("}", "") for path in paths} | {"/docs", "/redoc", "/openapi.json", "/nowhere"}
    assert {path for path in asked if get(f"{server}{path}", key="wrong")[0] != 401} == {"/health"}


def test_large_bodies_in_parallel_cost_no_memory_and_no_patience(server: str) -> None:
    """20 MB that reach a tokenizer take 2 GB and 10 s."""
    body = json.dumps(PAIR | {"response_a": "word " * 4_000_000}).encode()

    def memory() -> float:
        lines = get(f"{server}/metrics")[1].splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("process_resident_memory_bytes "))

    before = memory()
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(status_of, server, path, body) for path in BODY_PATHS * 4]
        assert get(f"{server}/health")[0] == 200
        assert {answer.result() for answer in answers} <= {413, None}  # None: it was refused before all was sent
    assert memory() - before < 200 * 2**20


def test_an_odd_body_is_the_clients_fault_and_the_log_holds_no_text_and_no_key(server: str, server_log: Path) -> None:
    for path in BODY_PATHS:
        for name, body in ODD_BODIES.items():
            status = status_of(server, path, body)
            assert status is not None
            assert 400 <= status < 500, (path, name)
    assert status_of(server, "/v1/judge", json.dumps(PAIR).encode(), "wrong-secret") == 401
    log = server_log.read_text()
    assert "Traceback" not in log
    assert not [word for word in (KEY, "wrong-secret", "canary-of-a-body") if word in log]


@pytest.mark.long
def test_a_stop_while_the_server_starts_ends_it_and_its_engine(tmp_path: Path) -> None:
    name = f"STJ_TEST_{uuid.uuid4().hex}"
    words, variable, environment = serve_words("package://mini/seed_model", 0), f"{name}=1".encode(), os.environ | {name: "1"}
    with (
        (tmp_path / "log").open("w") as log,
        running(words, stdout=log, stderr=log, env=environment) as process,
    ):
        wait_until(lambda: any("EngineCore" in command for command in commands(variable)), process)
        process.terminate()
        assert process.wait(600) == 143
    assert soon(lambda: not commands(variable)), commands(variable)
