"""The export of two ranks, of one machine and of two: both ranks write in parallel."""

import json
import os
import signal
import stat
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from stj.errors import StorageFailed
from stj.storage.folder import Folder
from stj.train.export import export_model
from stj.train.model import load_engine
from stj.train_config import TrainConfig

ROOT = Path(__file__).parents[2]
SHARD_GB = 1e-6  # 1 kB: less than most tensors
UMASKS = (0o022, 0o077)  # The mode of a file shows which rank wrote it.


def ranks(task: str, seed: Path, folder: Path) -> list["subprocess.Popen[bytes]"]:
    """Starts two ranks that do a task below."""
    command = [sys.executable, "-m", "tests.train.test_export_ranks", task, str(seed), str(folder)]
    variables = {**os.environ, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    folder.mkdir()
    return [
        subprocess.Popen([*command, str(rank)], cwd=ROOT, env=variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def writers(folder: Path) -> list[int]:
    """The rank that wrote each shard, in the order of the shards."""
    modes = [stat.S_IMODE(path.stat().st_mode) for path in sorted(folder.glob("*.safetensors"))]
    return [[0o666 & ~umask for umask in UMASKS].index(mode) for mode in modes]


@pytest.mark.engine
def test_each_of_two_ranks_writes_every_second_shard(seed_directory: Path, tmp_path: Path) -> None:
    started = ranks("write", seed_directory, tmp_path / "write")
    killed = ranks("kill", seed_directory, tmp_path / "kill")
    try:
        assert started[0].wait(600) == 0
        assert killed[1].wait(600) == -signal.SIGKILL
    finally:
        for rank in (*started, *killed):
            rank.kill()
            rank.wait()
    written, report = tmp_path / "write", json.loads((tmp_path / "write/report.json").read_text())
    single, parallel = written / "one_machine", written / "two_machines"
    shards = len(writers(single))
    assert shards > 4
    assert writers(single) == writers(parallel) == [number % 2 for number in range(shards)]
    assert content(parallel) == content(single)
    assert report["digests"] == [sorted(content(single))] * 2
    assert AutoModelForCausalLM.from_pretrained(parallel).dtype == torch.bfloat16
    apart = written / "apart_0"
    assert report["refusal"].startswith(f"{apart}: {shards // 2} of {shards} files of the exported weights")
    assert "run_root must be a directory or URI that all machines share" in report["refusal"]
    assert not (apart / "config.json").exists()
    left = tmp_path / "kill/model"
    assert list(left.glob("model-*.safetensors"))
    assert not (left / "config.json").exists()
    assert not (left / "model.safetensors.index.json").exists()


def write(model: Any, seed: Path, folder: Path, rank: int) -> None:
    """Exports as one machine, as two, and as two that do not share the folder."""
    digests = []
    for name, local_rank in (("one_machine", rank), ("two_machines", 0)):
        os.environ["LOCAL_RANK"] = str(local_rank)
        digests.append(sorted(export_model(model, seed, Folder.at(folder / name), SHARD_GB)))
    with pytest.raises(StorageFailed) as refused:
        export_model(model, seed, Folder.at(folder / f"apart_{rank}"), SHARD_GB)
    (folder / "report.json").write_text(json.dumps({"digests": digests, "refusal": str(refused.value)}))


def kill(model: Any, seed: Path, folder: Path, rank: int) -> None:
    """The second of two machines is killed while it commits its second shard."""
    os.environ["LOCAL_RANK"] = "0"
    if rank == 1:
        commits = count()
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL) if next(commits) == 1 else None
    export_model(model, seed, Folder.at(folder / "model"), SHARD_GB)


def main(task: str, seed: Path, folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    os.umask(UMASKS[rank])
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model = load_engine(seed, TrainConfig(device="cpu", workers=2)).module.language_model
    {"write": write, "kill": kill}[task](model, seed, folder, rank)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
