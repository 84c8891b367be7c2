"""A repository of the hub, as a place to publish to. All files come in one commit, so that no half of them is ever seen.

The token is the one of `hf auth login` or HF_TOKEN; it is read by the hub's client and appears in no message.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stj.errors import ArtifactError, ConfigError, StjError
from stj.hub_log import unsigned
from stj.models.hub import hub_is_offline
from stj.storage.digest import FileDigest

_OF_NEW_REPOSITORIES = {".gitattributes"}
"""What the hub itself puts into a new repository."""
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write there"
_LONGEST_CAUSE = 300  # characters of an error by the hub


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """A repository of the hub, which may not exist yet."""

    id: str
    kind: Literal["model", "dataset"]

    @property
    def url(self) -> str:
        """Its page."""
        from huggingface_hub.constants import ENDPOINT

        return f"{ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.id}"

    def require_empty(self) -> None:
        """Raises ConfigError if it holds files, or if there is no token; StjError if the hub does not answer."""
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import RepositoryNotFoundError

        if hub_is_offline():
            raise ConfigError(f"DEST=hub:{self.id}: HF_HUB_OFFLINE forbids to ask the hub; unset it, or name a directory")
        if not get_token():
            raise ConfigError(f"DEST=hub:{self.id}: there is no token for the hub: {_LOG_IN}")
        with self._explained():
            try:
                held = set(HfApi().list_repo_files(self.id, repo_type=self.kind)) - _OF_NEW_REPOSITORIES
            except RepositoryNotFoundError:  # also a private one that the token may not read
                return
        if held:
            raise ConfigError(
                f"DEST=hub:{self.id}: holds {len(held)} files ({min(held)}), and nothing is overwritten: name a new "
                "repository, or delete its files"
            )

    def upload(self, files: Mapping[str, Path], digests: Mapping[str, FileDigest]) -> None:
        """Sends the files, checks what was sent, and commits all of them at once; makes the repository if there is none.

        What an earlier try has sent is not sent again. Raises ArtifactError if a file is not what its digest says, and StjError
        if the hub refuses; then nothing is committed.
        """
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        api = HfApi()
        additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path.resolve()) for name, path in files.items()]
        with self._explained():
            api.create_repo(self.id, repo_type=self.kind, exist_ok=True)
            self.require_empty()
            before = api.repo_info(self.id, repo_type=self.kind).sha
            api.preupload_lfs_files(self.id, additions, repo_type=self.kind, free_memory=False)
            for addition in additions:
                self._check(addition.path_in_repo, addition.upload_info.sha256.hex(), digests)
            message = "Published by stj export"
            api.create_commit(self.id, additions, commit_message=message, repo_type=self.kind, parent_commit=before)

    def _check(self, name: str, sha256: str, digests: Mapping[str, FileDigest]) -> None:
        if digests[name].sha256 != sha256:
            raise ArtifactError(
                f"{name}: changed or damaged while it was sent to hub:{self.id}: its SHA-256 is {sha256[:12]}... instead of "
                f"{digests[name].sha256[:12]}...; nothing was committed. Run the same command again"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns an error of the hub's client into one line without the token."""
        try:
            yield
        except StjError:
            raise
        except Exception as error:  # the client's errors, and those of the HTTP library that it happens to use
            status = getattr(getattr(error, "response", None), "status_code", None)
            remedy = f"{_LOG_IN}, if the organization is yours" if status in (401, 403) else "run the same command again"
            raise StjError(
                f"hub:{self.id}: the hub does not take it ({_cause(error)}); nothing was committed: {remedy}"
            ) from None


def _cause(error: BaseException) -> str:
    """What an error and the one behind it say, in one line, without the token."""
    from huggingface_hub import get_token

    said = []
    for each in (error, error.__cause__):
        if each is not None:
            said.append(" ".join(str(each).split()) or type(each).__name__)
    text, token = unsigned(": ".join(said)), get_token()
    return (text.replace(token, "***") if token else text)[:_LONGEST_CAUSE]
