"""Processes of a benchmark that meet in collectives, as training ranks do, and their memory."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

RANKS = 2
_RANK, _FOLDER, _TASK = "STJ_BENCHMARK_RANK", "STJ_BENCHMARK_FOLDER", "STJ_BENCHMARK_TASK"


def on_ranks(script: str, **task: Any) -> list[Any]:
    """Runs a script on two processes of one thread each; what `as_rank` gave back in each of them."""
    with tempfile.TemporaryDirectory(prefix="stj-benchmark-") as folder:
        processes = [subprocess.Popen([sys.executable, script], env=_environment(rank, folder, task)) for rank in range(RANKS)]
        try:
            codes = [process.wait() for process in processes]
        finally:
            for process in processes:
                process.kill()
        if any(codes):
            raise SystemExit(f"{script}: its ranks ended with {codes}")
        return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(RANKS)]


def is_rank() -> bool:
    """Whether this process was started by `on_ranks`."""
    return _RANK in os.environ


def as_rank(work: Callable[..., Any]) -> None:
    """Does a rank's part of the work, which takes the task's settings by name and gives back JSON values."""
    os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is imported
    import torch
    import torch.distributed as dist

    rank, folder = int(os.environ[_RANK]), os.environ[_FOLDER]
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS, timeout=timedelta(minutes=10)
    )
    found = work(**json.loads(os.environ[_TASK]))
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def forget_peak() -> int:
    """Begins the peak of this process's memory anew; the bytes that it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Most bytes of memory that this process has held at once since `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def _environment(rank: int, folder: str, task: dict[str, Any]) -> dict[str, str]:
    own = {_RANK: str(rank), _FOLDER: folder, _TASK: json.dumps(task)}
    torchs = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, **torchs}
