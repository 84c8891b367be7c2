"""Processes of a benchmark that share collectives, like training ranks, and their memory."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

RANKS = 2
_RANK, _FOLDER, _TASK = "STJ_BENCHMARK_RANK", "STJ_BENCHMARK_FOLDER", "STJ_BENCHMARK_TASK"


def on_ranks(script: str, **task: Any) -> list[Any]:
    """Runs a script in two processes of one thread each, and returns the result of `as_rank` from each."""
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


class Group:
    """Two ranks of a script. Groups take turns, so that each has the machine for itself."""

    def __init__(self, script: str, **task: Any) -> None:
        self._script = script
        self._folder = tempfile.TemporaryDirectory(prefix="stj-benchmark-")
        environments = [_environment(rank, self._folder.name, task) for rank in range(RANKS)]
        command = [sys.executable, script]
        self._ranks = [subprocess.Popen(command, env=variables, stdin=subprocess.PIPE) for variables in environments]
        self._turn = 0

    def turn(self) -> list[Any]:
        """Lets the ranks do their next piece of work, and returns the figures that each passed to `done`."""
        for process in self._ranks:
            assert process.stdin
            process.stdin.write(b"go\n")
            process.stdin.flush()
        reports = [Path(self._folder.name, f"{rank}.{self._turn}.json") for rank in range(RANKS)]
        while not all(path.exists() for path in reports):
            if any(process.poll() is not None for process in self._ranks):
                raise SystemExit(f"{self._script}: a rank has ended")
            time.sleep(0.02)
        self._turn += 1
        return [json.loads(path.read_text()) for path in reports]

    def end(self) -> None:
        """Ends the ranks."""
        for process in self._ranks:
            process.kill()
            process.wait()
        self._folder.cleanup()


class Turns:
    """The turns of a group, as one rank sees them."""

    def __init__(self) -> None:
        self._number = 0
        self._began = (0.0, 0.0)

    def wait(self) -> None:
        """Returns when it is this group's turn."""
        if not sys.stdin.readline():
            raise SystemExit
        self._began = time.monotonic(), time.process_time()

    def done(self, **figures: Any) -> None:
        """Ends the turn, and reports its seconds by the clock and on this process's CPU, with further figures."""
        seconds = time.monotonic() - self._began[0], time.process_time() - self._began[1]
        path = Path(os.environ[_FOLDER], f"{os.environ[_RANK]}.{self._number}.json")
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"seconds": seconds[0], "cpu_seconds": seconds[1], **figures}))
        temporary.rename(path)
        self._number += 1


def is_rank() -> bool:
    """Whether this process is a rank."""
    return _RANK in os.environ


def shared_folder() -> Path:
    """A directory of all ranks of the benchmark."""
    return Path(os.environ[_FOLDER])


def as_rank(work: Callable[..., Any]) -> None:
    """Does a rank's part of the work, which takes the task's settings by name and returns JSON values."""
    os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed reads it at import.
    import deepspeed
    import torch
    import torch.distributed as dist

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # As in stj/train/model.py, for TRL's ranks too.
    rank, folder = int(os.environ[_RANK]), os.environ[_FOLDER]
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS, timeout=timedelta(minutes=10)
    )
    result = work(**json.loads(os.environ[_TASK]))
    Path(folder, f"{rank}.json").write_text(json.dumps(result))
    dist.barrier()
    # ZeRO-3 has gathered ahead: if Gloo's thread drops such a gather while Python ends, the whole process is aborted.
    os._exit(0)


def join_alone(folder: Path, device: str) -> None:
    """Makes this process the only rank of a training, with what Ray Train sets for each of its ranks."""
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed reads it at import.
    import deepspeed
    import torch.distributed as dist

    deepspeed.get_accelerator().set_device(0)
    backend = "gloo" if device == "cpu" else "nccl"
    dist.init_process_group(backend, init_method=f"file://{folder}/rendezvous-{os.getpid()}", rank=0, world_size=1)


def forget_peak() -> int:
    """Resets the peak of this process's memory, and returns the bytes that it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Peak memory of this process since `forget_peak`, in bytes."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return 1024 * int(match[1])


def _environment(rank: int, folder: str, task: dict[str, Any]) -> dict[str, str]:
    task_variables = {_RANK: str(rank), _FOLDER: folder, _TASK: json.dumps(task)}
    torch_variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "OMP_NUM_THREADS": "1"}
    unused = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # Libraries require them, but the ranks have met by then.
    return {**os.environ, **task_variables, **torch_variables, **unused}
