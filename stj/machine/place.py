"""Whether a machine sees the run's directory: the driver leaves a mark there, which every machine must find."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from stj.errors import StjError
from stj.storage.folder import Folder, existing
from stj.storage.probe import probe

MARK = "seen-by-all-machines"
"""Name of the file with the mark."""


@dataclass(frozen=True, kw_only=True)
class SharedPlace:
    """A directory that every machine must read and write."""

    uri: str
    mark: str
    name: str = MARK
    """The file that holds the mark."""

    def fault(self) -> str | None:
        """Why this machine cannot work there, with the remedy; None if it can."""
        remedy = "name a run_root that every machine reads and writes (s3://, gs://, or a shared disk)"
        try:
            folder = Folder.at(self.uri)
            if not folder.exists(self.name) or folder.read(self.name).decode() != self.mark:
                return f"it does not see what the driver wrote to {self.uri}: {remedy}"
            probe(self.uri, "run_root")
        except (StjError, OSError) as error:
            cause = str(error).removeprefix(f"run_root={self.uri}: ")
            return f"it cannot use {self.uri} ({cause}): {remedy}"
        return None


@contextmanager
def shared(folder: Folder, name: str = MARK) -> Iterator[SharedPlace]:
    """Leaves the driver's mark in a directory while the block runs. Raises StjError if it cannot be written."""
    place = SharedPlace(uri=folder.uri, mark=uuid.uuid4().hex, name=name)
    folder.write(name, place.mark.encode())
    try:
        yield place
    finally:
        with suppress(StjError, OSError):  # the next driver writes its own mark over it
            folder.delete(name)


@contextmanager
def seen_from_here(run_root: str) -> Iterator[SharedPlace]:
    """The place for a look beside a run that may work there: its mark stays, and a run_root that is not there is not made.

    Raises StjError or OSError if nothing can be written there.
    """
    local = Folder.at(run_root).local
    folder = Folder.at(existing(local)) if local else Folder.at(run_root)
    with shared(folder, f"{MARK}-{uuid.uuid4().hex}") as place:
        yield place


def place_in(folder: Folder) -> SharedPlace | None:
    """The place that this directory is, if a driver has left its mark there."""
    return SharedPlace(uri=folder.uri, mark=folder.read(MARK).decode()) if folder.exists(MARK) else None
