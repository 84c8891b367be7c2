"""`stj doctor` for a model on the hub, asked by the hub's protocol on this machine: it fetches small files and no weights."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINI = str(ROOT / "conf" / "mini.yaml")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """A hub whose models lie in `directory`."""

    directory: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        """A list of files, or a file."""
        path = self.path.partition("?")[0]
        model = self.directory / path.removeprefix("/api/models").split("/")[2]
        files = sorted(model.iterdir()) if model.is_dir() else []
        if path.startswith(f"/api/models/org/{model.name}/tree/"):
            listed = [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name} for file in files]
            content = json.dumps(listed).encode()
        elif path.startswith("/api/models/"):
            siblings = [{"rfilename": file.name} for file in files]
            content = json.dumps({"id": f"org/{model.name}", "sha": COMMIT, "siblings": siblings, "tags": []}).encode()
        else:
            file = model / path.rpartition("/")[2]
            self.asked.append(file.name)
            if not (path.startswith(f"/org/{model.name}/resolve/") and file.is_file()):
                self.send_error(404)
                return
            content = file.read_bytes()
        self.send_response(200)
        for name, value in {"ETag": f'"{len(content)}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: tests print no log."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[type[Hub], str]]:
    """A hub on this machine, and its address: `org/small`, and `org/pickled`, whose weights are not safetensors."""
    models = tmp_path / "models"
    for name in ("small", "pickled"):
        shutil.copytree(ROOT / "stj/mini/seed_model", models / name)
    (models / "pickled" / "model.safetensors").rename(models / "pickled" / "pytorch_model.bin")
    handler = type("TwoModels", (Hub,), {"directory": models, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def doctor(address: str, tmp_path: Path, *more: str) -> tuple[int, list[str]]:
    """The exit code and the findings on the hub's models and the source."""
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    words = [sys.executable, "-m", "stj.cli", "doctor", MINI, "models.seed.path=org/small", f"run_root={tmp_path}/run", *more]
    ran = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, [
        line
        for line in ran.stdout.splitlines()
        if re.search("models.seed: |models.generator: .*org/pickled|source: source|WRONG .*the hub did not", line)
    ]


@pytest.mark.slow
def test_models_on_the_hub_are_checked_by_their_small_files(hub: tuple[type[Hub], str], tmp_path: Path) -> None:
    code, lines = doctor(hub[1], tmp_path, "models.generator.path=org/pickled")
    assert code == 2, lines
    generator, seed = (next(line for line in lines if f"models.{role}: " in line) for role in ("generator", "seed"))
    assert seed.startswith("ok ")
    assert "1 safetensors files on the hub" in seed
    assert generator.startswith("WRONG ")
    assert "its weights are not safetensors (pytorch_model.bin)" in generator
    assert "tokenizer.json" in hub[0].asked
    assert not [name for name in hub[0].asked if name.endswith((".safetensors", ".bin"))]


@pytest.fixture
def calls() -> Iterator[list[str]]:
    """The calls to a hub that hangs up at each one; the first entry is its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        calls = [f"http://127.0.0.1:{listener.getsockname()[1]}"]

        def hang_up() -> None:
            with suppress(OSError):  # the test is over
                while True:
                    connection, caller = listener.accept()
                    connection.close()
                    calls.append(str(caller))

        threading.Thread(target=hang_up, daemon=True).start()
        yield calls
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.long
def test_a_hub_that_does_not_answer_is_one_line_and_is_asked_once(tmp_path: Path, calls: list[str]) -> None:
    places = ("source.path=org/data", "heldout.path=judgebench", "benchmarks=[ppe-human]", "source.keep_out=[rmbench]")
    code, lines = doctor(calls[0], tmp_path, *places)
    assert code == 2
    assert "the hub does not deliver it" in lines[0]
    assert all("and the hub did not provide it" in line for line in lines[1:])
    assert len(lines) == 5
    assert 5 <= len(calls[1:]) <= 10  # the libraries' own retries are five for each
