"""What the ranks of the training benchmarks share: a Llama of random weights as files, and examples to learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from packed_rows import VOCABULARY, examples
from ranks import RANKS
from transformers import LlamaConfig, LlamaForCausalLM

from stj.config import TrainConfig
from stj.train.data import Tokens

CONFIG = TrainConfig(
    device="cpu", workers=RANKS, lr=1e-4, warmup_steps=0, final_lr_ratio=1.0, max_grad_norm=1.0, activation_checkpointing=True
)
"""A constant learning rate, so that each turn is like the one before; the rest is the paper's."""


def seed_model(directory: Path) -> Path:
    """A Llama of 4 layers and hidden 256 in bf16."""
    import torch

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        bos_token_id=None,
        eos_token_id=0,
    )
    LlamaForCausalLM(shape).to(torch.bfloat16).save_pretrained(directory)
    return directory


def learnable(count: int, divide: int) -> list[Tokens]:
    """Examples in the paper's lengths over `divide`, of words as frequent as in a language (Zipf): something can be learned."""
    generator = np.random.default_rng(1)
    drawn = examples(count, 1, divide)
    return [replace(row, texts=(_words(generator, row.length),)) for row in drawn]


def _words(generator: np.random.Generator, length: int) -> np.ndarray:
    return (1 + generator.zipf(1.3, length) % (VOCABULARY - 1)).astype(np.int32)
