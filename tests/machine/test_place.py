"""A directory that every machine must see: the driver's mark is there, or it is another directory of the same name."""

import os
from pathlib import Path

import pytest

from stj.errors import StjError
from stj.machine.needs import MachineNeeds, machine_words
from stj.machine.place import MARK, place_in, seen_from_here, shared
from stj.storage.folder import Folder


def test_a_machine_that_sees_the_mark_and_one_that_does_not(tmp_path: Path) -> None:
    with shared(Folder.at(tmp_path / "run")) as place:
        assert place.fault() is None
        assert place_in(Folder.at(tmp_path / "run")) == place
        (tmp_path / "run" / MARK).rename(tmp_path / "elsewhere")  # as on a machine with a directory of its own
        fault = MachineNeeds(place=place).fault()
        assert fault == (
            f"it does not see what the driver wrote to {tmp_path}/run: name a run_root that every machine reads and writes "
            "(s3://, gs://, or a shared disk)"
        )
        (tmp_path / "run" / MARK).write_text("of another run")
        assert place.fault() == fault
    assert os.listdir(tmp_path / "run") == []
    assert place_in(Folder.at(tmp_path / "run")) is None


def test_a_look_beside_a_run_leaves_the_run_s_mark(tmp_path: Path) -> None:
    with shared(Folder.at(tmp_path / "run")) as place:
        with seen_from_here(str(tmp_path / "run")) as look:
            assert look.fault() is None
            assert look.name != place.name
        assert place.fault() is None
        assert os.listdir(tmp_path / "run") == [MARK]


def test_a_look_makes_no_directory(tmp_path: Path) -> None:
    with seen_from_here(str(tmp_path / "new" / "run")) as look:
        assert look.uri == str(tmp_path)
        assert look.fault() is None
        (tmp_path / look.name).unlink()
        assert "it does not see what the driver wrote to" in (look.fault() or "")
    assert os.listdir(tmp_path) == []


def test_a_directory_that_a_machine_may_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shared(Folder.at(tmp_path)) as place:

        def refuse(self: Folder, name: str, data: bytes) -> None:
            raise StjError(f"{self.uri}: cannot write: Read-only file system")

        monkeypatch.setattr(Folder, "write", refuse)
        fault = place.fault() or ""
        assert fault.startswith(f"it cannot use {tmp_path} (a file cannot be written there (Read-only file system)")


def test_an_object_store_that_a_machine_cannot_reach(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    location, _, options = bucket.partition("?")
    with shared(Folder.at(f"{location}/run?{options}")) as place:
        assert place.fault() is None
        away = type(place)(uri=f"{location}/other?{options}", mark=place.mark)
        assert "it does not see what the driver wrote to" in (away.fault() or "")


def test_machines_in_words() -> None:
    assert machine_words(["a", "a"]) == "machine a"
    assert machine_words(["a", "b"]) == "machines a, b"
    assert machine_words([f"10.0.0.{number}" for number in range(32)]) == "machines 10.0.0.0, 10.0.0.1, 10.0.0.2 and 29 more"
