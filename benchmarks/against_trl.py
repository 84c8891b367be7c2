"""Our training loop and TRL's SFTTrainer on the same examples: two ranks each, ZeRO-3 with the same settings, gloo.

Both hold the same Llama in bf16 with fp32 masters and use reentrant activation checkpointing. They clip at 1.0 and learn at the
same constant rate with the same AdamW. A turn is one epoch of optimizer steps over all examples. The groups take turns and make
the same number of steps, each with one row or batch a rank. The losses of each epoch are among the raw figures.

over_trl_sft               TRL's default: padded batches of four examples, drawn at random
over_trl_sft_packed        TRL's packing ("bfd") of rows with our token budget. Without padding, and with position ids that
                           restart in each text, transformers' SDPA masks the other texts. So it does our computation, and
                           is the equal peer
over_trl_sft_as_installed  the default without any change by us, in the same two processes

On a GPU TRL's head scores only supervised positions, because Triton runs there; on a CPU it scores all. The first two ways use
the GPU's behaviour here, so this difference counts for us only in the third.

These differences stay. TRL's head also computes entropy and top-1 accuracy at each step. Its loss uses plain torch here, not
its Triton kernels. Its packed rows use SDPA with a mask of the whole row; flash-attention would skip the other texts, as our
code does here. No GPU is measured.
"""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from ranks import RANKS, Group, Turns, as_rank, is_rank

BATCH = 4
SLACK = 1.03
"""Tokens of a row over tokens of an average batch: the least with which both ways of packing make as many rows as batches."""
WAYS = ("stj", "trl", "trl_packed", "trl_as_installed")


def measure(repeats: int, count: int, divide: int) -> dict[str, Any]:
    """Our tokens a second over TRL's, by the clock and by CPU seconds, and the losses of both."""
    groups = {way: Group(__file__, way=way, count=count, divide=divide) for way in WAYS}
    turns: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    try:
        for number in range(repeats + 1):  # The first turn is a warm-up, with all one-time work.
            for way, group in groups.items():
                ranks = group.turn()
                turns[way].append(
                    {
                        "seconds": max(rank["seconds"] for rank in ranks),
                        "cpu_seconds": sum(rank["cpu_seconds"] for rank in ranks),
                        **{key: ranks[0][key] for key in ("loss", "steps", "rows", "tokens")},
                    }
                )
                print(number, way, turns[way][-1], flush=True)
            _require_same_steps({way: of_way[-1] for way, of_way in turns.items()})
    finally:
        for group in groups.values():
            group.end()
    middle = {
        clock: {way: median(turn[clock] for turn in of_way[1:]) for way, of_way in turns.items()}
        for clock in ("seconds", "cpu_seconds")
    }
    tokens = turns["stj"][0]["tokens"]
    over = {clock: {way: took[way] / took["stj"] for way in WAYS[1:]} for clock, took in middle.items()}
    return {
        "over_trl_sft": over["seconds"]["trl"],
        "over_trl_sft_packed": over["seconds"]["trl_packed"],
        "over_trl_sft_as_installed": over["seconds"]["trl_as_installed"],
        "raw": {
            "over_by_cpu_seconds": over["cpu_seconds"],
            "tokens": tokens,
            "tokens_per_s": {way: round(tokens / seconds, 1) for way, seconds in middle["seconds"].items()},
            "seconds": {way: [round(turn["seconds"], 2) for turn in of_way] for way, of_way in turns.items()},
            "cpu_seconds": {way: [round(turn["cpu_seconds"], 2) for turn in of_way] for way, of_way in turns.items()},
            "steps": turns["stj"][0]["steps"],
            "rows": turns["stj"][0]["rows"],
            "losses": {way: [round(turn["loss"], 4) for turn in of_way] for way, of_way in turns.items()},
            "examples": count,
            "lengths_divided_by": divide,
        },
    }


def _require_same_steps(turns: dict[str, dict[str, Any]]) -> None:
    """Raises SystemExit if a rank had no row for a step, or TRL repeated a row to fill one."""
    sizes = {way: (turn["rows"], turn["steps"]) for way, turn in turns.items()}
    if len(set(sizes.values())) > 1:
        raise SystemExit(f"{__file__}: rows and steps differ, so times do not compare: {sizes}; change --examples")


