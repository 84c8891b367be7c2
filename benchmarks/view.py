"""`stj view` on 100,000 judged pairs: from the command to its address, and from the address to the first rows in a browser.

    python benchmarks/view.py [ROWS]

Writes the rows to a temporary directory, and prints seconds as JSON. The browser is Chromium without a window; its own start,
measured with an empty page, is subtracted.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stj.rows import CATEGORIES, HELDOUT, Category, Judgment, Pair, Row, Turn, rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder

ROWS_PER_FILE = 2048
WORDS = ["the", "sheep", "counts", "nine", "of", "many", "answers", "because", "every", "judge", "reads", "both", "texts"]


def main(rows: int) -> None:
    """Measures with this number of rows."""
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch) / "judged", rows)
        started = time.perf_counter()
        command = [sys.executable, "-m", "stj.cli", "view", f"{scratch}/judged"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            listening, busy = time.perf_counter() - started, cpu_seconds(server.pid)
            empty, opened = (browser(address, scratch) for address in ("about:blank", url))
            server.terminate()
    times = {"start_s": listening, "start_cpu_s": busy, "open_s": max(0.0, opened - empty), "browser_start_s": empty}
    rounded = {name: round(seconds, 2) for name, seconds in times.items()}
    print(json.dumps({"rows": rows, **rounded, "cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}))


def cpu_seconds(process: int) -> float:
    """Seconds of processor time that a process has used: what the start takes on an idle machine, at most."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def write(path: Path, rows: int) -> None:
    """An artifact of pairs that were judged in both orders; texts have the lengths of the paper's."""
    artifact = Artifact(Folder.at(path), {"step": "judged"})
    artifact.begin()
    draw = random.Random(0)
    for start in range(0, rows, ROWS_PER_FILE):
        part = [row(number, draw) for number in range(start, min(rows, start + ROWS_PER_FILE))]
        artifact.write_part(f"part-{start:08d}", rows_to_table(part))
    artifact.finish()


def row(number: int, draw: random.Random) -> Row:
    """A pair with two judgments of random verdicts."""
    category = Category(name=draw.choice(CATEGORIES), complexity=draw.randint(1, 10), length=draw.choice("abcde"))
    return Row(
        id=f"{HELDOUT}/{number}",
        position=number,
        task=HELDOUT,
        turns=(Turn(role="user", content=text(draw, 40)),),
        category=category,
        pair=Pair(method="given", chosen=text(draw, 120), rejected=text(draw, 120)),
        judgments=tuple(judgments(draw)),
    )


def judgments(draw: random.Random) -> Iterator[Judgment]:
    """One judgment in each order."""
    for winner in ("A", "B"):
        verdict = draw.choice("AB")
        written = f"{text(draw, 100)} [[{verdict}]]"
        yield Judgment(
            purpose="sampled",
            winner="A" if winner == "A" else "B",
            index=0,
            text=written,
            verdict=verdict,
            finish_reason="stop",
            output_tokens=130,
        )


def text(draw: random.Random, words: int) -> str:
    """About this number of random words."""
    return " ".join(draw.choices(WORDS, k=draw.randint(words // 2, 2 * words)))


def browser(address: str, scratch: str) -> float:
    """Seconds until the browser has opened an address and written the document with its first rows."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no chromium on this machine")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={scratch}/browser"]
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([*command, "--virtual-time-budget=20000", "--dump-dom", address], capture_output=True, text=True)
        times.append(time.perf_counter() - started)
        assert address == "about:blank" or done.stdout.count("<li>") == 50, done.stderr
    return min(times)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
