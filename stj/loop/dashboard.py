"""The dashboard of yield and collapse: what a judge's judgments of the training pairs look like, and when to look closer.

A self-taught judge learns from itself, so its faults grow: it says A more often, writes shorter, or always writes the same.
Accuracy on held-out pairs shows such a collapse late. The numbers here show it in the data that the next judge learns from.

A number out of its bounds raises an alarm, which stops nothing. Bounds are wide: they mark what no healthy run shows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stj.evals.metrics import pick_score
from stj.rows import Row
from stj.rubrics import Rubric

VERDICT_A_BOUNDS = (0.35, 0.65)
"""Share of A. Half of the pairs show the better answer as A. Beyond these bounds, at least 15 of 100 verdicts follow the
position and not the answers."""
MOST_UNPARSED = 0.10
"""Share of judgments without a verdict. The prompt asks for one. Above a tenth, the prompt, `max_tokens` or `judge.parser` does
not fit the judge."""
LEAST_ACCEPTED = 0.20
"""Share of pairs with a kept judgment, of all pairs and of each category. A judge that guesses keeps half of the pairs with a
single draw. Below a fifth it writes no verdicts, or the pairs are wrong about their better answer."""
LARGEST_CHANGE = 2.0
"""Acceptance halves, draws double, or judgments become half or twice as long, from one judge to the next. All judges are
fine-tuned from the same seed on the same pairs, so a change that large is a fault in what the judge learned."""
ANSWER_RATIO = 2.0
"""If better answers are on average twice as long as worse ones, or half as long, length alone says which is better."""
FULL_AGREEMENT = 1.0
"""Share of the sampled judgments that have the verdict of their majority. A judge that never differs from itself samples no
alternatives: where its first judgment is wrong, no further sample is right."""
FEWEST = 50
"""Counts below this raise no alarm: with 50 fair coins, a share outside 35% to 65% has a probability of 3%."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """The lengths of some texts."""

    count: int
    mean: float
    quartiles: tuple[int, int, int]
    """The lengths that a quarter, half and three quarters of the texts do not exceed."""

    @classmethod
    def of(cls, counted: Counter[int]) -> "Lengths | None":
        """The lengths of texts that were counted by their length; None if there are none."""
        count = counted.total()
        if not count:
            return None
        quarter, half, three = (_quantile(counted, part * count / 4) for part in (1, 2, 3))
        mean = sum(length * times for length, times in counted.items()) / count
        return cls(count=count, mean=mean, quartiles=(quarter, half, three))


@dataclass(frozen=True, kw_only=True)
class CategoryYield:
    """The pairs of one category."""

    judged: int
    kept: int
    accepted: float
    """Share of the pairs with a kept judgment."""


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One judge's judgments of the training pairs. Shares are between 0 and 1."""

    pairs: int
    """Pairs with at least one judgment."""
    kept: int
    """Pairs with a kept judgment."""
    by_category: dict[str, CategoryYield]
    """The same by the category of the instruction; the most frequent comes first."""
    draws: int
    """Sampled judgments."""
    unparsed: float | None
    """Share of them without a verdict."""
    verdict_a: float | None
    """Share of A among the verdicts of the first judgment of each pair, whatever the right one is. Further judgments would
    count pairs that the judge gets wrong many times, because sampling stops at the first right one."""
    kept_a: float | None
    """Share of A among the kept judgments, before labels are balanced."""
    judgment_tokens: Lengths | None
    """Tokens of the sampled judgments, thoughts included."""
    kept_tokens: Lengths | None
    """Tokens of the kept judgments, thoughts included."""
    chosen_characters: Lengths | None
    """Characters of the better answers."""
    rejected_characters: Lengths | None
    """Characters of the worse answers."""
    longest: float | None
    """Share of pairs whose better answer is the longer one; equal lengths count one half."""

    @property
    def accepted(self) -> float | None:
        """Share of the pairs with a kept judgment."""
        return self.kept / self.pairs if self.pairs else None

    @property
    def draws_per_kept(self) -> float | None:
        """Judgments sampled for each one kept."""
        return self.draws / self.kept if self.kept else None


