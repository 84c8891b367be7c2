"""Whether two models can be merged: all that makes an answer, except the weights, must be the same in both.

A merge mixes numbers that have one name. Two models that differ in anything else can be mixed too: the result loads, answers,
and means nothing. So each part is compared, and the first difference is refused with both values:

    the config       as transformers reads it, so that a default and the same value written out are equal
    the tokenizer    every token and its id, added and special tokens, how text is split, and which tokens end an answer
    the template     every character: a judge that is asked in other words is a worse judge
    the tensors      names, shapes, and whether they are numbers that can be mixed

Dtypes may differ. Nothing that only saves, pads or caches is compared.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.findings import require
from stj.models.chat import is_mistral
from stj.models.check import FLOAT_DTYPES, ModelUse, check_model_use, load_config, refuse_quantized
from stj.models.config_json import read_config
from stj.models.fetch import local_model
from stj.models.locate import adapter_of
from stj.models.template import template_of
from stj.models.tokenizer import load_tokenizer, stop_ids
from stj.models.weights import Tensor, read_weights
from stj.storage.artifacts import differences
from stj.storage.folder import Folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NOT_COMPARED = {
    *("_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "architectures"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
}
"""Keys of a config that change no answer, or that are compared elsewhere: the tokens in the tokenizer."""
_COPIED_DTYPES = {"I64", "I32", "I16", "I8", "U8", "BOOL"}
"""Dtypes of buffers that are no weights, such as positions and masks."""
_SAME_BASE = "merge models that were trained from the same base"
_QUANTIZED = "quantized weights cannot be merged"
_LONGEST_SHOWN = 80  # Characters of a value in an error.


@dataclass(frozen=True, kw_only=True)
class Parent:
    """A model that is merged, on this machine."""

    model: ModelConfig
    directory: Path
    tensors: Mapping[str, Tensor]


def check_parents(models: Sequence[ModelConfig]) -> None:
    """Raises ModelError if models cannot be merged, as far as their small files show; fetches no weights.

    Raises CheckFailed if several things are wrong with one of them.
    """
    for model in models:
        _check_alone(model)
    for other in models[1:]:
        _check_architectures(models[0], other)
        _check_tokenizers(models[0], other)
        _check_configs(models[0], other)


def check_tensors(first: Parent, second: Parent) -> None:
    """Raises ModelError unless both models have the same tensors, of the same shapes, and none is quantized."""
    names = first.model.path, second.model.path
    for parent, other in ((first, second), (second, first)):
        if lacking := sorted(parent.tensors.keys() - other.tensors.keys()):
            raise ModelError(
                f"models {names[0]} and {names[1]} cannot be merged: {len(lacking)} tensors of {parent.model.path} are not in "
                f"{other.model.path} ({lacking[0]}{_head_words(lacking)}): {_SAME_BASE}"
            )
    for name, tensor in first.tensors.items():
        other_tensor = second.tensors[name]
        if tensor.shape != other_tensor.shape:
            shapes = [str(list(shape)) for shape in (tensor.shape, other_tensor.shape)]
            raise _differ(names, f"shape of the tensor {name}", shapes, _SAME_BASE)
        _check_dtypes(name, (first, second))


def read_parent(model: ModelConfig, directory: Path) -> Parent:
    """A parent whose files are in a directory of this machine. Raises ModelError as `read_weights` does."""
    return Parent(model=model, directory=directory, tensors=read_weights(Folder.at(directory), model.path, trained=False))


def _check_alone(model: ModelConfig) -> None:
    """Raises ModelError if a model is no whole, unquantized model."""
    if model.endpoint:
        raise ModelError(f"model {model.label}: it runs behind an API, and a merge needs weights: name a directory or a hub id")
    if model.chat_options != ModelConfig().chat_options:
        raise ModelError(
            f"model {model.path}: thinking, chat_template_kwargs and template_date are settings of a judge in use: leave them "
            "out of the merge, and set them where the merged model is used"
        )
    if adapter := adapter_of(model):
        raise ModelError(
            f"model {model.path} is an adapter of {adapter.base.path}, and a merge needs whole models: train it with "
            "train.lora.export=merged, or save what peft's merge_and_unload() gives"
        )
    require(check_model_use(ModelUse(roles=(f"model {model.path}",), model=model, asked=False, limited=False)))
    refuse_quantized(read_config(model), model.path, _QUANTIZED)


def _check_architectures(first: ModelConfig, second: ModelConfig) -> None:
    names = [str(read_config(model)["architectures"][0]) for model in (first, second)]
    if names[0] != names[1]:
        raise _differ((first.path, second.path), "architecture", names, _SAME_BASE)


def _check_configs(first: ModelConfig, second: ModelConfig) -> None:
    configs = []
    for model in (first, second):
        use = ModelUse(roles=("models",), model=model)
        configs.append(_compared(load_config(use).to_dict()))
    _refuse_changed((first.path, second.path), "config.json", differences(*configs))


def _compared(config: Any) -> Any:
    """A config without what is not compared, also in the configs inside it."""
    if not isinstance(config, Mapping):
        return config
    return {str(key): _compared(value) for key, value in config.items() if key not in _NOT_COMPARED}


def _check_tokenizers(first: ModelConfig, second: ModelConfig) -> None:
    names = first.path, second.path
    directories = [local_model(model, weights=False) for model in (first, second)]
    tokenizers = [load_tokenizer(directory, name) for directory, name in zip(directories, names, strict=True)]
    _check_vocabularies(names, *(tokenizer.get_vocab() for tokenizer in tokenizers))
    for part, words in (
        (_added_tokens, "added tokens"),
        (_special_tokens, "special tokens"),
        (_splitting, "tokenizer's way to split text"),
    ):
        first_part, second_part = map(part, tokenizers)
        _refuse_changed(names, words, differences(first_part, second_part))
    libraries = ["mistral_common" if is_mistral(tokenizer) else "transformers" for tokenizer in tokenizers]
    if libraries[0] != libraries[1]:
        raise _differ(names, "library that reads the tokenizer", libraries, _SAME_BASE)
    stops = [sorted(stop_ids(*pair)) for pair in zip(tokenizers, directories, strict=True)]
    if stops[0] != stops[1]:
        remedy = f"write one eos_token_id into the generation_config.json of both, or {_SAME_BASE}"
        raise _differ(names, "tokens that end an answer", [str(ids) for ids in stops], remedy)
    if not is_mistral(tokenizers[0]):
        _check_templates(names, *map(_template, tokenizers))


def _check_vocabularies(names: tuple[str, str], first: Mapping[str, int], second: Mapping[str, int]) -> None:
    changed = sorted(token for token in first.keys() | second.keys() if first.get(token) != second.get(token))
    if changed:
        ids = [
            f"{token!r} is {'no token' if (number := vocabulary.get(token)) is None else f'token {number}'} of {name}"
            for token in changed[:1]
            for name, vocabulary in zip(names, (first, second), strict=True)
        ]
        raise ModelError(
            f"models {names[0]} and {names[1]} cannot be merged: their vocabularies of {len(first):,} and {len(second):,} "
            f"tokens differ in {len(changed):,}, {' and '.join(ids)}: {_SAME_BASE}"
        )


def _added_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    return {str(number): repr(token) for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}


def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    """Named special tokens; the one that pads changes no answer, and trainings set it as they like."""
    named = getattr(tokenizer, "special_tokens_map", {})
    return {name: str(token) for name, token in named.items() if name != "pad_token"}


def _splitting(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """How a fast tokenizer splits text; what cuts and pads batches is no part of it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    parts = json.loads(backend.to_str())
    return {name: part for name, part in parts.items() if name not in ("truncation", "padding", "added_tokens")}


