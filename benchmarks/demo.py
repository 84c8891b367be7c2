"""Time and memory of `stj run conf/mini.yaml` from an empty folder.

    python benchmarks/demo.py            a few minutes, on an otherwise idle machine

Writes benchmarks/results/demo.json: wall seconds of the run and of each phase, and the peak memory of all its processes. Each
page counts once: the peak is the sum of PSS, which divides shared pages among their processes.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "demo.json"
_PHASE = re.compile(r"^(\S+): .* \((\d+) s\)$", re.MULTILINE)


def descendants(pid: int) -> set[int]:
    """A process and all processes that it started, directly or indirectly."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family, new = {pid}, {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - family
        family |= new
    return family


def engines(mark: str) -> set[int]:
    """Engine processes with the mark in their environment; they have no parent among ours."""
    pids = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"stj.engine.host" in (folder / "cmdline").read_bytes() and mark.encode() in (folder / "environ").read_bytes():
                pids.add(int(folder.name))
        except OSError:
            continue
    return pids


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process, in bytes; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def main() -> None:
    """Runs the mini configuration once, and writes its time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stj.cli", "run", str(ROOT / "conf" / "mini.yaml"), f"run_root={folder}/run"]
        started, peak, mark = time.monotonic(), 0, f"STJ_DEMO_{uuid.uuid4().hex}"
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {mark: "1"})
        while process.poll() is None:
            peak = max(peak, sum(map(pss_bytes, descendants(process.pid) | engines(mark))))
            time.sleep(1)
        seconds = time.monotonic() - started
        assert process.stdout is not None
        output = process.stdout.read()
    print(output)
    phases = {name: int(taken) for name, taken in _PHASE.findall(output)}
    result = {"seconds": round(seconds), "peak_pss_gb": round(peak / 1e9, 2), "phases_s": phases, "cpus": os.cpu_count()}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
