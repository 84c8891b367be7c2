"""Whether a model can be used as the config asks, found out from its small files and the headers of its weights.

No weights are loaded or fetched, and no code that comes with a model is run. Each part of a model is its own check, so that
one start names all that is wrong: config, weights, tokenizer, context.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.findings import Finding, joined, look
from stj.models.adapter import ADAPTER_WEIGHTS
from stj.models.api_key import api_key
from stj.models.chat import check_chat
from stj.models.config_json import check_division, context_of, read_config, text_config
from stj.models.fetch import local_model, tokenizer_directory
from stj.models.hub import hub_files, hub_is_offline, is_hub_id
from stj.models.locate import adapter_of, whole_model
from stj.models.pooling import pooled_directory, pooling_of, reading_of
from stj.models.shapes import STANDARD_TYPES, check_shapes
from stj.models.tokenizer import load_tokenizer, stop_ids
from stj.models.weights import Tensor, read_index, read_tensors, read_weights, refuse_pointer, several, weight_files
from stj.package_files import package_path
from stj.storage.folder import Folder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_READ_BY_LOADERS = (
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer*.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
)
QUANTIZATION_KEYS = ("quantization_config", "compression_config")
"""Keys of a config.json, or of its text_config, that say how the weights are quantized."""
_UNFINISHED = ("*.incomplete", "*.part", "*.aria2", "*.crdownload")
"""What downloaders leave beside a file, or in its place, until it is whole."""
_WITHOUT_TEXT = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
    "ForMultipleChoice",
)
_CLASSES = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice", "RewardModel")
_OTHER_SENSES = ("vision_config", "audio_config")
_PACKED_LAYERS = ("full_attention", "sliding_attention")
"""Kinds of layers that keep the texts of a packed row apart. A recurrent layer would carry its state into the next text."""
FLOAT_DTYPES = {"BF16", "F16", "F32", "F64"}
"""Dtypes of weights that are not quantized, as safetensors names them."""
_POINTER_BYTES = 1 << 7


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """What a command does with a model."""

    roles: tuple[str, ...]
    """The settings that name it, such as `models.seed`."""
    model: ModelConfig
    trained: bool = False
    """Whether it is fine-tuned; otherwise an engine only asks it."""
    max_seq_len: int | None = None
    """The longest text that it learns, in tokens."""
    pooled: bool = False
    """Whether it embeds texts; otherwise it writes them."""
    asked: bool = True
    """Whether it answers chats; a model whose weights are merged needs no chat template."""
    limited: bool = True
    """Whether max_model_len must fit in the context; a judge in use takes the model's own context."""

    @property
    def subject(self) -> str:
        """The subject of findings on the model."""
        return ", ".join(self.roles)


def check_model_use(use: ModelUse) -> list[Finding]:
    """Every finding on one model: on its files and config, weights, tokenizer and context, or on the key of its API."""
    if use.model.endpoint:
        return [look(use.subject, partial(_check_endpoint, use.model))]
    whole = look_at(use, _check_adapter)
    if not whole.ok:
        return [whole]
    asked, use = use, replace(use, model=whole_model(use.model))
    files = look_at(use, _check_files)
    if not files.ok:  # If the directory cannot be read at all, its weights cannot be read either.
        readable = isinstance(files.error, ModelError)
        return joined(use.subject, [files, look_at(use, _check_headers)] if readable else [files])
    tokenizer = look_at(asked, _check_tokenizer)  # An adapter may have a tokenizer of its own.
    weights = look_at(use, partial(_check_weights, vocabulary=tokenizer.ok))
    return joined(use.subject, [whole, files, tokenizer, look_at(use, _check_config), weights, look_at(use, _check_context)])


def look_at(use: ModelUse, part: Callable[[ModelUse], str]) -> Finding:
    """The finding on one part of a model. A value of a wrong type in its files, which any library may trip over, is one too."""

    def check() -> str:
        try:
            return part(use)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            cause = f"model {use.model.path}: its files hold a value that cannot be used ({_first_line(error)})"
            raise ModelError(f"{cause}. Save the model again") from None

    return look(use.subject, check)


