"""How many judgments of a pair are sampled: a rule that says what is enough, and samples that run ahead of it.

Samples are numbered, and a rule is asked of the lowest numbers alone: the outcome is the same whether samples run one after
the other or all at once, and whichever of them is finished first. So keeping the first right one in index order has exactly
the distribution of "a random right one of N" (section 3.4), where the first to finish would favour short judgments.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from stj.rows import Judgment

Sample = Callable[[int], Awaitable[Judgment]]
"""Samples the judgment of this number."""
Enough = Callable[[Iterable[Judgment]], bool]
"""Whether no more judgments are wanted after these; once it is so, more judgments do not change it."""


def one_correct(judgments: Iterable[Judgment]) -> bool:
    """`first_correct`: enough for one training example."""
    return any(judgment.correct for judgment in judgments)


def one_parsed(judgments: Iterable[Judgment]) -> bool:
    """The control: any judgment with a verdict."""
    return any(judgment.verdict is not None for judgment in judgments)


def one_correct_and_one_wrong(judgments: Iterable[Judgment]) -> bool:
    """`first_pair`: enough for one preference example; a judgment without a verdict is neither."""
    verdicts = {judgment.correct for judgment in judgments if judgment.verdict is not None}
    return len(verdicts) == 2


def never(judgments: Iterable[Judgment]) -> bool:
    """`all`: every one of N."""
    return False


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The judgments that a rule rests on, and what it cost beside them."""

    judgments: tuple[Judgment, ...]
    """In index order, from 0 up to the one that was enough, or all N."""
    aborted: int
    """Samples with a higher index that had been started, and came to nothing."""
    surplus_tokens: int
    """Written for those of them that were finished all the same."""


async def draw(sample: Sample, samples: int, enough: Enough, width: int, room: Callable[[], Awaitable[None]]) -> Drawn:
    """Samples until the lowest indices are enough, at most N; `width` samples at a time, more where there is room.

    A sample whose index is beyond what is enough is aborted as soon as that is known; those below it are waited for. What a
    sample raises is raised where it would be if they ran one after the other: when none below it was enough.
    """
    found: dict[int, Judgment] = {}
    failed: dict[int, Exception] = {}
    running: dict[asyncio.Future[Judgment], int] = {}
    wider = asyncio.ensure_future(room())
    started, wanted = 0, samples
    try:
        while True:
            wanted = _wanted(found, enough, min(failed, default=samples))
            _abort(running, wanted)
            if all(index in found for index in range(wanted)):
                judgments = tuple(found[index] for index in range(wanted))
                if wanted in failed and not enough(judgments):
                    raise failed[wanted]
                surplus = sum(judgment.output_tokens for index, judgment in found.items() if index >= wanted)
                return Drawn(judgments=judgments, aborted=started - wanted, surplus_tokens=surplus)
            more = max(width - len(running), int(wider.done()))
            for index in range(started, min(started + more, wanted)):
                running[asyncio.ensure_future(sample(index))] = index
                started += 1
            wider = asyncio.ensure_future(room()) if wider.done() else wider
            waited: list[asyncio.Future[Any]] = [*running, *([wider] if started < wanted else [])]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task.done()]:
                index = running.pop(task)
                try:
                    found[index] = task.result()
                except Exception as error:
                    failed[index] = error
    finally:
        _abort(running, 0)
        wider.cancel()


def _wanted(found: dict[int, Judgment], enough: Enough, samples: int) -> int:
    """How many of the lowest indices are wanted, by what is known of the first `samples`."""
    known = sorted(index for index in found if index < samples)
    for count, index in enumerate(known, start=1):
        if enough(found[earlier] for earlier in known[:count]):
            return index + 1
    return samples


def _abort(running: dict[asyncio.Future[Judgment], int], wanted: int) -> None:
    for task in [task for task, index in running.items() if index >= wanted]:
        task.cancel()
        del running[task]
