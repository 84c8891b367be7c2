"""Holds: who uses a file is seen by every process, and a hold ends with its process."""

import subprocess
import sys
from pathlib import Path

from stj.storage.holds import hold, unheld

HOLDER = """
import sys
from pathlib import Path
from stj.storage.holds import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def is_free(file: Path) -> bool:
    with unheld(file) as free:
        return free


def test_a_file_is_held_by_any_number_of_processes_until_the_last_one_ends(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.touch()
    command = [sys.executable, "-c", HOLDER, str(file)]
    holders = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for holder in holders:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
    for holder in holders:
        assert not is_free(file)
        holder.kill()
        holder.communicate()
    assert is_free(file)


def test_a_process_that_holds_a_file_twice_holds_it_once_more_than_nobody(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.touch()
    for _ in range(2):
        hold(file)
    assert not is_free(file)


def test_what_does_not_exist_is_free(tmp_path: Path) -> None:
    hold(tmp_path / "nothing")
    assert is_free(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
