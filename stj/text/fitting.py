"""What is left out if a table or a live line is too wide: one rule for both."""

from collections.abc import Callable, Sequence


def places_that_fit(priorities: Sequence[int], fits: Callable[[Sequence[int]], bool]) -> list[int]:
    """The places of the parts that stay, in their order.

    Priority 0 always stays. Until the rest fits, the part with the highest number goes, among equals the last one.
    """
    kept = list(range(len(priorities)))
    while not fits(kept):
        least = max(kept, key=lambda place: (priorities[place], place), default=0)
        if not kept or not priorities[least]:
            break
        kept.remove(least)
    return kept
