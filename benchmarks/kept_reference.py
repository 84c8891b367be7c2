"""DPO with cached log-probabilities of the reference, against computing them anew in every epoch.

Two ranks, ZeRO-3, gloo. One turn is an epoch of steps on pairs; the next turn is the reference's forwards over the same pairs.
An epoch without a cache takes both. The reference is the weights in training, so nothing holds or gathers a second copy.
"""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from ranks import RANKS, Group, Turns, as_rank, is_rank


def measure(repeats: int, count: int, divide: int) -> dict[str, Any]:
    """Seconds of an epoch without the cache, over seconds with it."""
    group = Group(__file__, count=count, divide=divide)
    try:
        turns = [[group.turn(), group.turn()] for _ in range(repeats + 1)][1:]  # The first turn is a warm-up.
    finally:
        group.end()
    raw: dict[str, Any] = {"examples": count, "lengths_divided_by": divide}
    ratios = {}
    for clock, of_ranks in (("seconds", max), ("cpu_seconds", sum)):
        steps, forwards = ([of_ranks(rank[clock] for rank in turn[part]) for turn in turns] for part in (0, 1))
        raw[clock] = {"steps": [round(took, 2) for took in steps], "reference": [round(took, 2) for took in forwards]}
        ratios[clock] = (median(steps) + median(forwards)) / median(steps)
    raw["dpo_cached_over_uncached_by_cpu_seconds"] = ratios["cpu_seconds"]
    return {"dpo_cached_over_uncached": ratios["seconds"], "raw": raw}


def rank(count: int, divide: int) -> None:
    """Learns from pairs until the process is ended."""
    import itertools
    from dataclasses import replace

    from small_model import CONFIG, learnable, seed_model

    from stj.storage.folder import Folder
    from stj.train.data import ExampleTokens
    from stj.train.model import load_engine
    from stj.train.packing import plan_packing
    from stj.train.reference import reference_logps
    from stj.train.step import StepInputs, train_step
    from stj.train_config import PreferenceConfig

    single = learnable(2 * count, divide)
    pairs = [
        ExampleTokens(id=right.id, texts=(right.texts[0], _same_prompt(right, wrong)), prompt_length=right.prompt_length)
        for right, wrong in zip(single[:count], single[count:], strict=True)
    ]
    preference = PreferenceConfig(lr=CONFIG.lr, max_seq_len=8192 // divide, gradient_accumulation=1, max_steps=None)
    config = replace(CONFIG, preference=preference, max_epochs=1).stage("dpo")
    config = replace(config, max_num_tokens=2 * 8192 // divide)
    with tempfile.TemporaryDirectory(prefix="stj-benchmark-") as folder:
        engine = load_engine(seed_model(Path(folder) / "seed"), config)
        steps, turns = plan_packing([row.id for row in pairs], [row.length for row in pairs], config, RANKS), Turns()
        for number in itertools.count():
            kept, _ = reference_logps(engine, pairs, config, Folder.at(folder) / f"{number}", "kept")
            turns.wait()
            for step in steps:
                train_step(engine, StepInputs(pairs, kept, config), step, 1, 1000)
            turns.done()
            turns.wait()
            reference_logps(engine, pairs, config, Folder.at(folder) / f"{number} again", "asked anew")
            turns.done()


def _same_prompt(right: Any, wrong: Any) -> Any:
    """The wrong text with the prompt of the right text."""
    import numpy as np

    return np.concatenate([right.texts[0][: right.prompt_length], wrong.texts[0][wrong.prompt_length :]])


if __name__ == "__main__" and is_rank():
    as_rank(rank)