def check_vocabulary(config: Mapping[str, Any], tokenizer: "PreTrainedTokenizerBase", name: str) -> None:
    """Raises ModelError if the tokenizer has more ids than the embedding has rows, or if config.json does not say how many."""
    rows = text_config(config).get("vocab_size")
    if rows is None:
        raise ModelError(f"model {name}: its config.json names no vocab_size. Save it again")
    ids = max(tokenizer.get_vocab().values(), default=-1) + 1
    if ids > rows:
        raise ModelError(
            f"model {name}: its tokenizer has ids up to {ids - 1:,} and its embedding {rows:,} rows: "
            "they belong to different models. Put the tokenizer that it was trained with beside its weights"
        )


def check_whole(model: ModelConfig) -> None:
    """Raises ModelError if the model is an adapter: training begins from a whole model."""
    if adapter := adapter_of(model):
        raise ModelError(
            f"model {model.path} is an adapter of {adapter.base.path}, and training begins from a whole model: merge it first"
        )


def check_trainable(config: Mapping[str, Any], name: str) -> None:
    """Raises ModelError if training cannot begin from a model with this config: it is quantized, or not of text alone."""
    refuse_quantized(config, name, "a quantized model cannot be trained", ". An engine alone can use a quantized one")
    if senses := [key for key in _OTHER_SENSES if config.get(key) is not None]:
        raise ModelError(
            f"model {name}: its config.json has a {senses[0]}: training knows models of text alone. "
            "Name the text model of its family"
        )
    if others := [kind for kind in _layer_kinds(config) if kind not in _PACKED_LAYERS]:
        raise ModelError(
            f"model {name}: its config.json has layers of {others[0]}, and training knows "
            f"{' and '.join(_PACKED_LAYERS)}: name a model of these alone. An engine alone can use the others"
        )


def refuse_quantized(config: Mapping[str, Any], name: str, why: str, more: str = "") -> None:
    """Raises ModelError if a config says that its weights are quantized."""
    if found := _quantization(config):
        key, value = found
        method = value.get("quant_method", "an unnamed method") if isinstance(value, Mapping) else value
        raise ModelError(
            f"model {name}: its config.json has a {key} ({method}), and {why}: "
            f"name the unquantized model that it was made from{more}"
        )


def _layer_kinds(config: Mapping[str, Any]) -> list[str]:
    """The kinds of a model's layers, as transformers derives them: many configs name none. Empty if all layers are alike."""
    from transformers import AutoConfig

    kinds = text_config(config).get("layer_types")
    with suppress(Exception):  # transformers raises many kinds for a config that it refuses, and other checks say so
        kinds = getattr(AutoConfig.for_model(**config).get_text_config(), "layer_types", None)
    return kinds if isinstance(kinds, list) else []


def _check_endpoint(model: ModelConfig) -> str:
    """Facts on a model behind an API; nothing is sent there. Raises ConfigError without its key, if it names one."""
    api_key(model)
    return f"{model.label}: not asked yet; its key is {'set' if model.key_variable else 'not needed'}"


def _check_adapter(use: ModelUse) -> str:
    """Facts on an adapter; none on a whole model.

    Raises ModelError if the adapter is damaged, cannot be loaded over its base, or is to be trained.
    """
    name = use.model.path
    if use.trained:
        check_whole(use.model)
    adapter = adapter_of(use.model)
    if adapter is None:
        return ""
    if use.pooled:
        raise ModelError(
            f"model {name} is an adapter of {adapter.base.path}, and engines embed with whole models: merge it first"
        )
    if not is_hub_id(name):
        read_tensors(Folder.at(package_path(name)), ADAPTER_WEIGHTS, name)
    return f"{name}, an adapter of rank {adapter.rank} over {adapter.base.path}"


def _quantization(config: Mapping[str, Any]) -> tuple[str, object] | None:
    """The key that says how a model is quantized, and its value; None if it is not."""
    given = ((key, settings.get(key)) for settings in (config, text_config(config)) for key in QUANTIZATION_KEYS)
    return next(((key, value) for key, value in given if value), None)


def _check_files(use: ModelUse) -> str:
    """Files that loaders read: present, whole and without code; and a config that they understand."""
    name = use.model.path
    if not is_hub_id(name):
        sizes = Folder.at(package_path(name)).sizes()
        if unfinished := [file for file in sizes if any(fnmatch(file, pattern) for pattern in _UNFINISHED)]:
            raise ModelError(
                f"model {name}: {several(sorted(unfinished))} left by an unfinished download: finish it, "
                "or delete the file if the download is complete"
            )
    config = _config(use)
    directory = pooled_directory(use.model, weights=False) if use.pooled else local_model(use.model, weights=False)
    for file in sorted({file for pattern in _READ_BY_LOADERS for file in directory.glob(pattern) if file.is_file()}):
        with file.open("rb") as content:
            refuse_pointer(file.name, content.read(_POINTER_BYTES), name)
    _refuse_code(config, "config.json", name)
    _refuse_code(_object(directory / "tokenizer_config.json", name), "tokenizer_config.json", name)
    architecture = _check_architecture(config, name, writes=not use.pooled)
    load_config(use)
    if not use.pooled:
        return f"{name}, {architecture}"
    return f"{name}, {architecture}, {pooling_of(directory, name, weights=not is_hub_id(name))} pooling"


