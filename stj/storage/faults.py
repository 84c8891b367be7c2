"""Failures of disks and stores that libraries report in their own words, or wrap in errors of their own."""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from stj.errors import StjError, StorageFailed
from stj.storage.folder import existing, is_lasting, write_failure
from stj.storage.location import is_uri

_REASONS = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Input/output error|File too large"
    r"|(?P<torch>PytorchStreamWriter failed|inline_container|basic_ios::clear)"  # names no reason: it is mostly a full disk
    r"|\bos error (?:5|27|28|30|122)\b"  # Rust's words for the same: safetensors, tokenizers
)
_PART = "the disk took only a part of a file"


def storage_fault(error: BaseException, places: Iterable[str]) -> StorageFailed | None:
    """The failure of a disk or store behind an error, if only a person can mend it; None for other errors.

    Its one line names the file that the error names, or the fullest of `places`, the paths that may have been written.
    """
    for link in _chain(error):
        if isinstance(link, StorageFailed):
            return link
        if isinstance(link, OSError) and is_lasting(link):
            place = str(link.filename) if link.filename else _fullest(places)
            return _failure(place, link.strerror or str(link))
        if not isinstance(link, StjError) and (reason := _REASONS.search(str(link))):
            return _failure(_fullest(places), _PART if reason["torch"] else reason[0])
    return None


def _failure(place: str, reason: str) -> StorageFailed:
    return StorageFailed(str(write_failure(place, reason, lasting=True)))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what caused it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _fullest(places: Iterable[str]) -> str:
    """The place whose disk has the least room; URIs have none."""
    room = {}
    for place in places:
        if is_uri(place):
            continue
        with suppress(OSError, ValueError):
            room[place] = shutil.disk_usage(existing(Path(place).absolute())).free
    return min(room, key=lambda place: room[place]) if room else "a disk of this machine"
