"""How long training stands still for checkpoints in a slow object store: one rank on the CPU, real S3 requests, a slow link.

The share is what the steps take beyond their median, from the first step to the last.
"""

import argparse
import itertools
import json
import os
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from ranks import join_alone

STEPS, EVERY = 60, 20


def measure(megabytes_per_s: float) -> dict[str, Any]:
    """The share of time in which no step ran, and all raw figures."""
    ends: list[float] = []
    with tempfile.TemporaryDirectory(prefix="stj-benchmark-") as folder:
        join_alone(Path(folder), "cpu")
        run = _bucket(megabytes_per_s)
        _train(Path(folder), run, ends)
        seconds = [after - before for before, after in itertools.pairwise(ends)]
    usual = statistics.median(seconds)
    stopped = sum(seconds) - usual * len(seconds)
    return {
        "stopped_share": stopped / sum(seconds),
        "raw": {
            "stopped_s": stopped,
            "slowest_steps_s": sorted(seconds)[-3:],
            "step_s": usual,
            "steps": len(ends),
            "checkpoints": (STEPS - 1) // EVERY,
            "megabytes_per_s": megabytes_per_s,
        },
    }


def _train(folder: Path, run: str, ends: list[float]) -> None:
    from stj.config import ModelConfig
    from stj.rows import Example, Turn, examples_to_table
    from stj.storage.artifacts import Artifact
    from stj.storage.folder import Folder
    from stj.train.job import TrainingJob
    from stj.train.loop import run_rank
    from stj.train_config import TrainConfig

    examples = Artifact(Folder.at(folder) / "examples", {"step": "examples"})
    examples.begin()
    question = (Turn(role="user", content="Which is better? " + "word " * 100),)
    rows = [Example(id=str(i), winner="A", messages=question, completion="[[A]]", rejected="[[B]]") for i in range(4000)]
    examples.write_part("examples", examples_to_table(rows))
    examples.finish()
    config = TrainConfig(
        workers=1, device="cpu", max_seq_len=2048, max_num_tokens=2048, checkpoint_every_steps=EVERY, max_steps=STEPS
    )
    job = TrainingJob(
        config=config,
        seed_model=ModelConfig(path="package://mini/seed_model"),
        weights="the seed's",
        fingerprint="mine",
        examples=examples.folder.uri,
        model=(Folder.at(run) / "model").uri,
        folder=run,
    )
    run_rank(job, on_step=lambda step, _: ends.append(time.monotonic()))


def _bucket(megabytes_per_s: float) -> str:
    """The URI of a bucket behind a link that takes this many MB/s from the client."""
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    port = _slow_link(server.get_host_and_port()[1], megabytes_per_s * 1e6)
    fs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True).create_dir("bucket")
    return f"s3://bucket/run?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


def _slow_link(server: int, bytes_per_s: float) -> int:
    """The port of a relay to the server's port."""
    listener = socket.create_server(("127.0.0.1", 0))
    link = threading.Lock()

    def carry(source: socket.socket, sink: socket.socket, seconds_a_byte: float) -> None:
        while data := source.recv(1 << 16):
            if seconds_a_byte:
                with link:
                    time.sleep(len(data) * seconds_a_byte)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        while True:
            client = listener.accept()[0]
            upstream = socket.create_connection(("127.0.0.1", server))
            for source, sink, slow in ((client, upstream, 1 / bytes_per_s), (upstream, client, 0.0)):
                threading.Thread(target=carry, args=(source, sink, slow), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes-per-s", type=float, default=4.0)
    print(json.dumps(measure(parser.parse_args().megabytes_per_s), indent=1))
    os._exit(0)  # ZeRO-3 has gathered ahead: if Gloo's thread drops such a gather while Python ends, the process is aborted.
