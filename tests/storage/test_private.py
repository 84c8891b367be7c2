"""The folder that only this user enters, and what other users may have put under its name; real owners, files and links."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stj.errors import ConfigError, StjError
from stj.storage.private import holds_sockets, private_folder, private_opener

NAME = f"stj-{os.getuid()}"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def of_another_user(place: Path) -> None:
    place.mkdir()
    try:
        os.chown(place, os.getuid() + 12345, -1)
    except PermissionError:
        pytest.skip("no right to give a directory away")


def link(place: Path) -> None:
    (place.parent / "elsewhere").mkdir()
    place.symlink_to(place.parent / "elsewhere")


def test_nobody_else_enters_the_folder_or_reads_its_files(tmp_path: Path) -> None:
    folder = private_folder(str(tmp_path / "not" / "there"))
    assert (folder.name, mode(folder)) == (NAME, 0o700)
    with open(folder / "log", "w", opener=private_opener):
        assert mode(folder / "log") == 0o600


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(mode=0o777)
    assert mode(private_folder(str(tmp_path))) == 0o700


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (of_another_user, "belongs to another user"),
        (Path.touch, "is no directory"),
        (link, "is a link"),
        (lambda place: place.symlink_to("nowhere"), "is a link"),
    ],
    ids=["another user's", "file", "link", "dead link"],
)
def test_what_another_user_may_have_made_is_refused_and_not_used(
    make: Callable[[Path], None], fault: str, tmp_path: Path
) -> None:
    place = tmp_path / NAME
    make(place)
    before = place.lstat()
    with pytest.raises(ConfigError, match=rf"{NAME} {fault}.*: set TMPDIR to a folder of your own$"):
        private_folder(str(tmp_path))
    assert place.lstat() == before
    assert [path for path in tmp_path.rglob("*") if path not in (place, tmp_path / "elsewhere")] == []


def test_a_temporary_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StjError, match="cannot write: Not a directory"):
        private_folder(str(tmp_path / "file"))


@pytest.mark.parametrize(("length", "fits"), [(60, True), (70, True), (71, False)])
def test_linux_takes_sockets_of_107_bytes(length: int, fits: bool) -> None:
    assert holds_sockets(Path("/" + "x" * (length - 1)), 36) is fits
