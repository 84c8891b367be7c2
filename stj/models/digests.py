"""Whether a model's files on this machine are what they were written as, by the hashes that came with them.

    a model that `stj` wrote or fetched    the SHA-256 sums in its manifest.json, or else those of the fetch in stj-fetched.json
    the hub's cache                        the name of a blob: its SHA-256, or the SHA-1 of a file that holds no weights
    `hf download --local-dir`              the same hashes, in .cache/huggingface/download beside the files
    any other directory                    nothing: a run compares its files with those that it began with

Weights are read once on a machine, and again when they have changed (stj/storage/known_digests.py).
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

from stj.config import ModelConfig
from stj.errors import ModelError, StjError
from stj.models.hub import WEIGHTS, is_hub_id
from stj.models.locate import loaded_files, model_folder, model_identity
from stj.storage.artifacts import MANIFEST
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, explain_read_failure
from stj.storage.known_digests import known_digests
from stj.storage.sealed import read_sealed, write_sealed

_SHA256, _SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")
_FETCHED = "stj-fetched.json"
_DOWNLOADED = ".cache/huggingface/download"
_MAKE_AGAIN = "copy or make the model again"
_OURS_OR_NOT = f"{_MAKE_AGAIN}, or delete this file if another program wrote it"
_OLDER = "remove this file, and the model is used like one from elsewhere, or make the model again"
_OURS = {"stj", "fingerprint", "sha256"}
"""Fields of a manifest by `stj`, of which a flipped bit hides one. Other programs write files of this name too."""


def written_digests(folder: Folder, name: str) -> dict[str, FileDigest]:
    """The digests in the manifest that stj wrote beside a model; empty for a model from elsewhere.

    Raises ModelError, with the model's name, if the manifest is damaged.
    """
    if not folder.exists(MANIFEST):
        return {}
    try:
        with suppress(ValueError, RecursionError):
            record = json.loads(folder.read(MANIFEST))
            if not isinstance(record, dict) or len(_OURS & record.keys()) < len(_OURS) - 1:
                return {}
        manifest = read_sealed(folder, MANIFEST, _OURS_OR_NOT, _OLDER)
        return {file: FileDigest(**facts) for file, facts in manifest.get("model", {}).get("files", {}).items()}
    except (StjError, TypeError, AttributeError) as error:
        raise ModelError(f"model {name}: {error}") from None


def write_fetched(directory: Path, digests: Mapping[str, FileDigest]) -> None:
    """Writes down what was fetched from a store, for a model without a manifest: nothing else says what its files must be."""
    files = {file: asdict(digest) for file, digest in digests.items()}
    if not written_digests(Folder.at(directory), str(directory)):
        write_sealed(Folder.at(directory), _FETCHED, {"files": files})


def is_copy(directory: Path) -> bool:
    """Whether a directory of the cache says what its files must be: a whole copy does."""
    return (directory / MANIFEST).is_file() or (directory / _FETCHED).is_file()


def refuse_damaged(directory: Path, name: str, *, weights: bool, copied: bool = False) -> None:
    """Raises ModelError, which names the file and the remedy, if a file of a model is not what it was written as.

    `name` is the model's name in errors. Without `weights`, only the small files beside them are read. `copied` models lie in
    the cache of this machine.
    """
    _refuse_lost_links(directory, name, weights=weights)
    digests = written_digests(Folder.at(directory), name) or (_fetched_digests(directory, name) if copied else {})
    hashes = {file: digest.sha256 for file, digest in digests.items()} or dict(_hashes_of_hub(directory))
    wanted = sorted(file for file in hashes if weights or not fnmatch(file, WEIGHTS))
    remedy = _fetch_again(directory) if copied else _MAKE_AGAIN if digests else ""
    for file in wanted:
        if not (directory / file).exists():
            raise ModelError(f"model {name}: {directory / file} is missing: {remedy or _hub_remedy(directory, file)}")
    with explain_read_failure(str(directory)):
        large = [file for file in wanted if _SHA256.fullmatch(hashes[file])]
        found = dict(zip(large, known_digests([(directory / file).resolve() for file in large]), strict=True))
        small = {file: _sha1_hashes((directory / file).read_bytes()) for file in wanted if file not in found}
    for file in wanted:
        if hashes[file] not in ({found[file].sha256} if file in found else small[file]):
            raise ModelError(
                f"model {name}: {directory / file} is damaged or was changed: its content does not have the hash "
                f"{hashes[file][:12]}... that it was written with: {remedy or _hub_remedy(directory, file)}"
            )


def refuse_other_weights(model: ModelConfig, identity: str) -> None:
    """Raises ModelError if the files of a local model are not those of this identity, which the driver found at the start.

    So a machine with other files under the same path is refused, and a file that was changed or damaged during a run.
    """
    if model.endpoint or is_hub_id(model.path) or identity.startswith("model "):  # a model of this run has a manifest
        return
    if model_folder(model.path).local and (here := model_identity(model)) != identity:
        raise ModelError(
            f"model {model.path}: its files here have the identity {here[:12]}..., and the run began with {identity[:12]}...: "
            "they were changed or damaged meanwhile, or this machine has others than the driver's. Bring back the files that "
            "the run began with"
        )


def _fetched_digests(directory: Path, name: str) -> dict[str, FileDigest]:
    """The digests that `write_fetched` wrote. Raises ModelError if they are damaged."""
    folder = Folder.at(directory)
    try:
        record = read_sealed(folder, _FETCHED, _fetch_again(directory), fields=("files",)) if folder.exists(_FETCHED) else {}
    except StjError as error:
        raise ModelError(f"model {name}: {error}") from None
    return {file: FileDigest(**facts) for file, facts in record.get("files", {}).items()}


def _fetch_again(directory: Path) -> str:
    return f"delete {directory} and run again: it is fetched again"


def _hashes_of_hub(directory: Path) -> Iterator[tuple[str, str]]:
    """The hashes of loaded files that the hub's client knows. Weights may be gone: others, which are loaded, may be there."""
    noted = {note.name.removesuffix(".metadata") for note in (directory / _DOWNLOADED).glob("*.metadata")}
    beside_weights = {file for file in noted if not fnmatch(file, WEIGHTS)}
    for file in loaded_files(Folder.at(directory), beside_weights):
        blob = (directory / file).resolve()
        beside = _note(directory, file)
        if blob.parent.name == "blobs":
            known = blob.name
        elif beside.is_file():
            known = "".join(beside.read_text(encoding="utf-8", errors="replace").splitlines()[1:2])
        else:
            continue
        if _SHA256.fullmatch(known) or (_SHA1.fullmatch(known) and not fnmatch(file, WEIGHTS)):
            yield file, known


