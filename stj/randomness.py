"""All randomness of a run: one function of the seed, a row's id and a purpose.

The A/B order of a training pair comes from here: purpose "order", in stages/judge.py. So do the rows that balance the labels
(loop/label_balance.py), the kinds of examples (loop/tasks.py) and the order of an epoch (train/packing.py). A run gives the
same results for any number of workers, any order of arrival and any number of restarts.
"""

import hashlib


def uniform(seed: int, row_id: str, purpose: str) -> float:
    """A number in [0, 1), always the same for the same seed, row and purpose."""
    digest = hashlib.sha256(f"{seed}\0{row_id}\0{purpose}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
