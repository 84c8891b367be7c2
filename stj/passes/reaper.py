"""Ends what a dead driver leaves of the Ray that it started on its machine; run as a program, it waits for that death.

Linux kills Ray's own processes with the driver, and Ray's workers end when these are gone. But two helpers of Ray, its agents,
then try for a minute to report the death to a process that has died too. A worker that hangs stays for ever. So a small process
watches the driver. When the driver dies, it waits a few seconds and kills what is left.

It knows Ray's processes by a mark in their environment, which they inherit. The mark is in the driver's own environment only
while Ray starts: no other process of the user has it. The server of `stj serve` is watched in the same way.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "STJ_RAY_OF_DRIVER"
_TITLE_BESIDE = "SPT_NOENV"  # Or the title that a process gives itself is written over its environment, the mark among it.
_LIBRARIES = ("LD_LIBRARY_PATH",)  # A Python of a cluster's modules does not start without it.
_GRACE_S = 5.0  # Ray ends nearly all of its processes itself, within two seconds.
_LOOK_S = 0.5
_LOOKS = 6  # Looks in a row that must find nothing: a process that is just being started appears late.


class Reaper:
    """The process that watches this one, until it is closed. `marks` go into the environment of what it may kill.

    It waits `grace_s` seconds for what can end itself.
    """

    def __init__(self, grace_s: float = _GRACE_S) -> None:
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), self._mark, str(grace_s)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _LIBRARIES if name in os.environ},
            cwd="/",  # it must not keep a disk mounted
            start_new_session=True,  # Ctrl-C, and a kill of the driver's process group, do not reach it
        )

    @property
    def marks(self) -> dict[str, str]:
        """A process with these variables in its environment, and those that it starts, end with this process."""
        return {MARK: self._mark, _TITLE_BESIDE: "1"}

    @contextmanager
    def marking(self) -> Iterator[None]:
        """Puts `marks` into this process's own environment, for this block."""
        before = {name: os.environ.get(name) for name in self.marks}
        os.environ.update(self.marks)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def __enter__(self) -> "Reaper":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the watch, unless a signal stops this process: a Ray that was just starting is not known to `ray.shutdown`."""
        if kind is None or issubclass(kind, Exception):
            self.close()

    def close(self) -> None:
        """Ends the watch: Ray has ended."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Waits for the driver's death; arguments: the driver's process id, the mark, and the grace in seconds."""
    driver, mark, grace_s = int(sys.argv[1]), f"{MARK}={sys.argv[2]}".encode(), float(sys.argv[3])
    while os.getppid() == driver:  # kernels before 5.3 and sandboxes as gVisor have no pidfd to wait for
        time.sleep(_LOOK_S)
    time.sleep(grace_s)
    looks = 0
    while looks < _LOOKS:
        looks += 1
        for process in marked(mark):
            looks = 0
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(_LOOK_S)


def marked(mark: bytes) -> Iterator[int]:
    """Ids of the processes whose environment at their start held `NAME=value`; those of other users are not visible."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


if __name__ == "__main__":
    main()
