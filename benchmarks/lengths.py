"""Lengths of training examples in benchmarks."""

import numpy as np


def paper_lengths(count: int, seed: int) -> list[tuple[int, int]]:
    """Tokens of prompts and judgments as the plan assumes them: 1,800 and 500 on average, at most 4,096 together.

    The paper gives no lengths. A prompt is Figure 8 (250 tokens), an instruction and two answers; all are log-normal.
    """
    generator = np.random.default_rng(seed)
    prompts = 250 + sum(
        _log_normal(generator, mean, spread, 2 * count) for mean, spread in ((350, 1.0), (600, 0.6), (600, 0.6))
    )
    judgments = _log_normal(generator, 500, 0.5, 2 * count)
    drawn = [(int(prompt), int(judgment)) for prompt, judgment in zip(prompts, judgments, strict=True)]
    return [(prompt, judgment) for prompt, judgment in drawn if prompt + judgment <= 4096][:count]


def _log_normal(generator: np.random.Generator, mean: float, spread: float, count: int) -> np.ndarray:
    """Log-normal draws with this mean; `spread` is the standard deviation as a share of the mean."""
    variance = np.log1p(spread**2)
    return generator.lognormal(np.log(mean) - variance / 2, variance**0.5, count)
