"""The learning rate of a step: linear warm-up, then a cosine down to a share of the peak (Table 7)."""

import math

from stj.train_config import TrainConfig


def warmup_steps(total: int, config: TrainConfig) -> int:
    """Steps of warm-up: as configured, but at least one step follows it."""
    return min(config.warmup_steps, total - 1)


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Learning rate of step 0 ... total - 1: `lr` when the warm-up ends, `final_lr_ratio * lr` at the last step."""
    warmup = warmup_steps(total, config)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - 1 - warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.lr * (config.final_lr_ratio + (1 - config.final_lr_ratio) * cosine)
