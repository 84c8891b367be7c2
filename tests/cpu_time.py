"""CPU time in a unit of the machine's own: machines differ by a factor of three, and the same one does from day to day."""

import json
import time
from collections.abc import Callable

_TEXT = json.dumps({"judgment": "Assistant A is better. " * 20, "labels": [{"label": "A", "score": 1.5}] * 20})
_PARSES = 400  # One unit is about 0.01 s on a core of 2024, so that its own measurement is short.


def unit() -> float:
    """The seconds of CPU that this machine needs now for a fixed piece of work, at best."""
    return min(_seconds(lambda: [json.loads(json.dumps(json.loads(_TEXT))) for _ in range(_PARSES)]) for _ in range(3))


def units(work: Callable[[], object]) -> float:
    """The CPU time of some work in units. The unit is measured before and after it, and the slower one counts."""
    before = unit()
    seconds = _seconds(work)
    return seconds / max(before, unit())


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin
