"""`stj trace` on large runs: from the command to its last line, by an id and by a line of the source.

    python benchmarks/lineage.py [ROWS ...]

Each run has two iterations, whose artifacts hold this many rows under the keys of a real run; texts have the lengths of the
paper's. CPU seconds are those of the whole command, memory is its peak. "first" compares each file with its SHA-256, which
later commands remember; the other figures are of such a later one. The row that is asked for is the last one of the source.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
from view import judgments, text

from stj.config_loader import load
from stj.loop.kinds import ExamplesPhase, PassPhase
from stj.loop.phases import Run
from stj.loop.status import write_run_config
from stj.rows import CATEGORIES, Category, Example, Pair, Row, Turn, examples_to_table, rows_to_table
from stj.sources import read_rows
from stj.storage.artifacts import Artifact

MINI = Path(__file__).parents[1] / "conf" / "mini.yaml"
ROWS_PER_FILE = 2048


def main(sizes: list[int]) -> None:
    """Measures runs of these numbers of rows."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            last = write(Path(scratch), size)
            command = [sys.executable, "-m", "stj.cli", "trace", f"{scratch}/run"]
            words = {"first": last, "by_id": last, "by_line": f"{scratch}/pool.jsonl:{size}", "unknown": "no-such-row"}
            measured = {name: measure([*command, word]) for name, word in words.items()}
        print(json.dumps({"rows": size, **measured, "load": round(os.getloadavg()[0], 1)}), flush=True)


def write(folder: Path, count: int) -> str:
    """Writes a source and the artifacts of a run of it; returns the id of its last row."""
    draw = random.Random(0)
    pool = folder / "pool.jsonl"
    with pool.open("w", encoding="utf-8") as lines:
        for number in range(count):
            lines.write(json.dumps({"instruction": f"{number} {text(draw, 40)}"}) + "\n")
    words = [f"run_root={folder}/run", f"source.path={pool}", "source.kind=instructions", "source.limit=null"]
    run = Run(load([MINI], [*words, "iterations=2", "heldout.path=null"]))
    write_run_config(run)
    asked = [(row.id, row.turns[0].content) for row in read_rows(run.config.source)]
    few = [judged(number, draw) for number in range(ROWS_PER_FILE)]
    rows, examples = rows_to_table(few), examples_to_table(map(learned, few))
    for phase in run.phases:
        if isinstance(phase, PassPhase | ExamplesPhase):
            repeat(phase.artifact, rows if isinstance(phase, PassPhase) else examples, asked)
    return asked[-1][0]


def repeat(artifact: Artifact, table: pa.Table, asked: list[tuple[str, str]]) -> None:
    """Writes rows with these ids and texts, whose other columns are those of a few rows again and again."""
    artifact.begin()
    for start in range(0, len(asked), ROWS_PER_FILE):
        here = asked[start : start + ROWS_PER_FILE]
        columns: dict[str, list[object]] = {"id": [row_id for row_id, _ in here]}
        if "turns" in table.schema.names:
            columns["turns"] = [[{"role": "user", "content": words}] for _, words in here]
            columns["position"] = list(range(start, start + len(here)))
        part = table.slice(0, len(here))
        for name, values in columns.items():
            part = part.set_column(part.schema.get_field_index(name), name, pa.array(values, part.schema.field(name).type))
        artifact.write_part("part", part)
    artifact.finish(dropped={}, failed=0, pairs=len(asked), output_tokens=130 * len(asked))


def judged(number: int, draw: random.Random) -> Row:
    """A training pair with two judgments."""
    return Row(
        id=str(number),
        position=number,
        turns=(Turn(role="user", content=text(draw, 40)),),
        category=Category(name=draw.choice(CATEGORIES), complexity=3, length="a"),
        pair=Pair(method="modified_instruction", chosen=text(draw, 120), rejected=text(draw, 120)),
        judgments=tuple(judgments(draw)),
    )


def learned(row: Row) -> Example:
    """The example of a row."""
    assert row.pair
    prompt = f"{row.turns[0].content} {row.pair.chosen} {row.pair.rejected}"
    return Example(id=row.id, messages=(Turn(role="user", content=prompt),), completion=row.judgments[0].text)


def measure(command: list[str]) -> dict[str, float]:
    """CPU seconds and the peak memory of a command, which may find nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], capture_output=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    ran = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": round(spent, 2), "peak_mb": int(ran.stdout) // 1024}


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [20_000, 200_000])
