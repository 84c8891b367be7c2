"""Shared by the ranks of the training benchmarks: settings, a small Llama, and examples to learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from packed_rows import HIDDEN, LAYERS, VOCABULARY, examples
from random_llama import random_llama
from ranks import RANKS

from stj.train.data import ExampleTokens
from stj.train_config import TrainConfig

CONFIG = TrainConfig(
    device="cpu", workers=RANKS, lr=1e-4, warmup_steps=0, final_lr_ratio=1.0, max_grad_norm=1.0, activation_checkpointing=True
)
"""The paper's settings, but with a constant learning rate, so that all turns are alike."""


def seed_model(directory: Path) -> Path:
    """A Llama in the shape of packed_rows.py, with a head that is small beside the body."""
    return random_llama(directory, layers=LAYERS, hidden=HIDDEN, vocabulary=VOCABULARY)


def learnable(count: int, divide: int) -> list[ExampleTokens]:
    """Examples in the paper's lengths over `divide`, with word frequencies of a language (Zipf), which can be learned."""
    generator = np.random.default_rng(1)
    drawn = examples(count, 1, divide)
    return [replace(row, texts=(_words(generator, row.length),)) for row in drawn]


def _words(generator: np.random.Generator, length: int) -> np.ndarray:
    return (1 + generator.zipf(1.3, length) % (VOCABULARY - 1)).astype(np.int32)
