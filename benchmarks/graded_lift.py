"""What the small world's judge gains on grades and on pairs: trained on one task, on both, and on random grades.

    python benchmarks/graded_lift.py --seeds 0 1 2      twelve runs of conf/mini_grades.yaml, some minutes each
    python benchmarks/graded_lift.py --seeds 0 --tasks absolute random

Writes benchmarks/results/graded_lift.json: for each run seed the figures of each judge, and what a judge of both tasks loses on
each against the judge of that task alone; then the means of all seeds, for two trainings differ by more than two tasks do.
`random` is the control, judge.task=absolute with judge.keep=random: any two scores
are kept, right or not. The last judges of one task each are merged, as Prometheus 2's were, and measured beside the merged one.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from scipy.stats import t as student

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "graded_lift.json"
TASKS = {
    "absolute": ["judge.task=absolute"],
    "random": ["judge.task=absolute", "judge.keep=random"],
    "both": ["judge.task=both"],
    "pairwise": ["judge.task=pairwise"],
}
CONF = ROOT / "conf" / "mini_grades.yaml"


def judges(task: str, seed: int, runs: Path) -> list[dict[str, Any]]:
    """Runs or resumes one run; returns the figures of its judges."""
    root = runs / f"{task}{seed}"
    settings = [f"seed={seed}", "heldout.limit=480", f"train.seed={seed}", f"run_root={root}", *TASKS[task]]
    _stj("run", str(CONF), *settings)
    iterations: list[dict[str, Any]] = json.loads((root / "report.json").read_text())["iterations"]
    return [_figures(iteration) for iteration in iterations]


def merged(seed: int, runs: Path) -> dict[str, dict[str, float]]:
    """Merges the last judges of the two tasks; returns what they and the merged judge score greedily on the same data."""
    parents = {task: runs / f"{task}{seed}" / "iteration_2" / "model" for task in ("absolute", "pairwise")}
    out = runs / f"merged{seed}"
    if not out.exists():
        _stj("merge", *map(str, parents.values()), str(out))
    return {name: _scores(model) for name, model in {**parents, "merged": out}.items()}


def means(summaries: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The mean over the seeds of each figure that several seeds have, with Student's 95% interval."""
    of_seeds: dict[str, list[float]] = {}
    for summary in summaries:
        for name, points in summary.items():
            if isinstance(points, float):
                of_seeds.setdefault(name, []).append(points)
    return {name: _mean(points) for name, points in of_seeds.items() if len(points) > 1}


def _mean(points: list[float]) -> dict[str, float]:
    seeds, middle = len(points), statistics.mean(points)
    reach = float(student.ppf(0.975, seeds - 1)) * statistics.stdev(points) / math.sqrt(seeds)
    return {"seeds": seeds, "mean": round(middle, 1), "low": round(middle - reach, 1), "high": round(middle + reach, 1)}


def _scores(model: Path) -> dict[str, float]:
    data = "package://mini/data/heldout"
    printed = _stj("eval", str(model), f"pairs:{data}.jsonl", f"grades:{data}_grades.jsonl", str(CONF), "--json")
    scores = json.loads(printed)["scores"]
    grades, pairs = (scores[name]["distinct"]["groups"]["overall"] for name in ("grades", "pairs"))
    return {"exact": grades["exact"], "spearman": grades["spearman"], "pairs": pairs["accuracy"]}


def _stj(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "stj.cli", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _figures(iteration: dict[str, Any]) -> dict[str, Any]:
    grades, pairs = iteration["heldout_grades"], iteration["heldout"]
    return {
        "judge": iteration["judge"],
        **{name: grades["sampled"][name] for name in ("exact", "exact_ci95", "spearman", "spearman_ci95")},
        **{f"greedy_{name}": grades["greedy"][name] for name in ("exact", "spearman")},
        "pairs": pairs["accuracy"],
        "pairs_ci95": pairs["ci95"],
        "greedy_pairs": pairs["greedy_accuracy"],
    }


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "graded_lift")
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        made = {task: judges(task, seed, options.runs) for task in options.tasks}
        summary = _summary(made)
        if {"absolute", "pairwise"} <= made.keys():
            summary["greedy, merged beside its parents"] = merged(seed, options.runs)
        runs.append({"seed": seed, **made, "summary": summary})
        print(json.dumps({"seed": seed, **summary}))
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps({"runs": runs, "means": means([run["summary"] for run in runs])}, indent=1) + "\n")
    print(f"written to {RESULT}")


def _summary(made: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """In points: what each judge gains, and what the judge of both tasks has less than the judge of one."""
    summary: dict[str, Any] = {}
    for task, (first, *_, last) in made.items():
        for name in ("exact", "spearman", "pairs"):
            summary[f"{task}: {name}"] = round(100 * (last[name] - first[name]), 1)
    for alone, name in (("absolute", "exact"), ("absolute", "spearman"), ("pairwise", "pairs")):
        if {alone, "both"} <= made.keys():
            less = made[alone][-1][name] - made["both"][-1][name]
            summary[f"both less than {alone}: {name}"] = round(100 * less, 1)
    return summary


if __name__ == "__main__":
    main()
