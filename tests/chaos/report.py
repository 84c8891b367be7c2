"""The report: faults by kind, work done again, and wall time over the undisturbed run; as JSON and as a table."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stj.storage.artifacts import MANIFEST
from tests.chaos.journal import read_journal
from tests.chaos.killer import Course
from tests.chaos.plan import KINDS, PASSES, Plan


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run has done in all, or what was done again."""

    rows: int
    """Rows on engines."""
    tokens: int
    """Output tokens, as the ledgers of the passes have them: a kill -9 loses those since the last commit."""
    steps: int
    drivers: int
    engines: int
    """Starts of engines."""
    ranks: int
    """Starts of ranks."""

    @classmethod
    def of(cls, folder: Path, course: Course) -> "Work":
        """The work of a finished run; its steps are those made again, since the others are the training's own."""
        ledgers = [json.loads((folder / "run" / place / MANIFEST).read_text())["ledger"] for place in PASSES]
        asked = read_journal(folder / "journal")
        return cls(
            rows=asked.rows,
            tokens=sum(ledger["output_tokens"] for ledger in ledgers),
            steps=course.steps_again,
            drivers=course.drivers,
            engines=asked.engines,
            ranks=course.ranks,
        )

    def over(self, calm: "Work") -> "Work":
        """What this run has done more than an undisturbed one, none below zero: engines write surplus samples by chance."""
        own, others = asdict(self), asdict(calm)
        return Work(**{name: max(0, own[name] - others[name]) for name in own})


@dataclass(frozen=True, kw_only=True)
class Result:
    """One seed."""

    plan: Plan
    course: Course
    again: Work
    calm_s: float
    """Wall time of the undisturbed run."""
    violations: list[str]

    @property
    def wrong(self) -> list[str]:
        """All that must not be: of the files at the end, and of the drivers on the way."""
        return [*self.course.problems, *self.violations]

    @property
    def faults(self) -> Counter[str]:
        """Faults that struck, by kind."""
        return Counter(strike.fault.kind for strike in self.course.strikes if strike.struck)

    @property
    def without_victim(self) -> int:
        """Faults that found no victim."""
        return sum(not strike.struck for strike in self.course.strikes)

    @property
    def slowdown(self) -> float:
        """Wall time over that of the undisturbed run."""
        return self.course.wall_s / self.calm_s

    def line(self) -> str:
        """The seed in one line of the table."""
        again, faults = self.again, sum(self.faults.values())
        end = "passed" if not self.wrong else f"{len(self.wrong)} WRONG"
        return (
            f"{self.plan.seed:>4} {faults:>6} {self.without_victim:>6} {again.rows:>6} {again.tokens:>7,} {again.steps:>6} "
            f"{again.drivers:>8} {again.engines:>8} {again.ranks:>6} {self.course.wall_s:>6.0f} {self.slowdown:>6.2f}  {end}"
        )


HEAD = (
    "               no     again:                  more starts of:           wall   over\n"
    "seed faults victim   rows  tokens  steps  drivers  engines  ranks      s   calm  end"
)


def table(results: Sequence[Result]) -> str:
    """Faults by kind, and what is wrong; the lines of the seeds come before."""
    faults = sum((result.faults for result in results), Counter[str]())
    by_kind = ", ".join(f"{faults[kind]} {kind}" for kind in KINDS)
    ratios = sorted(result.slowdown for result in results)
    lines = [
        f"{sum(faults.values())} faults ({by_kind}), {sum(r.without_victim for r in results)} without a victim",
        f"wall time over the undisturbed run's {results[0].calm_s:.0f} s: median {ratios[len(ratios) // 2]:.2f}, "
        f"most {ratios[-1]:.2f}",
        f"{sum(not result.wrong for result in results)} of {len(results)} seeds passed",
    ]
    return "\n".join(lines + [f"seed {result.plan.seed}: {line}" for result in results for line in result.wrong])


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """The whole report."""
    faults = sum((result.faults for result in results), Counter[str]())
    ratios = sorted(result.slowdown for result in results)
    return {
        "seeds": len(results),
        "passed": sum(not result.wrong for result in results),
        "faults": {kind: faults[kind] for kind in KINDS},
        "without_victim": sum(result.without_victim for result in results),
        "again": {name: sum(getattr(r.again, name) for r in results) for name in Work.__dataclass_fields__},
        "slowdown": {"median": round(ratios[len(ratios) // 2], 2), "most": round(ratios[-1], 2)},
        "runs": [_run(result) for result in results],
    }


def _run(result: Result) -> dict[str, Any]:
    return {
        "seed": result.plan.seed,
        "two_workers": result.plan.two_workers,
        "strikes": [asdict(strike) for strike in result.course.strikes],
        "again": asdict(result.again),
        "wall_s": round(result.course.wall_s, 1),
        "calm_s": round(result.calm_s, 1),
        "wrong": result.wrong,
    }