def _refuse_lost_links(directory: Path, name: str, *, weights: bool) -> None:
    """Raises ModelError if a file that is loaded is a link to nowhere, as in a half copied cache: no library would miss it."""
    lost = [path.name for path in directory.iterdir() if path.is_symlink() and not path.exists()]
    for file in loaded_files(Folder.at(directory), lost) if lost else ():
        if file in lost and (weights or not fnmatch(file, WEIGHTS)):
            raise ModelError(
                f"model {name}: {directory / file} is a link to {os.readlink(directory / file)}, where nothing is: fetch the "
                "model again, or copy it with the files that its links lead to (cp -L)"
            )


def _note(directory: Path, file: str) -> Path:
    """Where `hf download --local-dir` notes a file's revision, its hash and the time."""
    return directory / _DOWNLOADED / f"{file}.metadata"


def _hub_remedy(directory: Path, file: str) -> str:
    if (directory / file).is_symlink():
        return "delete it and the file that it links to, and run again: it is fetched again"
    note = _note(directory, file)
    return f"download it again with `hf download`; or, if you have edited or deleted it, delete {note} and run again"


def _sha1_hashes(content: bytes) -> set[str]:
    """What a small file is named by: git's hash on the hub, the plain one on some mirrors."""
    return {hashlib.sha1(head + content, usedforsecurity=False).hexdigest() for head in (b"", b"blob %d\0" % len(content))}
