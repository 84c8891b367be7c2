"""Drives one run to its end with the same command again and again, and strikes on the way as planned."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray._private.node import Node

from tests.chaos.cluster import ThreeMachines, raylet_of
from tests.chaos.plan import DRIVERS, Fault, Kind, Plan
from tests.chaos.processes import Process, Processes, kill
from tests.chaos.watch import RunWatch, Sizes
from tests.conftest import soon

ROOT = Path(__file__).parents[2]
CONFS = [str(ROOT / "conf" / "mini.yaml"), str(Path(__file__).with_name("conf.yaml"))]
TWO_WORKERS = [f"models.{name}.tensor_parallel_size=2" for name in ("generator", "first_judge", "seed")]
TWO_WORKERS += ["engine.min_replicas=1", "engine.max_replicas=1"]  # Its workers wait in loops: two engines starve each other.

_LOOK_S = 0.02
_VICTIM_S = 20.0  # How long a fault waits for a victim, such as an engine that starts.
_END_S = 120.0  # A driver must end within this time after its end was struck.
_RUN_S = 1800.0  # A run that takes longer hangs: 18 times as long as an undisturbed one on an idle machine.
_NOTICE_S = (2.0, 8.0)  # Between the notice that a machine will be gone, and its end.
_LAST_WORD_S = 10.0  # What a driver leaves is written just after its end.
_RESUME = "run the same command again"
_OWN_ENDS = 3  # A driver that ends unasked is started again, so that the rest of the run is seen; this often.


@dataclass(frozen=True, kw_only=True)
class Strike:
    """What became of a fault."""

    fault: Fault
    struck: bool
    """Whether a victim lived before and none afterwards."""
    note: str
    at_s: float
    """Seconds since the run began."""


@dataclass(kw_only=True)
class Course:
    """How a run went."""

    strikes: list[Strike] = field(default_factory=list)
    drivers: int = 0
    wall_s: float = 0
    steps_again: int = 0
    ranks: int = 0
    """Ranks that were seen, each process once."""
    problems: list[str] = field(default_factory=list)
    """What a driver must not do: end unasked, hang, or end with a traceback."""


class Killer:
    """One run under one plan."""

    def __init__(self, plan: Plan, cluster: ThreeMachines, folder: Path, sizes: Sizes | None = None) -> None:
        self._plan = plan
        self._cluster = cluster
        self._folder = folder
        self._watch = RunWatch(folder / "run", sizes) if sizes else None
        self._waiting = list(plan.faults) if sizes else []
        self._due_at: float | None = None
        self._going: list[tuple[float, Node, Fault]] = []
        """Machines that will be gone, and when."""
        self._struck: Fault | None = None
        """The fault that must end the driver that runs."""
        self._struck_at = 0.0
        self._ranks: set[int] = set()
        self._own_ends = 0
        self.course = Course()

    def run(self) -> Course:
        """Runs the command until it succeeds or cannot; strikes meanwhile."""
        began = time.monotonic()
        self._began = began
        while self._drive() and time.monotonic() - began < _RUN_S:
            pass
        self.course.wall_s = time.monotonic() - began
        self.course.ranks = len(self._ranks)
        self.course.steps_again = self._watch.steps_again if self._watch else 0
        early = [fault for _, _, fault in self._going]  # their notice was given, and the run ended before it was over
        self.course.strikes += [self._outcome(fault, False, "the run was over") for fault in [*early, *self._waiting]]
        return self.course

    def _drive(self) -> bool:
        """Runs one driver to its end; returns whether another one is needed."""
        self.course.drivers += 1
        self._struck = None
        log = self._folder / f"driver_{self.course.drivers}.log"
        with log.open("wb") as output, subprocess.Popen(self._command(), cwd=ROOT, stdout=output, stderr=output) as driver:
            try:
                code = self._strike_until_end(driver)
            finally:
                driver.kill()  # it has ended, unless this process fails
        if self._struck and self._struck.kind in ("driver", "head"):
            soon(lambda: _RESUME in log.read_text(errors="replace"), _LAST_WORD_S)
        return self._judge_end(code, log.read_text(errors="replace"))

    def _command(self) -> Sequence[str]:
        words = [sys.executable, "-m", "tests.chaos.driver", str(self._folder / "journal"), "run", *CONFS]
        words += [f"run_root={self._folder / 'run'}", f"ray.address={self._cluster.address}"]
        return words + (TWO_WORKERS if self._plan.two_workers else [])

    def _strike_until_end(self, driver: "subprocess.Popen[bytes]") -> int:
        while (code := driver.poll()) is None:
            now = time.monotonic()
            if now - self._began > _RUN_S or (self._struck and now - self._struck_at > _END_S):
                self.course.problems.append(f"driver {self.course.drivers} hangs, {self._struck or 'without a fault'}")
                driver.kill()
                return driver.wait()
            self._look()
            if self._struck is None:
                self._strike_if_due(driver)
            time.sleep(_LOOK_S)
        return code

    def _look(self) -> None:
        if self._watch:
            self._watch.look()
        self._take_machines()
        if int(time.monotonic() / _LOOK_S) % 25 == 0:
            self._ranks |= {process.pid for process in Processes.now().ranks(self._cluster.raylets)}

    def _take_machines(self) -> None:
        """Takes away the machines whose notice is over."""
        for going in [going for going in self._going if going[0] <= time.monotonic()]:
            self._going.remove(going)
            _, node, fault = going
            note = f"machine {raylet_of(node)} after its notice"
            self._note(fault, self._cluster.lose(node), note)

    def _strike_if_due(self, driver: "subprocess.Popen[bytes]") -> None:
        if not self._waiting or not self._watch or not self._watch.reached(self._waiting[0]):
            return
        fault, now = self._waiting[0], time.monotonic()
        if self._due_at is None:
            self._due_at = now + fault.delay_s
        if now < self._due_at:
            return
        done, note = self._strike(fault, driver)
        if not done and now - self._due_at < _VICTIM_S and not self._watch.over(fault.place):
            return
        self._waiting.pop(0)
        self._due_at = None
        if fault.kind != "drained node" or not done:
            self._note(fault, done, note)

    def _strike(self, fault: Fault, driver: "subprocess.Popen[bytes]") -> tuple[bool, str]:
        """Whether it struck, and whom."""
        if fault.kind in DRIVERS:
            return self._strike_driver(fault, driver)
        if fault.kind in ("node", "drained node"):
            return self._strike_machine(fault)
        find: Callable[..., list[Process]] = getattr(Processes.now(), _VICTIMS[fault.kind])
        victims = find(self._cluster.raylets)
        if not victims:
            return False, f"no {fault.kind} lived"
        victim = _chosen(victims, fault)
        return kill([victim]), victim.title.replace(sys.executable, "python")[:60]

    def _strike_machine(self, fault: Fault) -> tuple[bool, str]:
        going = [node for _, node, _ in self._going]
        nodes = [node for node in self._cluster.lendable if node not in going]
        if not nodes:
            return False, "no machine was left"
        node = _chosen(nodes, fault)
        if fault.kind == "node":
            note = f"machine {raylet_of(node)}"
            return self._cluster.lose(node), note
        least, most = _NOTICE_S
        notice = least + (most - least) * fault.share
        if not self._cluster.drain(node, notice):
            return False, "Ray refused the notice"
        self._going.append((time.monotonic() + notice, node, fault))
        return True, ""

    def _strike_driver(self, fault: Fault, driver: "subprocess.Popen[bytes]") -> tuple[bool, str]:
        if driver.poll() is not None:
            return False, "the driver had ended"
        self._struck, self._struck_at = fault, time.monotonic()
        if fault.kind == "head":
            return self._cluster.kill_head(), f"head of {self._cluster.address}"
        driver.send_signal(signal.SIGKILL if fault.kind == "driver" else signal.SIGTERM)
        return True, f"driver {self.course.drivers}"

    def _judge_end(self, code: int, output: str) -> bool:
        """Whether the run needs another driver; notes an end that should not have been."""
        number, kind = self.course.drivers, self._struck.kind if self._struck else None
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
        if kind == "head":
            self._going.clear()
            self._cluster.restart()
        if "Traceback" in output:
            self.course.problems.append(f"driver {number} ({kind or 'not struck'}) printed a traceback; its last line: {last}")
        if code == 0:
            return False
        begun = any(line and not line.endswith("done already, reused") for line in map(str.strip, output.splitlines()))
        # One that is killed while Python imports, or before it has connected to Ray, cannot say a word; it has done nothing.
        if kind in ("driver", "head") and begun and _RESUME not in output:
            self.course.problems.append(f"driver {number} ({kind}) ended with code {code} and did not say how to go on: {last}")
        expected = {"driver": code == -signal.SIGKILL, "stop": code == 143, "head": code == 1}
        if kind is None:
            self._own_ends += 1
        if not expected.get(kind or "", False):
            self.course.problems.append(f"driver {number} ({kind or 'not struck'}) ended with code {code}: {last}")
        return self._own_ends <= _OWN_ENDS

    def _note(self, fault: Fault, struck: bool, note: str) -> None:
        self.course.strikes.append(self._outcome(fault, struck, note))

    def _outcome(self, fault: Fault, struck: bool, note: str) -> Strike:
        return Strike(fault=fault, struck=struck, note=note, at_s=round(time.monotonic() - self._began, 1))


_VICTIMS: dict[Kind, str] = {
    "engine actor": "engine_actors",
    "engine process": "engines",
    "engine worker": "engine_workers",
    "rank": "ranks",
}
"""The method of Processes that finds the victims of a kind."""


def _chosen(victims: Sequence[Any], fault: Fault) -> Any:
    return victims[int(fault.victim * len(victims))]


def environment() -> None:
    """Sets what drivers, machines and actors need to import these modules."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