def _config(use: ModelUse) -> dict[str, Any]:
    """The model's config.json; a pointer in its place is named as such."""
    name = use.model.path
    if not is_hub_id(name):
        folder = Folder.at(package_path(name))
        if folder.exists("config.json"):
            refuse_pointer("config.json", folder.read_start("config.json", _POINTER_BYTES), name)
    return read_config(use.model)


def _object(file: Path, name: str) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ModelError(f"model {name}: its {file.name} is not a JSON object; copy or save the model again")
    return value


def _refuse_code(config: Mapping[str, Any], file: str, name: str) -> None:
    """Raises ModelError if a file names code of the model's own.

    Even if transformers has a class for the model, the two may compute different things: only the user can know.
    """
    code = config.get("auto_map")
    if code:
        values = code.values() if isinstance(code, Mapping) else [code]
        named = next((text for value in values for text in (value if isinstance(value, list) else [value]) if text), "code")
        raise ModelError(
            f"model {name}: its {file} names code of its own (auto_map: {named}), and stj never runs code that comes with a "
            "model: use a model whose architecture transformers has. If transformers has this one, delete auto_map from a copy"
        )


def _check_config(use: ModelUse) -> str:
    check_division(use.model)
    if use.trained:
        check_trainable(read_config(use.model), use.model.path)
    return ""


def _check_architecture(config: Mapping[str, Any], name: str, *, writes: bool) -> str:
    """The architecture's name. Raises ModelError if transformers does not know it, or if it cannot do what it is for.

    It `writes` texts, or it gives vectors: then no head of a classifier may be on top of it.
    """
    from transformers import CONFIG_MAPPING, __version__

    kind, architectures = config.get("model_type"), config.get("architectures")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ModelError(
            f"model {name}: its config.json has model_type={kind}, which the installed transformers {__version__} does not "
            "know: use a model whose architecture it has"
        )
    if not isinstance(architectures, list) or not architectures or not all(isinstance(word, str) for word in architectures):
        raise ModelError(f"model {name}: its config.json names no architectures. Save the model again with save_pretrained")
    architecture: str = architectures[0]
    if not writes:
        if config.get("is_encoder_decoder") or architecture.endswith(_CLASSES):
            raise ModelError(f"model {name}: {architecture} gives no vectors of texts: name an embedding model")
        return architecture
    if config.get("is_encoder_decoder") or not _writes_text(architecture, kind):
        raise ModelError(
            f"model {name}: {architecture} is no decoder that writes text: name an instruction-tuned causal language model"
        )
    return architecture


def _writes_text(architecture: str, kind: str) -> bool:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    if architecture.endswith(_WITHOUT_TEXT):
        return False
    known = {MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind), MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind)}
    return architecture in known or architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))


