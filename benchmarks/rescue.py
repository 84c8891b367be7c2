"""Pairs without a right judgment, rescued or dropped: the judges that both make of the mini world, by one run seed.

    python benchmarks/rescue.py                                   two runs of conf/mini.yaml with judge.samples=2
    python benchmarks/rescue.py --samples 15 iterations=3         the same with other settings

With the 15 samples of the paper, two pairs in a hundred have no right judgment, and a rescue changes little. With 2 samples it
is one in six. Writes benchmarks/results/rescue.json: the settings, what was rescued and why the other rationales were not
learned, the share of examples that are rescued, and the judges of both runs on the held-out pairs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stj.rows import row_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "rescue.json"


def run(name: str, root: Path, settings: list[str]) -> dict[str, Any]:
    """Runs or resumes the loop; returns its judges, and what was rescued."""
    folder = root / name
    words = [str(ROOT / "conf" / "mini.yaml"), f"run_root={folder}", *settings]
    subprocess.run([sys.executable, "-m", "stj.cli", "run", *words], check=True)
    judges = json.loads((folder / "report.json").read_text())["iterations"]
    accuracies = [{key: judge["heldout"][key] for key in ("accuracy", "ci95", "greedy_accuracy")} for judge in judges]
    made = [judge for judge in judges if judge["examples"] is not None]
    learned = [{"examples": judge["examples"], "accepted": judge["accepted"], "rescue": judge["rescue"]} for judge in made]
    for number, facts in enumerate(learned, start=1):
        facts["rescued_examples"] = len(examples(folder, number) & rescued(folder, number))
    return {"settings": settings, "judges": accuracies, "learned": learned}


def examples(folder: Path, iteration: int) -> set[str]:
    """The ids of the training examples of an iteration."""
    return {record["id"] for record in read_artifact(Folder.at(folder / f"iteration_{iteration}" / "examples")).records(["id"])}


def rescued(folder: Path, iteration: int) -> set[str]:
    """The ids of the rescued rows among the judged ones of an iteration."""
    judged = folder / ("pairs" if iteration == 1 else f"iteration_{iteration}/judged")
    rows = map(row_from_dict, read_artifact(Folder.at(judged)).records())
    return {row.id for row in rows if row.rescued is not None}


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--rationales", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "rescue")
    parser.add_argument("settings", nargs="*", help="more settings of both runs, as key=value")
    options = parser.parse_args()
    both = [f"judge.samples={options.samples}", *options.settings]
    # The run that rescues comes first, so that a broken-off measurement still says what was rescued.
    kept = run("rescued", options.runs, [*both, f"judge.rescue={{samples: {options.rationales}}}"])
    measured = {"rescued": kept, "dropped": run("dropped", options.runs, both)}
    RESULT.write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps({name: [judge["accuracy"] for judge in result["judges"]] for name, result in measured.items()}))
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
