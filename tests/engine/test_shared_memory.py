"""Names in /dev/shm of the memory of workers: those of an engine that has started go, and what a killed one left."""

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from stj.engine import shared_memory
from stj.engine.shared_memory import remove_names
from tests.conftest import running

MAPS = """
import mmap, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)
    return tmp_path


def made(folder: Path, name: str) -> Path:
    file = folder / name
    file.write_bytes(bytes(4096))
    return file


def test_names_of_our_workers_and_of_dead_ones_go_and_those_of_others_stay(folder: Path) -> None:
    ours, dead, others = (made(folder, f"vllm_dist_{name}-tp:0-[0-1]-cpushm_0") for name in ("ours", "dead", "others"))
    unrelated = made(folder, "psm_1")
    with others.open("r+b") as file, mmap.mmap(file.fileno(), 0):  # this process is no worker of its own engine
        words = [sys.executable, "-c", MAPS, str(ours)]
        with running(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "\n"
            remove_names()
            assert [file.exists() for file in (ours, dead, others, unrelated)] == [False, False, True, True]
    remove_names()
    assert [*folder.iterdir()] == [unrelated]


def test_a_machine_without_such_files_is_no_error(folder: Path) -> None:
    remove_names()