def load_config(use: ModelUse) -> "PreTrainedConfig":
    """The config with the architecture's defaults. Raises ModelError if transformers refuses it."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(local_model(use.model, weights=False), trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds
        raise ModelError(
            f"model {use.model.path}: transformers refuses its config.json ({_first_line(error)}). Save it again"
        ) from None


def _check_headers(use: ModelUse) -> str:
    """Checks only the headers of weights on this machine or in a store: for a model whose other files are bad."""
    name = use.model.path
    if not is_hub_id(name) and (folder := Folder.at(package_path(name))).exists("config.json"):
        read_weights(folder, name, trained=use.trained)
    return ""


def _check_weights(use: ModelUse, *, vocabulary: bool) -> str:
    """Facts on the weights. Of those that are still on the hub only the names are known."""
    name = use.model.path
    on_hub = is_hub_id(name)
    folder = Folder.at(local_model(use.model, weights=False) if on_hub else package_path(name))
    if on_hub and hub_is_offline() and not any(name.endswith(".safetensors") for name in folder.names()):
        return "no weights on this machine, and the hub is offline"  # The machines of a cluster may have them.
    if on_hub and not _complete(folder, use):
        files = weight_files(hub_files(use.model), read_index(folder, name), name, trained=use.trained)
        return f"{len(files)} safetensors files on the hub"
    tensors = read_weights(folder, name, trained=use.trained)
    if _quantization(read_config(use.model)) is None:
        _check_tensors(tensors, use, vocabulary=vocabulary)
    numbers = sum(_numbers(tensor) for tensor in tensors.values())
    dtypes = ", ".join(sorted({tensor.dtype for tensor in tensors.values()}))
    return f"{numbers:,} numbers in {dtypes}"


def _complete(folder: Folder, use: ModelUse) -> bool:
    """Whether the snapshot of a hub model holds all of its weights."""
    try:
        weight_files(folder.names(), read_index(folder, use.model.path), use.model.path, trained=use.trained)
    except ModelError:
        return False
    return True


def _numbers(tensor: Tensor) -> int:
    product = 1
    for side in tensor.shape:
        product *= side
    return product


def _check_tensors(tensors: Mapping[str, Tensor], use: ModelUse, *, vocabulary: bool) -> None:
    name, config = use.model.path, load_config(use)
    text = config.get_text_config()
    packed = [tensor for tensor in tensors if tensor.endswith("weight") and tensors[tensor].dtype not in FLOAT_DTYPES]
    if use.trained and packed:
        raise ModelError(
            f"model {name}: its files hold {packed[0]} in {tensors[packed[0]].dtype}, and a quantized model cannot be trained: "
            "name the unquantized model that it was made from"
        )
    check_shapes({tensor: facts.shape for tensor, facts in tensors.items()}, text, name, vocabulary=vocabulary)
    if not use.pooled:
        _check_head(tensors, config, name)


def _check_head(tensors: Mapping[str, Tensor], config: "PreTrainedConfig", name: str) -> None:
    """Raises ModelError if the output head is neither in the files nor the embedding: it would be random numbers."""
    text = config.get_text_config()
    tied = getattr(config, "tie_word_embeddings", False) or getattr(text, "tie_word_embeddings", False)
    if text.model_type in STANDARD_TYPES and not tied and not any(tensor.endswith("lm_head.weight") for tensor in tensors):
        raise ModelError(
            f"model {name}: its files hold no lm_head.weight, and config.json does not tie it to the embedding: set "
            "tie_word_embeddings to true if the model was trained so; otherwise download the model again"
        )


def _check_tokenizer(use: ModelUse) -> str:
    name, config = use.model.path, read_config(use.model)
    directory = tokenizer_directory(use.model)
    tokenizer = load_tokenizer(directory, name)
    check_vocabulary(config, tokenizer, name)
    if use.pooled:
        _check_room(tokenizer, use)
    if use.pooled or not use.asked:
        return f"{len(tokenizer):,} tokens"
    check_chat(tokenizer, use.model.chat_options)
    if not stop_ids(tokenizer, directory):
        raise ModelError(
            f"model {name}: no token ends an answer: set eos_token in tokenizer_config.json, "
            "or eos_token_id in generation_config.json"
        )
    return f"{len(tokenizer):,} tokens"


def _check_room(tokenizer: "PreTrainedTokenizerBase", use: ModelUse) -> None:
    """Raises ModelError if the tokens that the tokenizer puts around a text leave no room for one of the text's own."""
    around = tokenizer.num_special_tokens_to_add()
    if around >= use.model.max_model_len:
        raise ModelError(
            f"model {use.model.path}: {use.roles[0]}.max_model_len={use.model.max_model_len} tokens, and its tokenizer puts "
            f"{around} around each text: set {around + 1} or more"
        )


def _check_context(use: ModelUse) -> str:
    model, context = use.model, context_of(use.model)
    if use.pooled:
        context = reading_of(local_model(model, weights=False), model).tokens
    if context is None:
        return "an unknown context"
    states = f"and its config.json states a context of {context}"
    if use.limited and model.max_model_len > context:
        remedy = " and ".join(f"{role}.max_model_len={context}" for role in use.roles)
        raise ModelError(f"model {model.path}: max_model_len={model.max_model_len} tokens, {states}: set {remedy} or less")
    if use.trained and use.max_seq_len and use.max_seq_len > context:
        raise ModelError(
            f"model {model.path}: train.max_seq_len={use.max_seq_len} tokens, {states}: set train.max_seq_len={context} or less"
        )
    return f"a context of {context:,} tokens"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
