"""Where something is published: a directory of this machine, or a repository of the hub.

Both are filled the same way, and both appear whole or not at all: a directory takes its name when it is complete, and a
repository gets its files in one commit.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from stj.errors import ArtifactError, ConfigError
from stj.models.fetch import require_room_at
from stj.models.hub import is_hub_name
from stj.publishing.hub import HubRepository
from stj.storage.appearing import appearing, new_directory
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, explain_write_failure, sync_directory

HUB = "hub:"
_SETTING = "DEST"
RepositoryKind = Literal["model", "dataset"]


@dataclass(kw_only=True)
class Filling:
    """What is published, while it is put together."""

    directory: Path
    linked: bool
    """Whether large files are linked, because they are sent from where they lie."""
    digests: dict[str, FileDigest] = field(default_factory=dict)
    """What the files must be, by name."""

    def add(self, source: Path, digest: FileDigest) -> None:
        """Takes a file under its own name. Raises ArtifactError if the copy is not what the digest says."""
        self.digests[source.name] = digest
        if self.linked:
            (self.directory / source.name).symlink_to(source.resolve())
            return
        copied = Folder.at(source.parent).fetch(source.name, self.directory)
        if copied != digest:
            raise ArtifactError(
                f"{source}: changed or damaged while it was copied: its SHA-256 is {copied.sha256[:12]}... instead of "
                f"{digest.sha256[:12]}...; nothing was published. Run the same command again"
            )
        self.sync(source.name)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file with this content."""
        Folder.at(self.directory).write(name, content)
        self.digests[name] = FileDigest.of(content)

    def sync(self, name: str) -> None:
        """Has a written file outlast a power cut."""
        with explain_write_failure(str(self.directory)), (self.directory / name).open("rb") as file:
            os.fsync(file.fileno())

    def files(self) -> list[str]:
        """All files, by their paths below the directory."""
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file())


class Destination(Protocol):
    """A place to publish to, found empty."""

    @property
    def name(self) -> str:
        """What the published thing is called there: an id of the hub, or the name of the directory."""

    def require_room(self, size: int) -> None:
        """Raises StorageFailed if so many bytes have no room there."""

    def filling(self) -> AbstractContextManager[Filling]:
        """What is put in here is published when this ends without an error."""

    @property
    def shown(self) -> str:
        """Where it lies, for the user."""


@dataclass(frozen=True, kw_only=True)
class LocalDirectory:
    """A new or empty directory of this machine."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.name

    @property
    def shown(self) -> str:
        """Its path."""
        return str(self.path)

    def require_room(self, size: int) -> None:
        """Makes room by removing copies of models that may go. Raises StorageFailed if that is not enough."""
        require_room_at(self.path, size)

    @contextmanager
    def filling(self) -> Iterator[Filling]:
        """A directory beside it, which takes its place at the end."""
        with appearing(self.path, "exporting") as directory:
            yield Filling(directory=directory, linked=False)
            sync_directory(directory)


@dataclass(frozen=True, kw_only=True)
class HubDestination:
    """A new or empty repository of the hub."""

    repository: HubRepository

    @property
    def name(self) -> str:
        """Its id."""
        return self.repository.id

    @property
    def shown(self) -> str:
        """Its address."""
        return self.repository.url

    def require_room(self, size: int) -> None:
        """The hub says itself what it does not take."""

    @contextmanager
    def filling(self) -> Iterator[Filling]:
        """A directory of links and small files, which is sent at the end."""
        with tempfile.TemporaryDirectory(prefix="stj-") as scratch:
            filling = Filling(directory=Path(scratch), linked=True)
            yield filling
            self.repository.upload({name: filling.directory / name for name in filling.files()}, filling.digests)


def destination(word: str, kind: RepositoryKind) -> Destination:
    """The empty place that a word names: `hub:org/name`, or a directory.

    Raises ConfigError if it holds files already, or cannot be one; and StjError if the hub does not answer.
    """
    if not word.startswith(HUB):
        return LocalDirectory(path=new_directory(word, _SETTING))
    identifier = word.removeprefix(HUB)
    if not is_hub_name(identifier):
        raise ConfigError(f"{_SETTING}={word}: no id of the hub: write {HUB}ORGANIZATION/NAME, in letters, digits, - _ and .")
    repository = HubRepository(id=identifier, kind=kind)
    repository.require_empty()
    return HubDestination(repository=repository)
