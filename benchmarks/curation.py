"""Curation of made instructions: embedding, clusters, near-duplicates, a sample, the decisions on disk.

    python benchmarks/curation.py [ROWS ...]          50,000 and 100,000 rows; writes benchmarks/results/curation.json

Each run is the phase `curated` of a run, in a process of its own, with two threads. Texts have 300 words of 200 topics, which is
about the 2,000 characters that are embedded of a longer text; words follow Zipf's law over 60,000 made ones. One row in a hundred
repeats an earlier one with two words changed. Seconds are wall time; memory is the peak of the whole process. The figures for a
million rows are the line through the two largest sizes.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "curation.json"
MINI = Path(__file__).parents[1] / "conf" / "mini.yaml"
SETTINGS = {
    "kmeans": ["curate.clustering=kmeans"],
    "hdbscan": ["curate.clustering=hdbscan"],
    "all": [
        "curate.clustering=kmeans",
        "curate.near_duplicates=0.97",
        "curate.sample=farthest_first",
        "curate.sample_size=2000",
    ],
}
RUN = """
import json, resource, sys, time
from pathlib import Path
from stj.config_loader import load
from stj.loop.phases import Run
started = time.perf_counter()
phase = Run(load([Path(sys.argv[1])], sys.argv[2:])).curation
phase.artifact.begin()
phase.run()
found = phase.artifact.manifest()
print(json.dumps({
    "seconds": round(time.perf_counter() - started, 1),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "clusters": len(found["clusters"]),
    **({"near_duplicates": found["near_duplicates"]["embedding"]} if found["near_duplicates"] else {}),
}))
"""
WORDS, TOPICS, LENGTH, COPIES = 60_000, 200, 300, 100


def write_rows(file: Path, count: int) -> None:
    """Made instructions: words of a topic and words of all, by Zipf's law."""
    draw = np.random.default_rng(0)
    syllables = [
        "".join(pair) for pair in zip(draw.choice(list("bcdfghjklmnprstvz"), 80), draw.choice(list("aeiou"), 80), strict=True)
    ]
    words = np.array(["".join(draw.choice(syllables, draw.integers(1, 5))) for _ in range(WORDS)])
    topics = [draw.permutation(WORDS) for _ in range(TOPICS)]
    before = np.zeros(LENGTH, int)
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            ranks = np.minimum(draw.zipf(1.15, LENGTH) - 1, WORDS - 1)
            of_topic = draw.random(LENGTH) < 0.3
            text = np.where(of_topic, topics[draw.integers(TOPICS)][ranks], ranks)
            if number % COPIES == COPIES - 1:
                text = before.copy()
                text[draw.integers(LENGTH, size=2)] = draw.integers(WORDS, size=2)
            before = text
            lines.write(json.dumps({"instruction": f"{number} {' '.join(words[text])}"}) + "\n")


def measure(file: Path, name: str, place: Path) -> dict[str, float]:
    """The seconds, the peak memory and what was found, of one run of the phase."""
    where = [f"run_root={place}", f"source.path={file}", "source.kind=instructions", "source.limit=null", "select.limit=null"]
    command = [sys.executable, "-c", RUN, str(MINI), *where, *SETTINGS[name]]
    threads = {name: "2" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **threads})
    measured: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return measured


def at_a_million(sizes: dict[str, dict[str, float]]) -> dict[str, float]:
    """The line through the two largest sizes."""
    (small, low), (large, high) = [(int(size), sizes[size]) for size in sorted(sizes, key=int)[-2:]]
    return {
        name: round(low[name] + (high[name] - low[name]) / (large - small) * (1_000_000 - small), 1)
        for name in ("seconds", "peak_mb")
    }


def main(sizes: list[int]) -> None:
    """Measures, prints and writes the results."""
    results: dict[str, dict[str, dict[str, float]]] = {name: {} for name in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            write_rows(file := Path(folder) / f"{size}.jsonl", size)
            for name, measured in results.items():
                measured[str(size)] = measure(file, name, Path(folder) / f"{size}-{name}")
                print(size, name, measured[str(size)], f"load {os.getloadavg()[0]:.1f}", flush=True)
    if len(sizes) > 1:
        for measured in results.values():
            measured["1000000 (extrapolated)"] = at_a_million(measured)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [50_000, 100_000])
