"""The shape of a transformer, which decides the size of its parameters, KV cache and activations; no weights needed."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.adapter import ADAPTER_CONFIG, read_adapter
from stj.package_files import package_path

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A decoder of the Llama or Mixtral family: grouped-query attention, and one gated MLP or one per expert."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    experts: int = 1
    active_experts: int = 1
    """Experts that each token uses."""
    tied: bool = False
    """Whether the output head shares the embedding's weights."""

    @property
    def parameters(self) -> int:
        """Number of all parameters."""
        return self._outer + self.layers * self.layer_parameters(self.experts)

    @property
    def active_parameters(self) -> int:
        """Number of parameters that each token uses."""
        return self._outer + self.layers * self.layer_parameters(self.active_experts)

    @property
    def largest_parameter(self) -> int:
        """Size of the largest tensor, in elements: the embedding, or the fused gate and input weights of a layer's experts."""
        fused = 2 * self.experts if self.experts > 1 else 1
        return max(self.vocab * self.hidden, fused * self.mlp * self.hidden)

    def layer_parameters(self, experts: int) -> int:
        """Number of parameters of a layer with this many experts."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        router = self.hidden * self.experts if self.experts > 1 else 0
        return attention + router + 3 * self.hidden * self.mlp * experts + 2 * self.hidden

    def adapter_parameters(self, rank: int, targets: Collection[str] | None = None) -> int:
        """Number of parameters of adapters (LoRA) on the layers that the targets name by their last parts.

        None, or a name that Llama's layers do not have, counts all of them; experts have no adapters.
        """
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        sizes = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": queries}
        sizes = {name: self.hidden + size for name, size in sizes.items()}
        if self.experts == 1:
            sizes |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), self.hidden + self.mlp)
        names = {target.rpartition(".")[2] for target in targets or ()}
        chosen = names if names and names <= sizes.keys() else sizes.keys()
        return rank * self.layers * sum(sizes[name] for name in chosen)

    def kv_bytes(self, dtype: str) -> int:
        """Size of the KV cache of one token, over all layers, in bytes."""
        return 2 * self.layers * self.kv_heads * self.head_dim * DTYPE_BYTES[dtype]

    @property
    def _outer(self) -> int:
        return self.vocab * self.hidden * (1 if self.tied else 2) + self.hidden


_MIXED = ("n_routed_experts", "n_shared_experts", "shared_expert_intermediate_size", "mlp_only_layers")
# Keys of mixtures with shared experts, or with layers that have no experts.
_SEGMENTS = "type_vocab_size"  # The key of BERT's family for the kinds of segments of its texts.
_EVERY = ("decoder_sparse_step", "expert_layer_period")  # Above 1, only some layers have experts.


def shape_of(model: ModelConfig) -> Shape | None:
    """A model's shape from its local config.json or its well-known hub id, for an adapter its base's; None if none gives it."""
    directory = Path(os.path.expanduser(package_path(model.path)))
    config, adapter = directory / "config.json", directory / ADAPTER_CONFIG
    try:
        if adapter.is_file() and not config.is_file():
            return shape_of(read_adapter(adapter.read_bytes(), model).base)
        if not config.is_file():
            return _PUBLISHED.get(model.path)
        shape = _from_hf(json.loads(config.read_bytes()))
    except (ModelError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ZeroDivisionError):
        return None
    return shape if shape and all(isinstance(number, int) and number >= 0 for number in vars(shape).values()) else None


def _from_hf(config: Mapping[str, Any]) -> Shape | None:
    """The shape; None if its size would be a guess.

    That is a mixture with different layers or shared experts, or an encoder of BERT's family, whose MLP has no gate.
    """
    if _SEGMENTS in config:
        return None
    if any(config.get(key) for key in _MIXED) or any(config.get(key, 1) > 1 for key in _EVERY):
        return None
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        mlp=config.get("moe_intermediate_size") or config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocab=config["vocab_size"],
        experts=config.get("num_local_experts") or config.get("num_experts") or 1,
        active_experts=config.get("num_experts_per_tok", 1),
        tied=config.get("tie_word_embeddings", False),
    )


STANDARD_TYPES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "granite")
"""Values of model_type whose layers all hold the same tensors, under the names of Llama's."""
_OTHER_SENSE = re.compile("vision|audio")  # Tensors of towers beside the text model, which has its own names there.
_ATTENTION = [f"self_attn.{part}_proj.weight" for part in "qkvo"]
_OUTSIDE = ("embed_tokens.weight", "norm.weight")  # Tensors outside the layers, besides the head.
_LAYER = re.compile(r"(?:^|.*\.)layers\.(\d+)\.(.+)")


