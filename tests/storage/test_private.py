"""What other users may have put under names that they can guess; real owners, files and links."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stj.errors import ConfigError
from stj.storage.private import private_folder


def of_another_user(place: Path) -> None:
    place.mkdir()
    try:
        os.chown(place, os.getuid() + 12345, -1)
    except PermissionError:
        pytest.skip("no right to give a directory away")


def link(place: Path) -> None:
    (place.parent / "elsewhere").mkdir()
    place.symlink_to(place.parent / "elsewhere")


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
    place = tmp_path / "stj-0"
    make(place)
    before = place.lstat()
    with pytest.raises(ConfigError, match=rf"stj-0 {fault}.*: set TMPDIR to a folder of your own$"):
        private_folder(place, "TMPDIR")
    assert place.lstat() == before
    assert [path for path in tmp_path.rglob("*") if path not in (place, tmp_path / "elsewhere")] == []


def test_a_folder_of_this_user_is_closed_to_others(tmp_path: Path) -> None:
    place = tmp_path / "stj-0"
    assert private_folder(place, "TMPDIR").stat().st_mode & 0o777 == 0o700
    place.chmod(0o777)
    private_folder(place, "TMPDIR")
    assert place.stat().st_mode & 0o777 == 0o700