@dataclass(kw_only=True)
class DashboardTally:
    """Counts the training pairs of a pass, row by row. Memory grows with the number of different lengths, not with the rows."""

    pairs: int = 0
    kept: int = 0
    longest: float = 0
    judged_in: Counter[str] = field(default_factory=Counter)
    kept_in: Counter[str] = field(default_factory=Counter)
    draws: int = 0
    unparsed: int = 0
    first_verdicts: Counter[str | None] = field(default_factory=Counter)
    kept_labels: Counter[str] = field(default_factory=Counter)
    judgment_tokens: Counter[int] = field(default_factory=Counter)
    kept_tokens: Counter[int] = field(default_factory=Counter)
    chosen: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Counts a training row; rows without judgments do not count."""
        if row.pair is None or not row.judgments:
            return
        category = row.category.name if row.category else "not categorised"
        sizes = len(row.pair.chosen), len(row.pair.rejected)
        self.pairs += 1
        self.judged_in[category] += 1
        self.chosen[sizes[0]] += 1
        self.rejected[sizes[1]] += 1
        self.longest += pick_score(sizes, max(sizes))
        for judgment in row.judgments:
            self.draws += 1
            self.unparsed += judgment.verdict is None
            if judgment.index == 0:
                self.first_verdicts[judgment.verdict] += 1
            self.judgment_tokens[judgment.output_tokens] += 1
        if row.kept is not None:
            kept = row.judgments[row.kept]
            self.kept += 1
            self.kept_in[category] += 1
            self.kept_labels[kept.winner] += 1
            self.kept_tokens[kept.output_tokens] += 1

    def dashboard(self) -> Dashboard | None:
        """The dashboard; None if no pair was judged."""
        if not self.pairs:
            return None
        return Dashboard(
            pairs=self.pairs,
            kept=self.kept,
            by_category={
                name: CategoryYield(judged=count, kept=self.kept_in[name], accepted=self.kept_in[name] / count)
                for name, count in sorted(self.judged_in.items(), key=lambda item: (-item[1], item[0]))
            },
            draws=self.draws,
            unparsed=self.unparsed / self.draws,
            verdict_a=_share_of_a(self.first_verdicts),
            kept_a=_share_of_a(self.kept_labels),
            judgment_tokens=Lengths.of(self.judgment_tokens),
            kept_tokens=Lengths.of(self.kept_tokens),
            chosen_characters=Lengths.of(self.chosen),
            rejected_characters=Lengths.of(self.rejected),
            longest=self.longest / self.pairs,
        )


def dashboard_alarms(now: Dashboard, before: Dashboard | None) -> Iterator[str]:
    """A line for each number of a judge that is out of its bounds; `before` is the dashboard of the judge before it."""
    if now.pairs < FEWEST:
        return
    yield from _share_alarms(now)
    yield from _length_alarms(now)
    if before is not None and before.pairs >= FEWEST:
        yield from _change_alarms(now, before)


def score_alarm(learned: Mapping[str, int], rubrics: Sequence[Rubric]) -> Iterator[str]:
    """A line if the learned grades, by score, leave out points of the only scale: a judge forgets what it never sees."""
    scales = {rubric.points for rubric in rubrics}
    if sum(learned.values()) < FEWEST or len(scales) != 1:
        return
    [points] = scales
    missing = [str(point) for point in points if not learned.get(str(point))]
    if missing:
        yield (
            f"no learned grade is {' or '.join(missing)} on the scale from {points[0]} to {points[-1]}: the judge may forget "
            "such scores; add pairs with answers of that worth, or labelled grades (examples.labelled)"
        )


def skew_alarm(share: float | None, count: int, what: str) -> Iterator[str]:
    """A line if a share of A is out of its bounds; `what` says of what."""
    low, high = VERDICT_A_BOUNDS
    if share is not None and count >= FEWEST and not low <= share <= high:
        yield f"{share:.1%} of {what} are A (bounds {low:.0%} to {high:.0%}): the judge prefers a position"


def _share_alarms(now: Dashboard) -> Iterator[str]:
    yield from skew_alarm(now.verdict_a, now.pairs, "the first verdicts on training pairs")
    yield from skew_alarm(now.kept_a, now.kept, "the kept judgments")
    if (now.unparsed or 0) > MOST_UNPARSED:
        yield (
            f"{now.unparsed:.1%} of the judgments of training pairs have no verdict (bound {MOST_UNPARSED:.0%}): look at them "
            "with `stj show`; judge.decoding.max_tokens or judge.parser may not fit the judge"
        )
    if (now.accepted or 0) < LEAST_ACCEPTED:
        yield f"{now.accepted:.1%} of the pairs have a kept judgment (bound {LEAST_ACCEPTED:.0%})"
    for name, part in now.by_category.items() if len(now.by_category) > 1 else ():
        if part.judged >= FEWEST and part.accepted < LEAST_ACCEPTED:
            pairs = f"{part.judged:,} pairs of category {name}"
            yield f"{part.accepted:.1%} of the {pairs} have a kept judgment (bound {LEAST_ACCEPTED:.0%})"


def _length_alarms(now: Dashboard) -> Iterator[str]:
    if now.chosen_characters and now.rejected_characters:
        better, worse = now.chosen_characters.mean, now.rejected_characters.mean
        if _apart(better, worse, ANSWER_RATIO):
            yield (
                f"better answers have {better:.0f} characters on average, worse ones {worse:.0f} (bound: a factor of "
                f"{ANSWER_RATIO:g}): length alone says which is better"
            )


def _change_alarms(now: Dashboard, before: Dashboard) -> Iterator[str]:
    if before.kept and (now.accepted or 0) * LARGEST_CHANGE <= (before.accepted or 0):
        yield f"acceptance fell from {before.accepted:.1%} to {now.accepted:.1%} of the pairs (bound: half)"
    if now.draws_per_kept and before.draws_per_kept and now.draws_per_kept >= LARGEST_CHANGE * before.draws_per_kept:
        rose = f"{before.draws_per_kept:.2f} to {now.draws_per_kept:.2f}"
        yield f"draws per kept judgment rose from {rose} (bound: a factor of {LARGEST_CHANGE:g})"
    if now.judgment_tokens and before.judgment_tokens:
        old, new = before.judgment_tokens.mean, now.judgment_tokens.mean
        if _apart(new, old, LARGEST_CHANGE):
            yield f"judgments went from {old:.0f} to {new:.0f} tokens on average (bound: a factor of {LARGEST_CHANGE:g})"


def _apart(first: float, second: float, factor: float) -> bool:
    """Whether one of two means is at least `factor` times the other."""
    return first != second and max(first, second) >= factor * min(first, second)


def _share_of_a(labels: Counter[str] | Counter[str | None]) -> float | None:
    count = labels["A"] + labels["B"]
    return labels["A"] / count if count else None


def _quantile(counted: Counter[int], rank: float) -> int:
    """The smallest length that at least `rank` texts do not exceed."""
    seen = 0
    for length in sorted(counted):
        seen += counted[length]
        if seen >= rank:
            return length
    return max(counted)
