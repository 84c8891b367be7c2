"""Secrets of the environment reach no disk, terminal, process title or metric; and what other users of the machine reach.

Every command runs with secrets in its environment and with folders of its own. Then all that it left is searched for them.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.canaries import (
    SECRETS,
    Titles,
    key_of,
    leaks,
    mark_of,
    marked_processes,
    new_shared_files,
    secrets_in_environment,
    value_of,
)
from tests.conftest import running, wait_until
from tests.judging.mini_server import mini_server

ROOT = Path(__file__).parents[1]
STJ = [sys.executable, "-m", "stj.cli"]
PAIRS = [{"id": str(i), "instruction": f"Is {i} red?", "response_a": "yes", "response_b": "no"} for i in range(4)]


def test_a_secret_is_found_in_every_form(tmp_path: Path) -> None:
    """A search that finds nothing is worth nothing."""
    import base64
    import gzip
    from urllib.parse import quote

    import pyarrow as pa
    import pyarrow.parquet as pq

    secret = value_of("HF_TOKEN")
    forms = [secret, json.dumps({"a": secret}), quote(secret), secret.encode().hex()]
    forms += [base64.b64encode(f"{'x' * shift}{secret}".encode()).decode() for shift in range(3)]
    for number, form in enumerate(forms):
        (tmp_path / f"{number}.log").write_text(form)
    (tmp_path / "7.gz").write_bytes(gzip.compress(secret.encode()))
    pq.write_table(pa.table({"text": [secret] * 100}), tmp_path / "8.parquet", compression="zstd")
    found = leaks([tmp_path], {"printed": secret.encode(), "clean": b"nothing"})
    assert {line.rpartition("/")[2][0] for line in found if "printed" not in line} == set("012345678")
    assert "HF_TOKEN in printed" in found
    assert not [line for line in found if not line.startswith("HF_TOKEN")]


@dataclass
class Left:
    """What some commands left behind."""

    home: Path
    printed: dict[str, bytes] = field(default_factory=dict)
    listeners: set[tuple[str, str]] = field(default_factory=set)
    """Addresses beyond loopback on which processes listened, with their titles."""


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    """A run that was killed, the run that resumed it, an engine that cannot start, a server, and judges behind its API."""
    home = Path("/tmp") / f"stj-secrets-{os.getpid()}"  # short: sockets lie below
    umask = os.umask(0o022)
    mark = f"STJ_TEST_{os.urandom(8).hex()}"
    with pytest.MonkeyPatch.context() as environment, new_shared_files() as shared:
        for name, value in (secrets_in_environment(home) | {mark: "1"}).items():
            environment.setenv(name, value)
        result = Left(home)
        titles, ports = Titles(mark), Listeners(mark, result.listeners)
        titles.start(), ports.start()
        _use_everything(result)
        result.printed["titles"] = titles.end()
        ports.end()
    os.umask(umask)
    result.printed |= {f"shared memory {path}": path.read_bytes() for path in shared if path.is_file()}
    yield result
    subprocess.run(["rm", "-rf", str(home)], check=True)


def _use_everything(result: Left) -> None:
    home = result.home
    mini = [str(ROOT / "conf" / "mini.yaml"), f"run_root={home}/run", "source.limit=96", "heldout.limit=8", "iterations=1"]
    (home / "pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running([*STJ, "run", *mini, "engine.commit_interval_s=0"], **silent) as killed:
        wait_until(lambda: bool(list((home / "run" / "pairs" / "rows").glob("part-*.parquet"))), killed)
        killed.send_signal(signal.SIGKILL)
    _call(result, "run", [*STJ, "run", *mini], 0)
    judge = [*STJ, "judge", str(home / "pairs.jsonl"), "vote.decoding.max_tokens=64"]
    too_small = ["model=package://mini/seed_model", "engine.device=cpu", "engine.kv_cache_gib=0.00001"]
    _call(result, "failed engine", [*judge, *too_small, f"run_root={home}/failed"], 2)
    with mini_server(home / "serve.log", key_of("VLLM_API_KEY")) as server:
        behind = [f"model.endpoint={server}/v1", "model.name=package://mini/seed_model"]
        right, wrong = ([f"model.key_variable={name}"] for name in ("VLLM_API_KEY", "STJ_TEST_ENDPOINT_KEY"))
        _call(result, "judge", [*judge, *behind, *right, f"run_root={home}/judged"], 0)
        _call(result, "wrong key", [*judge, *behind, *wrong, f"run_root={home}/refused"], 2)
        url = server.replace("http://", f"http://me:{mark_of('netrc')}@")
        (home / "url.yaml").write_text(f"model: {{endpoint: '{url}/v1', name: x}}\n")
        (home / "variable.yaml").write_text("model: {endpoint: 'http://127.0.0.1', name: '${oc.env:HF_TOKEN}'}\n")
        for name in ("url", "variable"):
            _call(result, f"secret by {name}", [*judge, str(home / f"{name}.yaml"), f"run_root={home}/{name}"], 2)
            (home / f"{name}.yaml").unlink()
        for path in ("/v1/judge", "/metrics", "/docs"):
            for key in (key_of("VLLM_API_KEY"), key_of("OPENAI_API_KEY")):
                result.printed[f"{path} {key == key_of('VLLM_API_KEY')}"] = _asked(f"{server}{path}", key)
    _call(result, "eval", [*STJ, "eval", "package://mini/seed_model", f"pairs:{home}/none.jsonl", *mini[1:2]], 2)


def _call(result: Left, name: str, words: list[str], code: int) -> None:
    done = subprocess.run(words, capture_output=True, timeout=1200, cwd=ROOT, check=False)
    result.printed[name] = done.stdout + done.stderr
    assert done.returncode == code, result.printed[name].decode()


def _asked(url: str, key: str) -> bytes:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = json.dumps(PAIRS[0]).encode() if "judge" in url else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=600) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return error.read()


class Listeners(threading.Thread):
    """Collects addresses beyond loopback on which the processes with a mark listen, while it runs."""

    def __init__(self, mark: str, found: set[tuple[str, str]]) -> None:
        super().__init__(daemon=True)
        self._mark, self._found = mark.encode(), found
        self._ended = threading.Event()

    def run(self) -> None:
        """Looks once a second."""
        while not self._ended.wait(1):
            beyond = {f"socket:[{inode}]": address for address, inode in _listening() if not _loopback(address)}
            for process in marked_processes(self._mark):
                with suppress(OSError):
                    title = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0].decode()
                    for link in Path(f"/proc/{process}/fd").iterdir():
                        if address := beyond.get(os.readlink(link)):
                            self._found.add((address, title))

    def end(self) -> None:
        """Stops looking."""
        self._ended.set()
        self.join()


def _listening() -> Iterator[tuple[str, str]]:
    """The address and the inode of every socket of this machine that listens."""
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # listens
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
                yield socket.inet_ntop(family, words), fields[9]


def _loopback(address: str) -> bool:
    return address == "::1" or address.removeprefix("::ffff:").startswith("127.")


@pytest.mark.long
def test_no_secret_is_written_printed_or_shown(left: Left) -> None:
    assert set(left.printed) >= {"run", "failed engine", "judge", "wrong key", "eval", "titles"}
    assert left.printed["titles"].count(b"\n") > 10
    assert len([path for path in left.home.rglob("*") if path.is_file()]) > 100
    assert leaks([left.home], left.printed) == []


@pytest.mark.long
def test_nothing_listens_beyond_this_machine_but_the_store_of_ranks(left: Left) -> None:
    """PyTorch's store, through which the ranks of a training find each other, cannot be bound to an address."""
    assert {title for _, title in left.listeners} <= {"ray::RayTrainWorker", "ray::TrainController"}, left.listeners


@pytest.mark.long
def test_no_other_user_can_read_what_lies_in_temporary_folders(left: Left) -> None:
    open_to_all = [path for path in _reachable(left.home / "tmp") if stat.S_IMODE(path.stat().st_mode) & 0o066]
    assert not [path for path in open_to_all if path.name != "ray"]
    token = left.home / "home" / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def _reachable(folder: Path) -> Iterator[Path]:
    """The files below a folder that other users can reach: each folder on the way lets them in."""
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            if mode & 0o001:
                yield from _reachable(path)
        elif not stat.S_ISLNK(mode):
            yield path


@pytest.mark.long
def test_no_program_reports_its_use(left: Left) -> None:
    assert not list(left.home.rglob("telemetry*"))
    assert not list(left.home.rglob("usage_stats*"))


def test_the_secrets_are_different() -> None:
    assert len({mark_of(name) for name in SECRETS}) == len(SECRETS)