def check_shapes(shapes: Mapping[str, tuple[int, ...]], config: Any, name: str, *, vocabulary: bool) -> None:
    """Raises ModelError if a tensor is missing, or has another shape than transformers' config of the text model asks for.

    `shapes` are those of the model's files, by tensor. `vocabulary` also checks the embedding and the head.
    Only models of STANDARD_TYPES are checked: of others we know no names.
    """
    if config.model_type not in STANDARD_TYPES:
        return
    shapes = {tensor: shape for tensor, shape in shapes.items() if not _OTHER_SENSE.search(tensor)}
    _check_layers(shapes, config.num_hidden_layers, name)
    for outside in _OUTSIDE:
        if not any(f".{tensor}".endswith(f".{outside}") for tensor in shapes):
            raise ModelError(f"model {name}: its files lack {outside}: copy or download the model again")
    heads, head_dim = (
        config.num_attention_heads,
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
    )
    queries, keys = heads * head_dim, (getattr(config, "num_key_value_heads", None) or heads) * head_dim
    hidden, mlp = config.hidden_size, config.intermediate_size
    rows = dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), (config.vocab_size, hidden)) if vocabulary else {}
    expected = rows | {
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "mlp.gate_proj.weight": (mlp, hidden),
        "mlp.up_proj.weight": (mlp, hidden),
        "mlp.down_proj.weight": (hidden, mlp),
    }
    for tensor, shape in shapes.items():
        wanted = next((shape for end, shape in expected.items() if tensor == end or tensor.endswith(f".{end}")), shape)
        if shape != wanted:
            raise ModelError(
                f"model {name}: the tensor {tensor} has the shape {list(shape)}, and config.json asks for {list(wanted)}: "
                "weights and config belong to different models; copy or download the model again"
            )


def _check_layers(shapes: Mapping[str, tuple[int, ...]], layers: int, name: str) -> None:
    """Raises ModelError unless every layer is there, each with the same tensors."""
    parts: dict[int, set[str]] = defaultdict(set)
    for match in filter(None, map(_LAYER.fullmatch, shapes)):
        parts[int(match[1])].add(match[2])
    every = set(_ATTENTION).union(*parts.values())
    lacking = ((number, missing) for number, part in sorted(parts.items()) for missing in sorted(every - part))
    absent = ((number, "all tensors") for number in range(layers) if number not in parts)
    if gap := min(filter(None, (next(lacking, None), next(absent, None))), default=None):
        raise ModelError(
            f"model {name}: its files lack {gap[1]} of layer {gap[0]}, and config.json asks for {layers} layers: "
            "copy or download the model again"
        )
    if len(parts) > layers:
        raise ModelError(
            f"model {name}: its files hold {len(parts)} layers, and config.json asks for {layers}: "
            "weights and config belong to different models; copy or download the model again"
        )


_LLAMA_70B = Shape(layers=80, hidden=8192, mlp=28672, heads=64, kv_heads=8, head_dim=128, vocab=128256)
_LLAMA_8B = Shape(layers=32, hidden=4096, mlp=14336, heads=32, kv_heads=8, head_dim=128, vocab=128256)
_MIXTRAL_8X22B = Shape(
    layers=56, hidden=6144, mlp=16384, heads=48, kv_heads=8, head_dim=128, vocab=32768, experts=8, active_experts=2
)
_LLAMA_2_13B = Shape(layers=40, hidden=5120, mlp=13824, heads=40, kv_heads=40, head_dim=128, vocab=32000)
_MISTRAL_7B = Shape(layers=32, hidden=4096, mlp=14336, heads=32, kv_heads=8, head_dim=128, vocab=32000)
_PHI_3_5_MINI = Shape(layers=32, hidden=3072, mlp=8192, heads=32, kv_heads=32, head_dim=96, vocab=32064)
_PUBLISHED = {
    "meta-llama/Llama-2-13b-chat-hf": _LLAMA_2_13B,
    "microsoft/Phi-3.5-mini-instruct": _PHI_3_5_MINI,
    "mistralai/Mistral-7B-Instruct-v0.2": _MISTRAL_7B,
    "meta-llama/Meta-Llama-3-70B": _LLAMA_70B,
    "meta-llama/Meta-Llama-3-70B-Instruct": _LLAMA_70B,
    "meta-llama/Meta-Llama-3-8B": _LLAMA_8B,
    "meta-llama/Meta-Llama-3-8B-Instruct": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
    "mistralai/Mixtral-8x22B-Instruct-v0.1": _MIXTRAL_8X22B,
}
"""Shapes from the config.json files that these models are published with."""
