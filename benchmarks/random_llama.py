"""A Llama of random weights as a model directory; each rank writes its own copy, and all are equal."""

import json
import shutil
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stj.models.shapes import Shape
from stj.package_files import package_path
from stj.storage.folder import Folder
from stj.train.shard import write_shard

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_TEMPLATE = "chat_template.jinja"


def random_llama(directory: Path, layers: int, hidden: int, vocabulary: int) -> Path:
    """Writes weights in bf16 with the memory of one tensor. transformers' save_pretrained writes only on rank 0."""
    heads = hidden // 64
    shape = Shape(layers=layers, hidden=hidden, mlp=3 * hidden, heads=heads, kv_heads=heads, head_dim=64, vocab=vocabulary)
    write_config(directory, shape, end=0)
    return write_weights(directory)


def write_config(directory: Path, shape: Shape, end: int | None) -> Path:
    """Writes the config.json of a shape; `end` is the token that ends an answer, if there is one."""
    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=end,
        dtype="bfloat16",
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(directory)
    return directory


def write_weights(directory: Path, device: str = "cpu") -> Path:
    """Writes random weights for the config.json of a directory; a GPU draws them faster."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(directory))
    layout = {name: weights.to(torch.bfloat16) for name, weights in model.named_parameters()}
    torch.manual_seed(0)
    with write_shard(Folder.at(directory), "model.safetensors", layout) as shard:
        for tensor in layout.values():
            weights = torch.ones(tensor.shape) if tensor.dim() == 1 else torch.randn(tensor.shape, device=device).mul_(0.02)
            shard.add(weights.to("cpu", torch.bfloat16))
    return directory


def write_endless(directory: Path, shape: Shape) -> Path:
    """Writes config and tokenizer of a model that never ends an answer: nothing names an end token.

    The tokenizer is the small world's, with further tokens up to the shape's vocabulary, so that each token has a text.
    """
    write_config(directory, shape, end=None)
    seed = Path(package_path("package://mini/seed_model"))
    tokenizer, settings = (json.loads((seed / name).read_text(encoding="utf-8")) for name in _TOKENIZER)
    known: dict[str, int] = tokenizer["model"]["vocab"]
    known |= {f"token{number}": number for number in range(len(known), shape.vocab)}
    del settings["eos_token"]
    for name, record in zip(_TOKENIZER, (tokenizer, settings), strict=True):
        (directory / name).write_text(json.dumps(record), encoding="utf-8")
    shutil.copy(seed / _TEMPLATE, directory)
    return directory
