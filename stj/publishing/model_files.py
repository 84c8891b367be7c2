"""The files of a model that are published: what an engine reads, checked, and nothing of its training."""

from dataclasses import dataclass
from pathlib import Path

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.adapter import ADAPTER_WEIGHTS, Adapter, has_tokenizer
from stj.models.fetch import held_model
from stj.models.hub import is_hub_id
from stj.models.locate import adapter_of, loaded_files
from stj.models.tokenizer import load_tokenizer
from stj.models.weights import read_tensors, read_weights
from stj.publishing.base_model import legal_files
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.storage.known_digests import known_digests


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A whole model, or an adapter, on this machine."""

    directory: Path
    digests: dict[str, FileDigest]
    """What is published, by name."""
    legal: tuple[Path, ...]
    """Licences and notices that lie beside it."""
    adapter: Adapter | None

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(digest.size for digest in self.digests.values())


def model_files(model: ModelConfig) -> ModelFiles:
    """The files of a model, fetched if need be, checked against its hashes, and held so that nothing removes them meanwhile.

    Raises ModelError if the model is missing, damaged, incomplete, not in safetensors, without a tokenizer, or an adapter whose
    base others do not have.
    """
    adapter = adapter_of(model)
    if adapter and not is_hub_id(adapter.base.path):
        raise ModelError(
            f"model {model.path}: an adapter of {adapter.base.path}, which is not on the hub, so nobody else could load it: "
            "train with train.lora.export=merged, or name the base's id in base_model_name_or_path of its adapter_config.json"
        )
    directory = held_model(model)
    folder = Folder.at(directory)
    if adapter:
        read_tensors(folder, ADAPTER_WEIGHTS, model.path)
    else:
        read_weights(folder, model.path, trained=True)
        if not has_tokenizer(directory):
            raise ModelError(f"model {model.path}: it has no tokenizer: put the one of its base beside it")
        load_tokenizer(directory)
    names = loaded_files(folder)
    digests = known_digests([(directory / name).resolve() for name in names])
    return ModelFiles(
        directory=directory, digests=dict(zip(names, digests, strict=True)), legal=legal_files(folder), adapter=adapter
    )
