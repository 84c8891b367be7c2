"""The folder that only this user enters."""

import os
import stat
from pathlib import Path

import pytest

from stj.errors import CapacityError
from stj.storage.private import holds_sockets, private_folder, private_opener


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def open_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def test_nobody_else_enters_the_folder_or_reads_its_files(tmp_path: Path) -> None:
    folder = private_folder(str(tmp_path / "not" / "there"))
    assert (folder.name, mode(folder)) == (f"stj-{os.getuid()}", 0o700)
    with open(folder / "log", "w", opener=private_opener):
        assert mode(folder / "log") == 0o600


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / f"stj-{os.getuid()}").mkdir(mode=0o777)
    assert mode(private_folder(str(tmp_path))) == 0o700


def test_what_another_user_may_have_put_there_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / f"stj-{os.getuid()}"
    (tmp_path / "mine").mkdir()
    place.symlink_to(tmp_path / "mine")
    with pytest.raises(CapacityError, match="belongs to another user; set TMPDIR to a folder of your own"):
        private_folder(str(tmp_path))
    place.unlink()
    place.write_text("")
    with pytest.raises(CapacityError, match=r"stj-\d+: File exists; set TMPDIR"):
        private_folder(str(tmp_path))
    place.unlink()
    nobody = os.getuid() + 1
    (tmp_path / f"stj-{nobody}").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: nobody)
    with pytest.raises(CapacityError, match="belongs to another user"):
        private_folder(str(tmp_path))


def test_a_temporary_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CapacityError, match="Not a directory; set TMPDIR"):
        private_folder(str(tmp_path / "file"))


@pytest.mark.parametrize(("length", "fits"), [(60, True), (70, True), (71, False)])
def test_linux_takes_sockets_of_107_bytes(length: int, fits: bool) -> None:
    assert holds_sockets(Path("/" + "x" * (length - 1)), 36) is fits
