"""Rules for cluster/run_on_nodes.sh: what it does on the head and on the other machines, if all goes well and if not."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.desk import Desk
from tests.cluster.reading import INSTALLS, differs, limits

_ADDRESS = "10.0.0.1:6379"


def run_on_nodes(text: str, directory: Path) -> Iterator[str]:
    """cluster/run_on_nodes.sh."""
    if re.search(r"^[^#]*(ray stop|symmetric-run)", text, re.MULTILINE) or INSTALLS.search(text):
        yield "another Ray of the machine is stopped, or packages are installed"
    yield from differs("a wrong command ends the script at once", "\nset -euo pipefail\n" in text, True)
    yield from limits(text, [])
    desk = Desk(directory, text)
    yield from _head(desk)
    yield from _failing_head(desk)
    yield from _other(desk)
    yield from _failing_other(desk)


def _head(desk: Desk) -> Iterator[str]:
    disk = desk.directory / "disk"
    start = f"ray start --head --block --node-ip-address=10.0.0.1 --port=6379 --dashboard-host=127.0.0.1 --temp-dir={disk}/ray"
    for code in ("3", "0"):
        options = "--num-cpus=96 --num-gpus=8"
        settings = {"CODE": code, "RAY_AFTER": "1", "DRIVER_PID": str(disk / "driver.pid")}
        done, calls, message = desk.run(str(disk), _ADDRESS, "2", "0", options, "job", "a b", **settings)
        first, joined, waited, job, *known = calls.splitlines()
        yield from differs("the head's Ray", first, f"{start} --num-cpus=96 --num-gpus=8")
        yield from differs("the look at the machines", joined.startswith(f"ray.init {_ADDRESS} "), True)
        yield from differs("the wait for the second machine", waited, "waited 5.0 s for machines")
        yield from differs("the command", job, f"[job][{_ADDRESS}][a b]")
        yield from differs("its process, while it runs,", known, ["its process is known"])
        yield from differs("its variables", desk.environment("job"), _variables(desk) | {"RAY_ADDRESS": _ADDRESS})
        yield from differs("the variables of the head's Ray", desk.environment("ray"), _variables(desk))
        yield from differs("its code, and the messages", (done, message), (int(code), ""))
        yield from differs("the head's Ray lives on", desk.ray_lives_on, False)
    yield from differs("Ray's directory", (disk / "ray").is_dir(), True)
    done, _, message = desk.run(
        str(disk), _ADDRESS, "2", "0", "", "job", CODE="3", JOB_LIVES="0.5", RAY_LIVES="0.1", RAY_AFTER="1"
    )
    yield from differs("a command whose Ray ended first", (done, message), (3, ""))


def _variables(desk: Desk) -> dict[str, str]:
    """The variables of all that the script starts: those that it was given, and Ray's time for a start."""
    return desk.given | {"PWD": str(desk.directory), "RAY_raylet_start_wait_time_s": "120"}


def _failing_head(desk: Desk) -> Iterator[str]:
    words = (str(desk.directory / "disk"), _ADDRESS, "2", "0")
    code, calls, message = desk.run(*words, "--bad", "job", RAY_FAILS="1", HEAD_ANSWERS="0")
    yield from differs("a head whose Ray does not start", (code, "[job]" in calls), (1, False))
    yield from differs("its cause", "ray cannot start\n" in message and "rank 0 of 2" in message, True)
    log = desk.directory / "disk" / "ray-0.log"
    yield from differs("Ray's log", log.read_text(), "ray cannot start\n")
    code, calls, message = desk.run(*words, "", "job", MACHINES_MISSING="1")
    yield from differs("a machine that does not join", (code, "[job]" in calls, desk.ray_lives_on), (1, False, False))
    lines = [line.partition("joined within 10 minutes")[0] for line in message.splitlines()[:1]]
    yield from differs("its message", (lines, "did not join" in message), (["1 of 2 machines "], True))
    yield from differs("the wait", "waited 601.0 s" in calls, True)


def _other(desk: Desk) -> Iterator[str]:
    disk = desk.directory / "disk"
    start = f"ray start --block --address={_ADDRESS}"
    code, calls, message = desk.run(str(disk), _ADDRESS, "2", "1", "--num-gpus=8", "job", HEAD_ANSWERS="3", RAY_AFTER="2")
    yield from differs("another machine", (code, calls, message), (0, f"{start} --num-gpus=8\n", ""))
    yield from differs("its Ray lives on", desk.ray_lives_on, False)
    yield from differs("the variables of its Ray", desk.environment("ray"), _variables(desk))
    yield from differs("the looks at a head that is gone, and the waits", (desk.looks(), set(desk.sleeps())), (6, {"10"}))
    late = {"HEAD_IS_LATE": "5", "HEAD_ANSWERS": "11", "HEAD_MISSES": "8 10", "RAY_AFTER": "7"}
    code, calls, _ = desk.run(str(disk), _ADDRESS, "2", "1", "", "job", **late)
    yield from differs("a machine before its head is there", (code, calls), (0, f"{start}\n"))
    yield from differs("the looks at a head that misses two", desk.looks(), 14)


def _failing_other(desk: Desk) -> Iterator[str]:
    words = (str(desk.directory / "disk"), _ADDRESS, "2", "1", "")
    code, _, message = desk.run(*words, "job", RAY_FAILS="1")
    yield from differs("a machine whose Ray does not start", (code, "ray cannot start\n" in message), (1, True))
    code, _, message = desk.run(*words, "job", RAY_LIVES="0")
    yield from differs("a machine whose Ray ends", (code, "rank 1 of 2" in message and "has ended" in message), (1, True))
    code, calls, message = desk.run(*words, "job", HEAD_ANSWERS="0")
    yield from differs("a machine without a head", (code, calls), (1, ""))
    named = re.search(r"did not answer within (\d+) minutes", message)
    waited = sum(float(seconds) for seconds in desk.sleeps())
    yield from differs("the minutes without an answer", named and int(named[1]) * 60, waited)
