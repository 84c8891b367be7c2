"""Decides how many judgments of a pair are sampled: at most N (`judge.samples`), fewer once they are enough.

A rule (`judge.sampling`) says what is enough: the first right judgment, a right and a wrong one, or all N. Samples are
numbered, and a rule sees them only in index order. So the result does not depend on how many run at once, or which finishes
first.

The paper keeps a random right judgment of N (section 3.4). The first right one in index order has exactly that distribution.
The first to finish would not: it favours short judgments.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from stj.rows import Judgment


class Drawable(Protocol):
    """What can be sampled: a judgment, or the grades of both answers of a pair."""

    @property
    def output_tokens(self) -> int:
        """Tokens of its text, with its thought."""


_Drawable = TypeVar("_Drawable", bound=Drawable)
Sample = Callable[[int], Awaitable[_Drawable]]
"""Samples what has this index."""
Enough = Callable[[Iterable[_Drawable]], bool]
"""Whether these samples are enough. Once they are, more of them do not change the answer."""


def one_correct(judgments: Iterable[Judgment]) -> bool:
    """`first_correct`: a right judgment is enough, for a training example."""
    return any(judgment.correct for judgment in judgments)


def one_parsed(judgments: Iterable[Judgment]) -> bool:
    """The control, `judge.keep=random`: any judgment with a verdict is enough."""
    return any(judgment.verdict is not None for judgment in judgments)


def one_correct_and_one_wrong(judgments: Iterable[Judgment]) -> bool:
    """`first_pair`: a right and a wrong judgment are enough, for a preference example; one without a verdict is neither."""
    verdicts = {judgment.correct for judgment in judgments if judgment.verdict is not None}
    return len(verdicts) == 2


def never_enough(samples: Iterable[object]) -> bool:
    """`all`: all N are sampled."""
    return False


@dataclass(frozen=True, kw_only=True)
class Drawn(Generic[_Drawable]):
    """The samples that were enough, and the cost of those beyond them."""

    samples: tuple[_Drawable, ...]
    """In index order: from 0 to the index that made them enough, or all N."""
    aborted: int
    """Number of discarded samples: started, with a higher index than needed."""
    surplus_tokens: int
    """Tokens of discarded samples that finished before they could be aborted."""


async def draw(
    sample: Sample[_Drawable], samples: int, enough: Enough[_Drawable], width: int, room: Callable[[], Awaitable[None]]
) -> Drawn[_Drawable]:
    """Samples until the lowest indices are enough, at most `samples`; runs `width` at a time, more if the engine has room.

    A sample with a higher index than needed is aborted as soon as that is known; lower indices are still awaited. If a sample
    fails, its error is raised only if the indices below it are not enough: exactly as if samples ran one after another.
    """
    finished: dict[int, _Drawable] = {}
    failed: dict[int, Exception] = {}
    running: dict[asyncio.Future[_Drawable], int] = {}
    wider = asyncio.ensure_future(room())
    started, wanted = 0, samples
    try:
        while True:
            wanted = _wanted(finished, enough, min(failed, default=samples))
            _abort(running, wanted)
            if all(index in finished for index in range(wanted)):
                drawn = _drawn(finished, wanted, started)
                if wanted in failed and not enough(drawn.samples):
                    raise failed[wanted]
                return drawn
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
                    finished[index] = task.result()
                except Exception as error:
                    failed[index] = error
    finally:
        _abort(running, 0)
        wider.cancel()


def _wanted(finished: dict[int, _Drawable], enough: Enough[_Drawable], samples: int) -> int:
    """How many of the lowest indices are needed, judged by the finished ones among the first `samples`."""
    known = sorted(index for index in finished if index < samples)
    for count, index in enumerate(known, start=1):
        if enough(finished[earlier] for earlier in known[:count]):
            return index + 1
    return samples


def _drawn(finished: dict[int, _Drawable], wanted: int, started: int) -> Drawn[_Drawable]:
    samples = tuple(finished[index] for index in range(wanted))
    surplus = sum(sample.output_tokens for index, sample in finished.items() if index >= wanted)
    return Drawn(samples=samples, aborted=started - wanted, surplus_tokens=surplus)


def _abort(running: dict[asyncio.Future[_Drawable], int], wanted: int) -> None:
    for task in [task for task, index in running.items() if index >= wanted]:
        task.cancel()
        del running[task]