def rank(way: str, count: int, divide: int) -> None:
    """Trains until the process is ended."""
    from small_model import learnable, seed_model

    if count % (BATCH * RANKS):
        raise SystemExit(f"{__file__}: {count} examples do not fill steps of {RANKS} batches of {BATCH}; change --examples")
    tokens = learnable(count, divide)
    budget = int(SLACK * BATCH * sum(row.length for row in tokens) / count)
    with tempfile.TemporaryDirectory(prefix="stj-benchmark-") as folder:
        seed = seed_model(Path(folder) / "seed")
        if way == "stj":
            _ours(seed, tokens, budget)
        else:
            _theirs(seed, tokens, Path(folder), budget, way)


def _ours(seed: Path, tokens: list[Any], budget: int) -> None:
    from dataclasses import replace
    from itertools import count

    from small_model import CONFIG

    from stj.train.model import load_engine
    from stj.train.packing import plan_packing
    from stj.train.step import StepInputs, train_step

    config = replace(CONFIG, max_seq_len=budget, max_num_tokens=budget, max_epochs=1)
    engine = load_engine(seed, config)
    material, turns = StepInputs(tokens, None, config), Turns()
    for epoch in count():
        steps = plan_packing([row.id for row in tokens], [row.length for row in tokens], replace(config, seed=epoch), RANKS)
        turns.wait()
        losses = [train_step(engine, material, step, 1, 1000).loss for step in steps]
        rows = sum(bool(row) for step in steps for row in step.micro_batches)
        turns.done(loss=sum(losses) / len(losses), steps=len(steps), rows=rows, tokens=sum(row.length for row in tokens))


def _theirs(seed: Path, tokens: list[Any], folder: Path, budget: int, way: str) -> None:
    import trl.trainer.utils
    from datasets import Dataset
    from packed_rows import VOCABULARY
    from small_model import CONFIG
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from stj.train.zero import deepspeed_settings

    packing = way == "trl_packed"
    if way != "trl_as_installed":
        # Only utils reads this name, to decide whether to score supervised positions only. The kernels have names of their own.
        trl.trainer.utils._use_triton = lambda device: True  # type: ignore[attr-defined]

    class TakingTurns(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.turns, self.losses, self.since = Turns(), [], 0

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.turns.wait()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **others: Any) -> None:
            self.losses.append(logs["loss"])

        def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            steps, self.since = state.global_step - self.since, state.global_step
            useful, rows = sum(row.length for row in tokens), -(-len(trainer.train_dataset) // batch)
            self.turns.done(loss=sum(self.losses[-steps:]) / steps, steps=steps, rows=rows, tokens=useful)

    ids = [row.texts[0].tolist() for row in tokens]
    labels = [[-100] * row.prompt_length + text[row.prompt_length :] for row, text in zip(tokens, ids, strict=True)]
    batch = 1 if packing else BATCH
    arguments = SFTConfig(
        output_dir=str(folder / "out"),
        deepspeed=deepspeed_settings(CONFIG) | {"train_micro_batch_size_per_gpu": batch},
        per_device_train_batch_size=batch,
        learning_rate=CONFIG.lr,
        adam_beta1=CONFIG.betas[0],
        adam_beta2=CONFIG.betas[1],
        weight_decay=CONFIG.weight_decay,
        lr_scheduler_type="constant",
        num_train_epochs=1000,
        max_length=budget,
        packing=packing,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": True},  # As ours; the other kind may fail with ZeRO-3.
        max_grad_norm=CONFIG.max_grad_norm,
        bf16=True,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        model_init_kwargs={"dtype": "bfloat16"},
    )
    words = Tokenizer(models.WordLevel({str(i): i for i in range(VOCABULARY)}, unk_token="0"))
    trainer = SFTTrainer(
        str(seed),
        args=arguments,
        train_dataset=Dataset.from_dict({"input_ids": ids, "labels": labels}),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, eos_token="0", pad_token="0"),
        callbacks=[TakingTurns()],
    )
    trainer.train()


if __name__ == "__main__" and is_rank():
    as_rank(rank)
