"""`stj score` against the plainest reader of the same file: `json.loads` of each line and two searches for a tag, in Python.

    python benchmarks/score.py          2 minutes on one core; writes benchmarks/results/score.json

Each command runs in a process of its own, so that both pay for their start. The ratio is stj's CPU time over the peer's on the
same 10,000 rows. A row has two judgments of about 400 characters. stj reads each by three parsers, checks ids and makes
intervals. Memory is the peak of the whole process on 100,000 and on 1,000,000 rows, by one parser.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "score.json"
REPEATS = 5
PEER = """
import json, sys
right = rows = 0
for line in open(sys.argv[1], encoding="utf-8"):
    row = json.loads(line)
    right += ("[[A]]" in row["judgment_ab"]) + ("[[B]]" in row["judgment_ba"])
    rows += 1
print(right / (2 * rows))
"""


def write_rows(file: Path, count: int, words: int = 80) -> Path:
    """Recorded judgments of pairs; the judge is right in both orders of every second pair, and says A in the others."""
    reasons = "word " * words
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            texts = {"judgment_ab": f"{reasons}[[A]]", "judgment_ba": f"{reasons}[[{'AB'[number % 2]}]]"}
            lines.write(json.dumps({"id": number, "winner": "A", **texts}) + "\n")
    return file


def cpu_seconds(words: list[str]) -> float:
    """CPU time of a command, its start included; wall time would measure what else the machine does."""
    before = os.times()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def score(file: Path, *words: str) -> list[str]:
    """The command that scores a file."""
    return [sys.executable, "-m", "stj.cli", "score", str(file), "--benchmark", "pairs", "--json", *words]


def peak_mb(words: list[str]) -> float:
    """Peak resident memory of a command, in MB."""
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); " + (
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    return int(ran.stdout) / 1024


def main() -> None:
    """Measures, prints and writes the results."""
    with tempfile.TemporaryDirectory() as folder:
        rows = write_rows(Path(folder) / "10k.jsonl", 10_000)
        peer = [sys.executable, "-c", PEER, str(rows)]
        pairs = [(cpu_seconds(score(rows)), cpu_seconds(peer)) for _ in range(REPEATS)]
        ours, theirs = (min(times) for times in zip(*pairs, strict=True))
        memory = {
            count: peak_mb(score(write_rows(Path(folder) / f"{count}.jsonl", count, words=10), "--parser", "strict"))
            for count in (100_000, 1_000_000)
        }
    result = {
        "rows": 10_000,
        "stj_score_cpu_s": round(ours, 2),
        "json_loads_cpu_s": round(theirs, 2),
        "ratio": round(ours / theirs, 1),
        "peak_mb": {f"{count:,} rows": round(mb, 1) for count, mb in memory.items()},
        "memory_ratio": round(memory[1_000_000] / memory[100_000], 3),
    }
    print(json.dumps(result, indent=1))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
