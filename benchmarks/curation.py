"""Curation of made instructions: embedding, clusters, near-duplicates, a sample, the decisions on disk.

    python benchmarks/curation.py [ROWS ...]          20,000 and 100,000 rows; writes benchmarks/results/curation.json

Each run is the phase `curated` of a run, in a process of its own, with two threads. Texts have 300 words: about the
2,000 characters that are embedded of a longer text. Most words are whole tokens of the embedding, of one of 60 topics or of
all; one in twenty is one of 60,000 made words. One row in a hundred repeats the one before it with two words changed. Memory is
the peak of the whole process. CPU seconds are those of all threads: wall time also measures what else the machine does. The
figures for a million rows are the line through the two largest sizes.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from stj.curating.embedding import WordLlama

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
    "wall_s": round(time.perf_counter() - started, 1),
    "cpu_s": round(time.process_time(), 1),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "clusters": len(found["clusters"]),
    **({"near_duplicates": found["near_duplicates"]["embedding"]} if found["near_duplicates"] else {}),
}))
"""
TOPICS, TOPIC_WORDS, LENGTH, COPIES, MADE = 60, 300, 300, 100, 60_000


def known_words() -> list[str]:
    """The words of five letters and more that are tokens of the embedding."""
    words = {token[1:] for token in WordLlama()._tokenizer.get_vocab() if token.startswith("▁")}
    return sorted(word for word in words if len(word) >= 5 and word.isascii() and word.islower())


def write_rows(file: Path, count: int) -> None:
    """Made instructions, each of one topic."""
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlcumwfgypbvk"))
    made = ["".join(draw.choice(letters, draw.integers(5, 12))) for _ in range(MADE)]
    known = known_words()
    words = np.array(known + made)
    topics = draw.integers(len(known), size=(TOPICS, TOPIC_WORDS))
    text = np.zeros(LENGTH, int)
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            if number % COPIES:
                kind = draw.random(LENGTH)
                text = np.where(
                    kind < 0.75, draw.choice(topics[draw.integers(TOPICS)], LENGTH), draw.integers(len(known), size=LENGTH)
                )
                text = np.where(kind > 0.95, len(known) + draw.integers(MADE, size=LENGTH), text)
            else:
                text[draw.integers(LENGTH, size=2)] = draw.integers(len(known), size=2)
            lines.write(json.dumps({"instruction": " ".join(words[text])}) + "\n")


def measure(file: Path, name: str, place: Path) -> dict[str, float]:
    """The seconds, the peak memory and what was found, of one run of the phase."""
    where = [f"run_root={place}", f"source.path={file}", "source.kind=instructions", "source.limit=null", "select.limit=null"]
    where += ["heldout.path=null"]  # comparing with texts that are kept out is not what is measured
    command = [sys.executable, "-c", RUN, str(MINI), *where, *SETTINGS[name]]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "2")
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **threads})
    measured: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return measured


def at_a_million(sizes: dict[str, dict[str, float]]) -> dict[str, float]:
    """The line through the two largest sizes."""
    (small, low), (large, high) = [(int(size), sizes[size]) for size in sorted(sizes, key=int)[-2:]]
    return {
        name: round(low[name] + (high[name] - low[name]) / (large - small) * (1_000_000 - small), 1)
        for name in ("cpu_s", "peak_mb")
    }


def main(sizes: list[int]) -> None:
    """Measures, prints and writes the results."""
    results: dict[str, dict[str, dict[str, float]]] = {name: {} for name in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            write_rows(file := Path(folder) / f"{size}.jsonl", size)
            for name, measured in results.items():
                measured[str(size)] = measure(file, name, Path(folder) / f"{size}-{name}")
                RESULTS.write_text(json.dumps(results, indent=2) + "\n")
                print(size, name, measured[str(size)], f"load {os.getloadavg()[0]:.1f}", flush=True)
    if len(sizes) > 1:
        for measured in results.values():
            measured["1000000 (extrapolated)"] = at_a_million(measured)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [20_000, 100_000])
