"""The lift of the mini judge by the loop and by its control, which keeps a random judgment instead of a right one.

    python benchmarks/mini_lift.py --seeds 0 1 2        six runs of conf/mini.yaml, about 9 minutes each
    python benchmarks/mini_lift.py --seeds 0 --lora     and one more, which trains adapters instead of all weights

Writes benchmarks/results/mini_lift.json: the reports of both runs for each run seed, and `control_over_loop`. That is the share
of the loop's lift that the control reaches, by learning only the format of judgments.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parents[1]
ADAPTERS = ("train.lora.rank=16", "train.lr=5e-3")
"""Ten times the rate of conf/mini.yaml."""
RESULT = ROOT / "benchmarks" / "results" / "mini_lift.json"


def judges(name: str, seed: int, runs: Path, *settings: str) -> list[dict[str, Any]]:
    """Runs or resumes the loop for one seed; returns the judges' held-out scores."""
    root = runs / f"{name}_{seed}"
    arguments = [str(ROOT / "conf" / "mini.yaml"), f"seed={seed}", f"run_root={root}", *settings]
    subprocess.run([sys.executable, "-m", "stj.cli", "run", *arguments], check=True)
    iterations: list[dict[str, Any]] = json.loads((root / "report.json").read_text())["iterations"]
    return iterations


def lift(iterations: list[dict[str, Any]], score: str = "accuracy") -> float:
    """Gain from the first judge to the last, in points."""
    return 100 * float(iterations[-1]["heldout"][score] - iterations[0]["heldout"][score])


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "mini_lift")
    parser.add_argument("--lora", action="store_true")
    options = parser.parse_args()
    seeds = []
    for seed in options.seeds:
        loop = judges("correct", seed, options.runs)
        control = judges("random", seed, options.runs, "judge.keep=random")
        summary = {"seed": seed, "lift": lift(loop), "control_lift": lift(control)}
        summary |= {"greedy_lift": lift(loop, "greedy_accuracy"), "consistent_lift": lift(loop, "position_consistent")}
        summary["intervals_apart"] = loop[0]["heldout"]["ci95"][1] < loop[-1]["heldout"]["ci95"][0]
        adapters = judges("lora", seed, options.runs, *ADAPTERS) if options.lora else None
        if adapters:
            summary["lora_lift"] = lift(adapters)
        seeds.append({**summary, "loop": loop, "control": control, **({"lora": adapters} if adapters else {})})
        print(json.dumps(summary))
    ratio = mean(run["control_lift"] for run in seeds) / mean(run["lift"] for run in seeds)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"control_over_loop": ratio, "runs": seeds}, indent=1) + "\n")
    print(f"control_over_loop {ratio:.3f}, written to {RESULT}")


if __name__ == "__main__":
    main()
