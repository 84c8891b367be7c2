"""Memory of the driver and of every actor, over 100,000 and over 1,000,000 rows of WildChat's schema.

    python benchmarks/memory.py                 almost an hour on two cores
    python benchmarks/memory.py 5000 50000      other sizes, for a quick look

Rows pass through a whole iteration without real weights: from Parquet files through reading, categorising, selecting, making
pairs and judging to the selected training examples. A scripted engine answers at once. 15% of the rows pass the rule, as
`stj plan` assumes for WildChat. Writes the key driver_rss_1m_over_100k and all raw figures into
benchmarks/results/generation.json.

The figures are peaks in bytes of a process's private memory. This is its resident memory without the pages of Ray's object
store. Every process of a machine maps these pages, and their size is fixed when Ray starts. The reading task, which has a name
of its own, holds the source's index of ids: a digest of 16 bytes for each id, in a Python set.
"""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "generation.json"
SIZES = (100_000, 1_000_000)
_ROWS_A_FILE = 20_000
_SAMPLE_S = 0.5
_WORDS = [
    a + b + c for a in ("ba", "ke", "li", "mo", "nu") for b in ("r", "st", "n", "l") for c in ("a", "en", "is", "or", "um")
]
_CATEGORIES = {"Coding": 10, "Mathematical reasoning": 15, "Creative Writing": 75}  # Shares in percent.
_ANSWER = "The start of Assistant's answer to the modified instruction"


def write_source(folder: Path, rows: int) -> None:
    """Writes conversations of one or two exchanges, of 60 to 6,000 characters, in the form of WildChat's Parquet files."""
    folder.mkdir()
    for start in range(0, rows, _ROWS_A_FILE):
        rng = random.Random(start)
        records = [_conversation(number, rng) for number in range(start, min(rows, start + _ROWS_A_FILE))]
        pq.write_table(pa.Table.from_pylist(records), folder / f"train-{start:08d}.parquet", row_group_size=1000)


def _conversation(number: int, rng: random.Random) -> dict[str, object]:
    def text() -> str:
        return " ".join(rng.choices(_WORDS, k=min(800, max(5, int(rng.lognormvariate(4, 1))))))

    turns = [{"role": role, "content": text()} for _ in range(rng.choice((1, 1, 2))) for role in ("user", "assistant")]
    digest = hashlib.md5(str(number).encode()).hexdigest()
    return {"conversation_hash": digest, "conversation": turns, "language": "English", "toxic": False, "redacted": False}


async def scripted(model: object, config: object, seed: int) -> object:
    """An engine that categorises, writes pairs, and judges correctly half of the time."""
    from stj.engine.scripted import ScriptedEngine

    rng = random.Random(seed)

    def handler(messages: Sequence[object], sampling: object) -> str:
        text = messages[-1].content  # type: ignore[attr-defined]
        if messages[0].role == "system":  # type: ignore[attr-defined]
            return f"{'Both are answers, and one is better. ' * 20}[[{rng.choice('AB')}]]"
        if "score the instruction in terms of complexity" in text:
            return f"Category: {rng.choices(*zip(*_CATEGORIES.items(), strict=True))[0]}\nComplexity: 5\nLength: (c)"
        if "generate a modified instruction" in text:
            answer = " ".join(rng.choices(_WORDS, k=80))
            return f"User Question Modified\nanother question\n\n{_ANSWER}\n{answer}\n{_ANSWER.replace('start', 'end')}"
        return " ".join(rng.choices(_WORDS, k=80))

    engine = ScriptedEngine(handler)
    engine.requests = deque(maxlen=0)  # type: ignore[assignment] # It records its requests, for tests.
    return engine


def private_bytes() -> dict[int, tuple[str, int]]:
    """Name and private resident memory, in bytes, of this process and all processes below it."""
    processes: dict[int, tuple[str, int]] = {}
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
            name = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        kinds = dict(re.findall(r"^(PPid|RssAnon|RssFile):\s+(\d+)", status, re.MULTILINE))
        if "RssAnon" in kinds:
            parents[int(folder.name)] = int(kinds["PPid"])
            processes[int(folder.name)] = name, 1024 * (int(kinds["RssAnon"]) + int(kinds["RssFile"]))
    return {pid: process for pid, process in processes.items() if _started_here(pid, parents)}