def _template(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The chat template; empty if there is none, as in a base model."""
    return template_of(tokenizer) if tokenizer.chat_template else ""


def _check_templates(names: tuple[str, str], first: str, second: str) -> None:
    lines = zip_longest(first.splitlines(), second.splitlines(), fillvalue="")
    for number, pair in enumerate(lines, start=1):
        if pair[0] != pair[1]:
            shown = [repr(line[:_LONGEST_SHOWN]) for line in pair]
            remedy = "if both were trained with the same words, put the chat_template.jinja of one beside a copy of the other"
            raise _differ(names, f"chat template in line {number}", shown, remedy)


def _check_dtypes(name: str, parents: tuple[Parent, Parent]) -> None:
    """Raises ModelError unless a tensor holds floating-point numbers in both models, or the same kind of others."""
    dtypes = [parent.tensors[name].dtype for parent in parents]
    if {*dtypes} <= FLOAT_DTYPES or (dtypes[0] == dtypes[1] and {*dtypes} <= _COPIED_DTYPES and not name.endswith("weight")):
        return
    model, dtype = next(
        (parent.model, dtype) for parent, dtype in zip(parents, dtypes, strict=True) if dtype not in FLOAT_DTYPES
    )
    raise ModelError(
        f"model {model.path}: its files hold {name} in {dtype}, and {_QUANTIZED}: "
        "name the unquantized model that it was made from"
    )


def _head_words(names: list[str]) -> str:
    tied = any(name.endswith("lm_head.weight") for name in names)
    return ", a head that the other ties to its embedding" if tied else ""


def _refuse_changed(names: tuple[str, str], what: str, changed: Sequence[str]) -> None:
    """Raises ModelError if there are differences, each of them `name: value -> value`."""
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        name, _, values = changed[0].partition(": ")
        first, _, second = (value[:_LONGEST_SHOWN] for value in values.partition(" -> "))
        raise ModelError(
            f"models {names[0]} and {names[1]} cannot be merged: their {what} differ in {name}{more}, {first} in one and "
            f"{second} in the other: {_SAME_BASE}"
        )


def _differ(names: tuple[str, str], what: str, values: Sequence[str], remedy: str) -> ModelError:
    return ModelError(
        f"models {names[0]} and {names[1]} cannot be merged: the {what} is {values[0]} in one and {values[1]} in the other: "
        f"{remedy}"
    )
