"""Who can be struck: processes of this machine, by the machine of Ray that they belong to."""

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import soon

_HOST = "stj.engine.host"
_RANK, _ENGINE_ACTOR = "RayTrainWorker", "PassActor"
_STARTING = ".__init__"  # Ray shows the method that an actor runs.
_HELPER = "resource_tracker"
_END_S = 20


@dataclass(frozen=True, kw_only=True)
class Process:
    """A living process."""

    pid: int
    parent: int
    cpu: int
    """Time on a CPU in the kernel's ticks, its own and its ended children's."""
    words: tuple[str, ...]
    """Its command line; a process may give itself another."""

    @property
    def title(self) -> str:
        """Its command line as `ps` shows it."""
        return " ".join(self.words)


@dataclass(frozen=True)
class Processes:
    """All processes at one moment."""

    by_pid: dict[int, Process]
    children: dict[int, list[Process]] = field(default_factory=dict)

    @classmethod
    def now(cls) -> "Processes":
        """Those that live now; zombies do not."""
        found: dict[int, Process] = {}
        children: dict[int, list[Process]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                words = (folder / "cmdline").read_bytes().decode(errors="replace").strip("\0").split("\0")
            except OSError:  # it has just ended
                continue
            if fields[0] not in "ZX":
                cpu = sum(map(int, fields[11:15]))
                process = Process(pid=int(folder.name), parent=int(fields[1]), cpu=cpu, words=tuple(words))
                found[process.pid] = process
                children.setdefault(process.parent, []).append(process)
        return cls(found, children)

    def below(self, pid: int) -> list[Process]:
        """Its children, their children and so on; the oldest first."""
        found, waiting = [], [pid]
        while waiting:
            young = self.children.get(waiting.pop(), [])
            found += young
            waiting += [process.pid for process in young]
        return sorted(found, key=lambda process: process.pid)

    def engine_actors(self, raylets: Iterable[int]) -> list[Process]:
        """Ray's actors that hold an engine: those whose engine has started, or all if none has."""
        actors = self._actors(raylets, _ENGINE_ACTOR)
        return [actor for actor in actors if not actor.title.endswith(_STARTING)] or actors

    def ranks(self, raylets: Iterable[int]) -> list[Process]:
        """The training ranks."""
        return self._actors(raylets, _RANK)

    def engines(self, raylets: Iterable[int]) -> list[Process]:
        """The engines' own processes, forked from the warm process of their machine; those that have worked the most."""
        warm = {process.pid for process in self.warm(raylets)}
        engines = [process for pid in sorted(warm) for process in self.children.get(pid, [])]
        most = max((engine.cpu for engine in engines), default=0)
        return [engine for engine in engines if 2 * engine.cpu >= most]

    def engine_workers(self, raylets: Iterable[int]) -> list[Process]:
        """Processes that engines have started: vLLM's core and workers, but not Python's helper, which nobody needs."""
        below = (process for engine in self.engines(raylets) for process in self.below(engine.pid))
        return [process for process in below if _HELPER not in process.title]

    def warm(self, raylets: Iterable[int]) -> list[Process]:
        """The processes that engines are forked from; each names the raylet of its machine as its owner."""
        owners = set(map(str, raylets))
        hosts = {p.pid: p for p in self.by_pid.values() if _HOST in p.words and owners & set(p.words)}
        return [process for process in hosts.values() if process.parent not in hosts]

    def machine(self, raylet: int) -> list[Process]:
        """All that would end if the power of a machine were cut, Ray itself first."""
        warm = self.warm([raylet])
        engines = [process for root in warm for process in self.below(root.pid)]
        here = [self.by_pid[raylet]] if raylet in self.by_pid else []
        return [*here, *self.below(raylet), *warm, *engines]

    def _actors(self, raylets: Iterable[int], name: str) -> list[Process]:
        return [process for raylet in raylets for process in self.below(raylet) if name in process.title]


def alive(pid: int) -> bool:
    """Whether a process lives and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(processes: Iterable[Process]) -> bool:
    """Kills with -9; returns whether at least one lived before and none lives afterwards."""
    killed = []
    for process in processes:
        if not alive(process.pid):  # A dead one whose parent has not waited for it yet takes signals.
            continue
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed.append(process.pid)
    return bool(killed) and soon(lambda: not any(map(alive, killed)), _END_S)
