"""The hub of Hugging Face: ids of models, what the hub has of them, and fetches into its own cache."""

import re
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.hub_log import quiet_hub

WEIGHTS = "*.safetensors"
"""Names of the files that hold weights."""
_HUB_ID = re.compile(r"(?!.*(--|\.\.))[\w-][\w.-]*/[\w-][\w.-]*")
_HUB_S = 10.0  # Longest wait for the hub's list of sizes.


def is_hub_id(location: str) -> bool:
    """Whether a location is an id on the hub; an existing local path is not."""
    return is_hub_name(location) and not Path(location).exists()


def is_hub_name(word: str) -> bool:
    """Whether a word has the form of an id on the hub, whatever lies here."""
    return bool(_HUB_ID.fullmatch(word))


def hub_is_offline() -> bool:
    """Whether the user's HF_HUB_OFFLINE forbids to ask the hub."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def hub_files(model: ModelConfig) -> list[str]:
    """The names of a hub model's files; fetches none. Raises ModelError if the hub does not list them."""
    from huggingface_hub import HfApi

    quiet_hub()
    try:
        names: list[str] = HfApi().list_repo_files(model.path, revision=model.revision)
    except Exception as error:  # the client's errors, and those of the HTTP library that it happens to use
        raise _not_delivered(model, error) from None
    return names


def from_hub(model: ModelConfig, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    quiet_hub()
    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=list(patterns)))
    except Exception as error:  # the client's errors, and those of the HTTP library that it happens to use
        raise _not_delivered(model, error) from None


def hub_size(model: ModelConfig) -> int:
    """Bytes of a model's weights on the hub; 0 if it does not say, as the fetch itself will say why."""
    from huggingface_hub import HfApi

    quiet_hub()
    with suppress(Exception):  # the client's errors, and those of the HTTP library that it happens to use
        files = HfApi().model_info(model.path, revision=model.revision, files_metadata=True, timeout=_HUB_S).siblings
        return sum(file.size or 0 for file in files or () if fnmatch(file.rfilename, WEIGHTS))
    return 0


def hub_snapshots(model: str) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    return Path(HF_HUB_CACHE) / repo_folder_name(repo_id=model, repo_type="model") / "snapshots"


def _not_delivered(model: ModelConfig, error: Exception) -> ModelError:
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"model {model.path}: not a local directory, and the hub does not deliver it ({cause}). "
        "Check the name, the network and HF_TOKEN"
    )