def _started_here(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()


class Sampler(threading.Thread):
    """Samples the private memory of this process and each Ray process twice a second, and keeps the peaks by name."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[str, int] = {}
        self.ended = threading.Event()

    def run(self) -> None:
        driver = os.getpid()
        while not self.ended.wait(_SAMPLE_S):
            for pid, (title, size) in private_bytes().items():
                if pid == driver or title.startswith("ray::"):
                    name = "driver" if pid == driver else re.sub(r"\(.*|\..*|\[.*", "", title.removeprefix("ray::"))
                    self.peaks[name] = max(self.peaks.get(name, 0), size)


def measure(source: Path, run_root: Path) -> dict[str, object]:
    """Runs one pass over the source, and the selection after it, in this process."""
    from stj.cluster_config import RayConfig
    from stj.config import EngineConfig, SourceConfig
    from stj.config_loader import load
    from stj.loop.inputs import read_training
    from stj.loop.phases import Run
    from stj.passes.run import run_pass
    from stj.passes.session import engine_demand, ray_session
    from stj.passes.spec import Pass

    settings = [f"run_root={run_root}", "iterations=1", "heldout.path=null", "select.limit=null"]
    settings += ["pairs.answer.max_tokens=500", "pairs.rejected.max_tokens=500", "judge.decoding.max_tokens=500"]
    config = load([ROOT / "conf" / "mini.yaml"], settings)
    engine = EngineConfig(device="cpu", cpus_per_replica=1, max_failed_fraction=0)
    config = replace(
        config, source=SourceConfig(path=str(source), kind="wildchat"), engine=engine, ray=RayConfig(address="local")
    )
    run = Run(config)
    passing, selecting = run.pairs, run.iterations[0].examples
    sampler = Sampler()
    sampler.start()
    started = time.monotonic()
    with ray_session(config.ray, [engine_demand(engine, [passing.model])]):
        for phase in (passing, selecting):
            phase.artifact.begin()
        spec = Pass(
            name="memory",
            model=passing.model,
            read=partial(read_training, config, passing.parts, None),
            total=passing.count_inputs(),
            stages=passing.stages(None),
            make_engine=scripted,  # type: ignore[arg-type]
        )
        run_pass(spec, passing.artifact, engine)
        streamed = time.monotonic()
        after_pass = dict(sampler.peaks)
        selecting.run()
    sampler.ended.set()
    return {
        "rows": passing.artifact.manifest()["rows"],
        "dropped": passing.artifact.manifest()["dropped"],
        "examples": selecting.artifact.manifest()["rows"],
        "pass_s": round(streamed - started),
        "select_s": round(time.monotonic() - streamed),
        "peak_bytes_of_the_pass": after_pass,
        "peak_bytes": sampler.peaks,
    }


def main() -> None:
    """Measures both sizes, the smaller first, each in a separate process."""
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(Path(sys.argv[2]), Path(sys.argv[3]))))
        return
    sizes = tuple(map(int, sys.argv[1:])) or SIZES
    figures = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="stj-memory-") as scratch:
            write_source(Path(scratch) / "source", size)
            command = [sys.executable, __file__, "measure", f"{scratch}/source", f"{scratch}/run"]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            figures[size] = json.loads(output.splitlines()[-1])
            print(json.dumps(figures[size], indent=1), file=sys.stderr)
    small, large = (figures[size]["peak_bytes"] for size in sizes)
    ratios = {name: round(large[name] / small[name], 4) for name in large if name in small}
    print(ratios)
    if sizes == SIZES:
        result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        result["driver_rss_1m_over_100k"] = ratios["driver"]
        result.setdefault("raw", {})["memory"] = {
            "ratios": ratios,
            **{str(size): measured for size, measured in figures.items()},
        }
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
