"""`stj doctor` for a model on the hub, asked by the hub's protocol on this machine: it fetches small files and no weights."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINI = str(ROOT / "conf" / "mini.yaml")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """A hub with one model, whose files lie in `directory`."""

    directory: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        """A list of files, or a file."""
        path = self.path.partition("?")[0]
        files = sorted(self.directory.iterdir())
        if path.startswith("/api/models/org/small/tree/"):
            listed = [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name} for file in files]
            content = json.dumps(listed).encode()
        elif path.startswith("/api/models/org/small"):
            siblings = [{"rfilename": file.name} for file in files]
            content = json.dumps({"id": "org/small", "sha": COMMIT, "siblings": siblings, "tags": []}).encode()
        else:
            file = self.directory / path.rpartition("/")[2]
            self.asked.append(file.name)
            if not (path.startswith("/org/small/resolve/") and file.is_file()):
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
    """A hub on this machine, and its address."""
    model = Path(shutil.copytree(ROOT / "stj/mini/seed_model", tmp_path / "small"))
    handler = type("OneModel", (Hub,), {"directory": model, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def doctor(address: str, tmp_path: Path, *more: str) -> tuple[int, list[str]]:
    """The exit code and the findings on models.seed and the source."""
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    words = [sys.executable, "-m", "stj.cli", "doctor", MINI, "models.seed.path=org/small", f"run_root={tmp_path}/run", *more]
    ran = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, [line for line in ran.stdout.splitlines() if "models.seed: " in line or "source: source" in line]


def test_a_model_on_the_hub_is_checked_by_its_small_files(hub: tuple[type[Hub], str], tmp_path: Path) -> None:
    code, lines = doctor(hub[1], tmp_path)
    assert code == 0, lines
    assert "1 safetensors files on the hub" in lines[0]
    assert "tokenizer.json" in hub[0].asked
    assert not [name for name in hub[0].asked if name.endswith(".safetensors")]


def test_a_model_without_safetensors_on_the_hub_is_refused(hub: tuple[type[Hub], str], tmp_path: Path) -> None:
    (hub[0].directory / "model.safetensors").rename(hub[0].directory / "pytorch_model.bin")
    code, lines = doctor(hub[1], tmp_path)
    assert code == 2
    assert "its weights are not safetensors (pytorch_model.bin)" in lines[0]
    assert "pytorch_model.bin" not in hub[0].asked


def test_a_hub_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    started = time.monotonic()
    code, lines = doctor("http://127.0.0.1:1", tmp_path, "source.path=org/data")
    assert code == 2
    assert "the hub does not deliver it" in lines[0]
    assert "and the hub did not provide it" in lines[1]
    assert len(lines) == 2
    assert time.monotonic() - started < 60  # not after all of the libraries' retries
