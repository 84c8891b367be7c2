"""How a test's process waits for a signal."""

import time
from typing import NoReturn


def wait_for_a_signal() -> NoReturn:
    """In short steps: a signal just before a sleep's system call does not end the sleep (2 of 2,533 programs slept on)."""
    for _ in range(60_000):
        time.sleep(0.01)
    raise TimeoutError("no signal came")
