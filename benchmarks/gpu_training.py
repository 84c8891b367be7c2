"""The parts of gpu.py on the card and on training. Each yields figures as it has them."""

import gc
import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gpu_machine import card
from gpu_sizes import Sizes
from ranks import forget_peak, join_alone, peak

from stj.models.shapes import Shape

Figures = dict[str, Any]

_KERNELS = 25  # Kernels of a step that are listed: the others together take a few percent.

MEMORY_SHARES = (0.85, 0.7, 0.55)
"""Shares of the card that a training may fill by the plan, which is what is tested here: if it runs out, the next one."""


def environment(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """The rate of a plain product, and what torch and the driver say of the card before and after it."""
    yield {
        "processes_on_card": len(card("nvmlDeviceGetComputeRunningProcesses") or ()),  # before this one starts CUDA
        "cuda": torch.version.cuda,
        "memory_gb": round(card_gb(sizes), 2),
        "cores": len(os.sched_getaffinity(0)),
        "power_limit_w": _watts(card("nvmlDeviceGetEnforcedPowerLimit")),
        "sm_clock_limit_mhz": card("nvmlDeviceGetMaxClockInfo", 1),
    }
    yield {"matrix_tflops": matrix_tflops(sizes)}
    yield {"host_copy_gbs": host_copy_gbs(sizes)}
    yield {
        "sm_clock_mhz": card("nvmlDeviceGetClockInfo", 1),
        "power_w": _watts(card("nvmlDeviceGetPowerUsage")),
        "celsius": card("nvmlDeviceGetTemperature", 0),
    }


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def card_gb(sizes: Sizes) -> float:
    """Memory of the card, in GB; 0 on a CPU."""
    return torch.cuda.get_device_properties(0).total_memory / 1e9 if sizes.device == "gpu" else 0.0


def matrix_tflops(sizes: Sizes) -> float:
    """The rate that a square product in bf16 holds, in TFLOP/s: the median of ten runs, after clocks met the power limit."""
    device = device_of(sizes)
    left, right = (torch.randn(sizes.matrix, sizes.matrix, device=device, dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(sizes.products):
            left @ right

    for _ in range(3):
        products()
    seconds = median(timed(products, device) for _ in range(10))
    return float(f"{sizes.products * 2 * sizes.matrix**3 / seconds / 1e12:.4g}")


def host_copy_gbs(sizes: Sizes) -> list[float]:
    """The rate of a copy to the host's memory, as a checkpoint makes it, in GB/s: to new pages, and then to used ones."""
    state = torch.ones(sizes.copied, device=device_of(sizes))
    held = torch.empty(state.shape)
    return [float(f"{state.nbytes / timed(lambda: held.copy_(state), state.device) / 1e9:.3g}") for _ in range(2)]


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of some work on a device, from idle to idle."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Waits until a device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def device_of(sizes: Sizes) -> torch.device:
    """Where a part computes."""
    return torch.device("cuda" if sizes.device == "gpu" else "cpu")


class Memory:
    """Peak memory beyond what was held when this was made: of the card, or of this process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        gc.collect()
        self._cuda = device.type == "cuda"
        if self._cuda:
            torch.cuda.empty_cache()
        self._before = self.forget()

    def forget(self) -> int:
        """Lets the peak begin anew; returns the bytes that are held now."""
        if not self._cuda:
            return forget_peak()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def peak_gb(self) -> float:
        """GB at the peak."""
        return float(((torch.cuda.max_memory_allocated() if self._cuda else peak()) - self._before) / 1e9)


def full_8b(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """A training on layers of the small shape that recomputes all of them, and its export."""
    training = yield from _training(sizes, sizes.small, scratch / "seed_8b", every=1)
    yield training.export(scratch / "exported")


def selective_8b(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """The same, with every second layer recomputed."""
    yield from _training(sizes, sizes.small, scratch / "seed_8b", every=2)


def full_70b(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """A training on layers of the large shape that recomputes all of them."""
    yield from _training(sizes, sizes.large, scratch / "seed_70b", every=1)


def selective_70b(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """The same, with every second layer recomputed."""
    yield from _training(sizes, sizes.large, scratch / "seed_70b", every=2)


def _training(sizes: Sizes, shape: Shape, seed: Path, every: int) -> Generator[Figures, None, "_Training"]:
    join_alone(seed.parent, sizes.device)
    shape = layers_that_fit(sizes, shape, card_gb(sizes), memory_share(seed))
    yield {"shape": asdict(shape), "parameters": shape.parameters, "matrix_tflops": (tflops := matrix_tflops(sizes))}
    yield {"write_seed_s": _write_seed(sizes, shape, seed)}
    try:
        training = _Training(sizes, shape, seed, every)
        yield training.steps(tflops)
    except RuntimeError as error:
        if not re.search("out of memory|ALLOC_FAILED", str(error)):
            raise
        yield {f"out_of_memory_with_{shape.layers}_layers": str(error).splitlines()[0]}
        _begin_again_with_less(seed)
    return training


def memory_share(seed: Path) -> float:
    """The share of the card for trainings on this seed. Both of a shape meet the same one, unless the second runs out too."""
    return MEMORY_SHARES[_failures(seed)]


def _failures(seed: Path) -> int:
    file = seed.with_suffix(".failures")
    return int(file.read_text()) if file.exists() else 0


def _begin_again_with_less(seed: Path) -> None:
    """Starts this process anew, because DeepSpeed holds its memory to the end of a process; raises if that has been in vain."""
    failures = _failures(seed) + 1
    if failures == len(MEMORY_SHARES):
        raise SystemExit(f"memory is short even with {MEMORY_SHARES[-1]:.0%} of the card by the plan")
    seed.with_suffix(".failures").write_text(str(failures))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _write_seed(sizes: Sizes, shape: Shape, seed: Path) -> float:
    """Writes a seed of random weights, unless the other training of this shape has; returns the seconds that it took."""
    from random_llama import write_endless, write_weights

    started, note = time.monotonic(), seed.with_suffix(".layers")
    if not note.exists() or int(note.read_text()) != shape.layers:
        write_weights(write_endless(seed, shape), device_of(sizes).type)
        note.write_text(str(shape.layers))
    return round(time.monotonic() - started, 1)


def layers_that_fit(sizes: Sizes, shape: Shape, memory_gb: float, share: float) -> Shape:
    """The shape with the most layers with which both trainings fit by the plan; on a CPU with all of its own."""
    from stj.plan.training import training_plan

    if sizes.device == "cpu":
        return shape
    room = share * min(memory_gb, sizes.most_gb)
    for layers in range(shape.layers, 0, -1):
        fewer = replace(shape, layers=layers)
        plans = [training_plan(fewer, sizes.plan_config(memory_gb, every=every)) for every in (1, 2)]
        if max(plan.rank_gb for plan in plans) <= room:
            return fewer
    raise SystemExit(f"by the plan not even one layer fits into {room:.0f} GB, {share:.0%} of what may be filled")


class _Training:
    """A training by the product's own code, on a single rank. Nothing frees its memory but the end of its process."""

    def __init__(self, sizes: Sizes, shape: Shape, directory: Path, every: int) -> None:
        from stj.train.model import load_engine

        self._sizes, self._shape, self._directory, self._every = sizes, shape, directory, every
        self._device = device_of(sizes)
        self._memory = Memory(self._device)
        self._config = sizes.train(every=every)
        started = time.monotonic()
        self._engine = load_engine(directory, self._config)
        self._load_s = time.monotonic() - started
        self._load_gb = self._memory.peak_gb()
        self._memory.forget()
        self._updates: list[float] = []
        self._time_updates()

    def _time_updates(self) -> None:
        update = self._engine.step

        def timed_update() -> None:
            self._updates.append(timed(update, self._device))

        self._engine.step = timed_update

    def steps(self, tflops: float) -> Figures:
        """Takes the steps; MFU is a share of the card's peak, or on a CPU of the plain product's rate."""
        from stj.plan.training import training_plan
        from stj.train.flops import MfuMeter, peak_of, work_of
        from stj.train.step import StepInputs, train_step

        sizes = self._sizes
        data_sheet = peak_of(torch.cuda.get_device_name()) if sizes.device == "gpu" else None
        peak_rate = data_sheet or tflops * 1e12
        meter = MfuMeter(work=work_of(self._engine.module.language_model), peak=peak_rate)
        tokens, steps = packed_steps(sizes, self._shape.vocab)
        inputs = StepInputs(tokens, None, self._config, meter)
        done = [train_step(self._engine, inputs, step, number, len(steps)) for number, step in enumerate(steps)]
        counted = done[1:]
        step_tokens = sum(tokens[index].length for index in steps[-1].examples)
        seconds = step_tokens / done[-1].tokens_per_s
        mfu = median(step.mfu for step in counted if step.mfu is not None)
        steps_gb = self._memory.peak_gb()
        peak_gb = max(steps_gb, self._load_gb)
        plan = training_plan(self._shape, sizes.plan_config(max(1.0, card_gb(sizes)), every=self._every))
        return {
            "recomputed_every": self._every,
            "mfu": mfu,
            "mfu_of_plain_product": round(mfu * peak_rate / (tflops * 1e12), 4),
            "peak_tflops": peak_rate / 1e12,
            "peak_from": "data sheet" if data_sheet else "plain product",
            "tokens_per_s": [step.tokens_per_s for step in done],
            "mfu_of_steps": [step.mfu for step in done],
            "last_step_s": round(seconds, 3),
            "last_update_s": round(self._updates[-1], 3),
            "micro_batches": [len(batch) for batch in steps[-1].micro_batches],
            "step_tokens": step_tokens,
            "supervised_share": round(sum(sum(tokens[i].counts) for i in steps[-1].examples) / step_tokens, 3),
            "losses": [step.loss for step in done],
            "load_s": round(self._load_s, 1),
            "load_peak_gb": round(self._load_gb, 3),
            "steps_peak_gb": round(steps_gb, 3),
            "peak_gb": round(peak_gb, 3),
            "reserved_gb": round(torch.cuda.max_memory_reserved() / 1e9, 3) if sizes.device == "gpu" else None,
            "plan_gb": round(plan.rank_gb, 3),
            "peak_over_plan": round(peak_gb / plan.rank_gb, 4),
            "plan": asdict(plan),
            "attention": self._engine.module.attention,
            "kernels_ms": self._kernels(lambda: train_step(self._engine, inputs, steps[-1], len(steps) - 1, len(steps))),
        }

    def _kernels(self, step: Callable[[], object]) -> dict[str, float] | None:
        """Milliseconds of one more step by kernel, for those that take most of it; None on a CPU."""
        from torch.profiler import ProfilerActivity, profile

        if self._device.type != "cuda":
            return None
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            timed(step, self._device)
        spent = {kernel.key[:100]: round(kernel.self_device_time_total / 1e3, 2) for kernel in profiler.key_averages()}
        return dict(sorted(spent.items(), key=lambda item: -item[1])[:_KERNELS])

    def export(self, target: Path) -> Figures:
        """Writes the trained model as the loop does."""
        from stj.storage.folder import Folder
        from stj.train.export import export_model

        self._memory.forget()
        started = time.monotonic()
        digests = export_model(self._engine.module.language_model, self._directory, Folder.at(target), self._config.shard_gb)
        seconds = time.monotonic() - started
        written = sum((target / name).stat().st_size for name in digests)
        figures = {"seconds": round(seconds, 2), "gb": round(written / 1e9, 3), "gb_per_s": round(written / 1e9 / seconds, 3)}
        return {"export": {**figures, "files": len(digests), "peak_gb": round(self._memory.peak_gb(), 3)}}


def packed_steps(sizes: Sizes, vocabulary: int) -> tuple[list[Any], list[Any]]:
    """Random examples of the paper's lengths, and steps of full rows of them."""
    import numpy as np
    from lengths import paper_lengths

    from stj.train.data import ExampleTokens
    from stj.train.packing import PackedStep, micro_batches

    wanted = sizes.steps * sizes.accumulation
    generator = np.random.default_rng(0)
    tokens = [
        ExampleTokens(
            id=f"example-{number}",
            texts=(generator.integers(0, vocabulary, (prompt + judgment) // sizes.divide, dtype=np.int32),),
            prompt_length=prompt // sizes.divide,
        )
        for number, (prompt, judgment) in enumerate(paper_lengths(6 * wanted, 0))
    ]
    rows = micro_batches([row.id for row in tokens], [row.length for row in tokens], sizes.row_tokens, 0, 0)[:wanted]
    assert len(rows) == wanted
    size = sizes.accumulation
    return tokens, [PackedStep(epoch=0, micro_batches=tuple(rows[at : at + size])) for at in range(0, wanted, size)]
