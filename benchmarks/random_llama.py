"""A Llama of random weights as a model directory; each rank writes its own copy, and all are equal."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stj.storage.folder import Folder
from stj.train.shard import write_shard


def random_llama(directory: Path, layers: int, hidden: int, vocabulary: int) -> Path:
    """Writes weights in bf16 with the memory of one tensor. transformers' save_pretrained writes only on rank 0."""
    shape = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        bos_token_id=None,
        eos_token_id=0,
        dtype="bfloat16",
    )
    with torch.device("meta"):
        layout = {name: weights.to(torch.bfloat16) for name, weights in LlamaForCausalLM(shape).named_parameters()}
    torch.manual_seed(0)
    with write_shard(Folder.at(directory), "model.safetensors", layout) as shard:
        for tensor in layout.values():
            weights = torch.ones(tensor.shape) if tensor.dim() == 1 else torch.randn(tensor.shape).mul_(0.02)
            shard.add(weights.to(torch.bfloat16))
    shape.architectures = ["LlamaForCausalLM"]
    shape.save_pretrained(directory)
    return directory
