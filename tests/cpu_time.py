"""CPU time in a unit of the machine's own: machines differ by a factor of three, and the same one does from day to day."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_Input = TypeVar("_Input")
_TEXT = json.dumps({"judgment": "Assistant A is better. " * 20, "labels": [{"label": "A", "score": 1.5}] * 20})
_PARSES = 400  # One unit is about 0.01 s on a core of 2024, so that its own measurement is short.


def unit() -> float:
    """The seconds of CPU that this machine needs now for a fixed piece of work, at best."""
    return min(_seconds(lambda: [json.loads(json.dumps(json.loads(_TEXT))) for _ in range(_PARSES)]) for _ in range(3))


def units(work: Callable[[], object]) -> float:
    """The CPU time of some work in units. The unit is measured before and after it, and the slower one counts."""
    with _no_collection():
        before = unit()
        seconds = _seconds(work)
        return seconds / max(before, unit())


def in_proportion(work: Callable[[_Input], object], short: _Input, long: _Input, times: int) -> bool:
    """Whether work on an input that is `times` as long takes about that much longer, where quadratic time takes the square.

    A measurement can be disturbed: the fastest of a few counts, and what takes less than 0.05 s is never too long.
    """
    with _no_collection():
        short_s = min(_seconds(lambda: work(short)) for _ in range(3))
        return any(_seconds(lambda: work(long)) < 4 * times * short_s + 0.05 for _ in range(5))


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection in a process that has run a thousand tests takes longer than the work."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _seconds(work: Callable[[], object]) -> float:
    begin = time.thread_time()
    work()
    return time.thread_time() - begin
