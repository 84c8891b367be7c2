"""The random choices of stj itself: one function of the seed, a row's id and a purpose.

The A/B order of a training pair comes from here: purpose "order", in stages/judge.py. So do the rows that balance the labels
(loop/label_balance.py), the kinds of examples (loop/tasks.py) and the order of an epoch (train/packing.py). These are the same
for any number of workers, any order of arrival and any number of restarts.

The texts that a model samples come from here only with `engine.deterministic`: each request then has a seed of its own. Without
it, vLLM draws for all requests in flight from one generator, so texts depend on what runs beside what.
"""

import hashlib


def request_seed(seed: int, row_id: str, purpose: str, index: int) -> int:
    """The seed of one request to a model, from 0 to 2^53: every JSON reader holds it exactly."""
    return int(uniform(seed, row_id, f"request\0{purpose}\0{index}") * 2**53)


def uniform(seed: int, row_id: str, purpose: str) -> float:
    """A number in [0, 1), always the same for the same seed, row and purpose."""
    digest = hashlib.sha256(f"{seed}\0{row_id}\0{purpose}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
