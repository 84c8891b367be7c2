"""`python -m tests.chaos`: an undisturbed run of each kind, then one disturbed run a seed; exit code 1 if anything is wrong."""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stj.config_loader import load
from stj.sources import read_rows
from tests.chaos.cluster import ThreeMachines
from tests.chaos.invariants import violations
from tests.chaos.killer import CONFS, Course, Killer, environment
from tests.chaos.plan import Plan, plan_of
from tests.chaos.report import HEAD, Result, Work, as_json, table
from tests.chaos.watch import Sizes

_NOTHING_AGAIN = Work(rows=0, tokens=0, steps=0, drivers=0, engines=0, ranks=0)


@dataclass(frozen=True, kw_only=True)
class Calm:
    """A run that nothing disturbed."""

    folder: Path
    work: Work
    wall_s: float


class Chaos:
    """Runs in folders of their own, each with a cluster of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._calm: dict[bool, Calm] = {}
        self._source = [row.id for row in read_rows(load(CONFS, []).source)]

    def calm(self, *, two_workers: bool) -> Calm:
        """The undisturbed run to compare with; it is made once."""
        if two_workers not in self._calm:
            folder = self._folder / f"calm_{1 + two_workers}"
            course = _course(Plan(seed=-1, two_workers=two_workers, faults=()), folder, None)
            if course.problems or not (folder / "run" / "report.json").exists():
                sys.exit(f"the undisturbed run failed: {'; '.join(course.problems)} (logs: {folder})")
            self._calm[two_workers] = Calm(folder=folder, work=Work.of(folder, course), wall_s=course.wall_s)
        return self._calm[two_workers]

    def disturbed(self, plan: Plan) -> Result:
        """The run of one seed, and what is wrong with it; its folder stays only if something is."""
        calm, folder = self.calm(two_workers=plan.two_workers), self._folder / f"seed_{plan.seed}"
        course = _course(plan, folder, Sizes.in_run(calm.folder / "run"))
        again, wrong = _NOTHING_AGAIN, [f"the run never finished (logs: {folder})"]
        if (folder / "run" / "report.json").exists():
            try:
                again = Work.of(folder, course).over(calm.work)
                wrong = violations(folder / "run", calm.folder / "run", self._source)
            except Exception as error:  # a check that cannot read its files has found something wrong
                traceback.print_exc()
                wrong = [f"the run could not be checked: {type(error).__name__}: {error} (files: {folder})"]
        result = Result(plan=plan, course=course, again=again, calm_s=calm.wall_s, violations=wrong)
        if not result.wrong:
            shutil.rmtree(folder)
        return result


def _course(plan: Plan, folder: Path, sizes: Sizes | None) -> Course:
    folder.mkdir(parents=True)
    cluster = ThreeMachines()
    try:
        return Killer(plan, cluster, folder, sizes).run()
    finally:
        cluster.close()


def main(words: Sequence[str] | None = None) -> int:
    """Runs the seeds, prints the report, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="run seeds 0 to SEEDS - 1")
    parser.add_argument("--seed", type=int, action="append", help="run this seed alone; may be repeated")
    parser.add_argument("--json", type=Path, help="write the report there")
    arguments = parser.parse_args(words)
    environment()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the driver and the cluster too
    folder = Path(tempfile.mkdtemp(prefix="stj-chaos-"))
    chaos, results = Chaos(folder), []
    print(HEAD, flush=True)
    for seed in arguments.seed or range(arguments.seeds):
        results.append(chaos.disturbed(plan_of(seed)))
        print(results[-1].line(), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(as_json(results), indent=1) + "\n")
    print(table(results))
    if all(not result.wrong for result in results):
        shutil.rmtree(folder)
        return 0
    print(f"files and logs: {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
