"""Several judges on the same pairs: their majority, their agreement beyond chance, and the pairs that divide them.

A juror is a judge, or one judge with one of several prompts. Its verdict on a pair is A, B or none. In counts, none is an
outcome of its own. The measures of agreement beyond chance treat none as a missing value, and say on how many pairs they rest.
In a majority, none is a vote for neither response.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from stj.evals.intervals import Interval, mean_ci95
from stj.evals.table import NONE, accuracy_line, interval, percent
from stj.stages.stopping import VotesAsked
from stj.text import Column, Table, visible_line
from stj.verdict import TIE, Label, Verdict

Verdicts = Sequence[Label | None]


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """One juror's votes on one pair, as shares; unreadable votes are the rest up to 1."""

    for_a: float
    """Share of its votes for response A."""
    for_b: float
    first: tuple[float, float] | None = None
    """The same two shares among the first votes, which no rule leaves out; None if they are all votes. Where votes stop once
    they are settled, the shares of those asked lie further apart than those of all votes would; these do not."""

    for_tie: float = 0.0
    """Share of its votes that say that both are equally good, in words or by equal scores."""

    @property
    def verdict(self) -> Label | None:
        """The response with more votes; None if both have the same number."""
        return None if self.for_a == self.for_b else "A" if self.for_a > self.for_b else "B"

    @property
    def calls_a_tie(self) -> bool:
        """Whether it has as many votes for each response, or only votes for a tie; unreadable judgments call nothing."""
        return self.verdict is None and self.for_a + self.for_tie > 0

    def right(self, winner: Verdict, *, half_ties: bool = False) -> float:
        """Expected share of right votes if this response is the better one, whenever the votes stopped.

        If people call the pair a tie, an equal number of votes for both responses is right. With `half_ties` each vote counts
        one half instead.
        """
        for_a, for_b = self.first or (self.for_a, self.for_b)
        if winner == TIE:
            return 0.5 * (for_a + for_b + self.for_tie) if half_ties else float(self.calls_a_tie)
        return for_a if winner == "A" else for_b

    @property
    def reward(self) -> float:
        """Mean vote for A, from -1 to 1; its size says how sure the juror is."""
        return self.for_a - self.for_b


@dataclass(frozen=True, kw_only=True)
class VoteSplit:
    """A pair on which jurors with a verdict disagree."""

    id: str
    disagreement: float
    """Share of opposed verdicts among all pairs of jurors with a verdict."""
    spread: float
    """Highest reward minus lowest reward, at most 2."""
    verdicts: tuple[Label | None, ...]


def strict_majority(verdicts: Verdicts) -> Label | None:
    """The verdict of more than half of all jurors, including those without a verdict; None if no verdict has that many."""
    for label, votes in Counter(verdicts).items():
        if label is not None and 2 * votes > len(verdicts):
            return label
    return None


def cohens_kappa(first: Verdicts, second: Verdicts) -> float | None:
    """Cohen's kappa (1960): two jurors' agreement beyond the chance level of their shares of A and B.

    It counts the pairs on which both have a verdict; 1 is full agreement, 0 is chance. None if there is no such pair. Also None
    if both jurors always give the same verdict, because chance alone then gives full agreement.
    """
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not both:
        return None
    observed = sum(a == b for a, b in both) / len(both)
    shares = [sum(verdicts[juror] == "A" for verdicts in both) / len(both) for juror in (0, 1)]
    chance = shares[0] * shares[1] + (1 - shares[0]) * (1 - shares[1])
    return None if chance == 1 else (observed - chance) / (1 - chance)


def krippendorffs_alpha(rows: Sequence[Verdicts]) -> float | None:
    """Krippendorff's alpha for nominal data with missing values: any number of jurors' agreement beyond chance.

    A row holds one pair's verdicts, one for each juror. Pairs with fewer than two verdicts do not count. None if all verdicts
    are the same, or if there are none: there is nothing to agree on.
    """
    opposed = 0.0  # Ordered pairs of different values within a row, each row weighted by 1 / (its values - 1).
    total: Counter[Label] = Counter()
    for verdicts in rows:
        counts = Counter(verdict for verdict in verdicts if verdict is not None)
        if counts.total() < 2:
            continue
        opposed += 2 * counts["A"] * counts["B"] / (counts.total() - 1)
        total += counts
    expected = 2 * total["A"] * total["B"]
    return 1 - (total.total() - 1) * opposed / expected if expected else None


def outcomes_of(first: Verdicts, second: Verdicts) -> "Outcomes":
    """How often two jurors differ."""
    both = list(zip(first, second, strict=True))
    with_verdicts = [(a, b) for a, b in both if a is not None and b is not None]
    return Outcomes(
        pairs=len(both),
        with_verdicts=len(with_verdicts),
        opposed=sum(a != b for a, b in with_verdicts),
        one_abstains=sum((a is None) != (b is None) for a, b in both),
    )


def splits(opinions: Mapping[str, Sequence[Opinion]]) -> list[VoteSplit]:
    """The pairs that divide the jurors: the most evenly divided first, and among equals those with the surest jurors."""
    divided = [split for split in itertools.starmap(_split, opinions.items()) if split.disagreement > 0]
    return sorted(divided, key=lambda split: (-split.disagreement, -split.spread, split.id))


def _split(row_id: str, row: Sequence[Opinion]) -> VoteSplit:
    verdicts = [opinion.verdict for opinion in row if opinion.verdict is not None]
    pairs = list(itertools.combinations(verdicts, 2))
    rewards = [opinion.reward for opinion in row]
    return VoteSplit(
        id=row_id,
        disagreement=sum(first != second for first, second in pairs) / max(1, len(pairs)),
        spread=max(rewards, default=0) - min(rewards, default=0),
        verdicts=tuple(opinion.verdict for opinion in row),
    )


@dataclass(frozen=True, kw_only=True)
class JurorAccuracy:
    """One juror, or the jury, against known winners, as shares of the pairs with a known winner."""

    pairs: int
    """Pairs with a known winner, or that people call a tie if ties count."""
    accuracy: float | None
    """Share of right votes, the mean of both orders; a vote for neither response is not right. None for the majority, which has
    one verdict on a pair and no orders."""
    ci95: Interval | None
    """95% interval of the accuracy, over pairs."""
    right_verdicts: float
    """Share of pairs with a right verdict; of a tie that counts, as many votes for A as for B."""
    undecided: float
    """Share of pairs without a verdict, but for ties called right."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Two jurors on the same pairs; A, B and no verdict are three outcomes."""

    pairs: int
    with_verdicts: int
    """Pairs on which both have a verdict: Cohen's kappa rests on these."""
    opposed: int
    """Pairs on which one says A and the other B."""
    one_abstains: int
    """Pairs on which only one of them has a verdict."""

    def line(self) -> str:
        """`20 of 50 differ: 2 opposed, 18 one abstains`."""
        differ = self.opposed + self.one_abstains
        return f"{differ:,} of {self.pairs:,} differ: {self.opposed:,} opposed, {self.one_abstains:,} one abstains"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Several jurors on the same pairs."""

    jurors: tuple[str, ...]
    pairs: int
    kappa: Mapping[str, float | None]
    """Cohen's kappa of every two jurors."""
    outcomes: Mapping[str, Outcomes]
    """On how many pairs they differ, and how."""
    alpha: float | None
    """Krippendorff's alpha of all jurors."""
    alpha_pairs: int
    """Pairs with two verdicts or more: the alpha rests on these."""
    accuracy: Mapping[str, JurorAccuracy]
    """Each juror's accuracy, and the jury's as "majority"; empty if no pair has a known winner."""
    spread: float | None
    """Highest accuracy of a juror minus the lowest, as a share."""
    splits: tuple[VoteSplit, ...]
    """The pairs on which they disagree, the most divided first."""
    majorities: Mapping[str, Label | None]
    """The strict majority on each pair."""
    subsets: Mapping[str, Mapping[str, JurorAccuracy]] = field(default_factory=dict)
    """The same on each subset; empty if the pairs have one subset or none."""
    votes: VotesAsked = field(default_factory=VotesAsked)
    """Votes of all jurors on all pairs."""

    def summary(self) -> Iterator[str | Table]:
        """The agreement for a reader: a table of accuracies if winners are known, then lines."""
        if self.accuracy:
            yield _accuracies_table(self.accuracy)
            yield from (replace(_accuracies_table(accuracy, name), note="") for name, accuracy in self.subsets.items())
        if self.spread is not None and len(self.jurors) > 1:
            yield f"spread over {len(self.jurors)} jurors: {100 * self.spread:.1f} points"
        for names, kappa in self.kappa.items():
            outcomes = self.outcomes[names]
            yield f"{names}: {outcomes.line()}"
            yield f"  Cohen's kappa {_shown(kappa)}, on the {outcomes.with_verdicts:,} pairs on which both have a verdict"
        if len(self.jurors) > 1:
            yield (
                f"Krippendorff's alpha of {len(self.jurors)} jurors: {_shown(self.alpha)}, on the {self.alpha_pairs:,} of "
                f"{self.pairs:,} pairs with two verdicts or more"
            )
            first = ", ".join(visible_line(split.id) for split in self.splits[:5]) or "none"
            yield f"{len(self.splits):,} pairs with opposed verdicts; the first: {first}"
        if self.votes.asked < self.votes.most:
            yield str(self.votes)


def _accuracies_table(accuracies: Mapping[str, JurorAccuracy], subset: str = "") -> Table:
    """A row for each juror, on all pairs or on those of a subset."""
    title = f"% on {visible_line(subset)}" if subset else "%"
    shares = (Column("", "pairs"), Column("accuracy", "[95%]"), Column("verdict", "right"), Column("no", "verdict"))
    rows = [
        (
            name,
            f"{scores.pairs:,}",
            NONE if scores.accuracy is None else f"{percent(scores.accuracy)} {interval(scores.ci95)}",
            f"{100 * scores.right_verdicts:.1f}",
            f"{100 * scores.undecided:.1f}",
        )
        for name, scores in accuracies.items()
    ]
    where = f" on {visible_line(subset)}" if subset else ""
    plain = [
        f"{name}{where}: {_in_words(accuracy)}verdict right {right}%, no verdict {none}%, of {pairs} labelled pairs"
        for name, pairs, accuracy, right, none in rows
    ]
    return Table(columns=(Column("", title, word="juror"), *shares), rows=rows, plain=plain, note=accuracy_line())


def _in_words(accuracy: str) -> str:
    return "" if accuracy == NONE else f"accuracy {accuracy.replace(' ', '% ', 1)}, "


def agreement(
    jurors: Sequence[str],
    opinions: Mapping[str, Sequence[Opinion]],
    winners: Mapping[str, Verdict],
    subsets: Mapping[str, str] | None = None,
    *,
    half_ties: bool = False,
) -> Agreement:
    """Compares the jurors on pairs by id, and scores them on the pairs with a known winner, and on each of their `subsets`.

    The opinions on a pair are in the order of the jurors. A winner is TIE if people call the pair a tie and ties count.
    """
    rows = {row_id: tuple(opinion.verdict for opinion in row) for row_id, row in opinions.items()}
    columns = {name: [row[place] for row in rows.values()] for place, name in enumerate(jurors)}
    majorities = {row_id: strict_majority(row) for row_id, row in rows.items()}
    accuracy = _accuracies(jurors, opinions, winners, majorities, half_ties=half_ties)
    parts: dict[str, dict[str, Verdict]] = {}
    for row_id, winner in winners.items():
        parts.setdefault((subsets or {}).get(row_id, ""), {})[row_id] = winner
    by_subset = {
        name: _accuracies(jurors, opinions, part, majorities, half_ties=half_ties) for name, part in sorted(parts.items())
    }
    shares = [share for name in jurors if name in accuracy and (share := accuracy[name].accuracy) is not None]
    return Agreement(
        jurors=tuple(jurors),
        pairs=len(rows),
        kappa={f"{a} and {b}": cohens_kappa(columns[a], columns[b]) for a, b in itertools.combinations(jurors, 2)},
        outcomes={f"{a} and {b}": outcomes_of(columns[a], columns[b]) for a, b in itertools.combinations(jurors, 2)},
        alpha=krippendorffs_alpha(list(rows.values())),
        alpha_pairs=sum(sum(verdict is not None for verdict in row) > 1 for row in rows.values()),
        accuracy=accuracy,
        subsets=by_subset if len(by_subset) > 1 else {},
        spread=max(shares) - min(shares) if shares else None,
        splits=tuple(splits(opinions)),
        majorities=majorities,
    )


def _accuracies(
    jurors: Sequence[str],
    opinions: Mapping[str, Sequence[Opinion]],
    winners: Mapping[str, Verdict],
    majorities: Mapping[str, Label | None],
    *,
    half_ties: bool,
) -> dict[str, JurorAccuracy]:
    judged = [row_id for row_id in opinions if row_id in winners]
    if not judged:
        return {}
    accuracies = {
        name: _accuracy([(opinions[row_id][place], winners[row_id]) for row_id in judged], half_ties=half_ties)
        for place, name in enumerate(jurors)
    }
    if len(jurors) > 1:
        jury = [(_majority(opinions[row_id], majorities[row_id]), winners[row_id]) for row_id in judged]
        accuracies["majority"] = replace(_accuracy(jury, half_ties=half_ties), accuracy=None, ci95=None)
    return accuracies


def _majority(opinions: Sequence[Opinion], verdict: Label | None) -> Opinion:
    """The jury as one juror: it calls a tie if more than half of all jurors do."""
    ties = sum(opinion.calls_a_tie for opinion in opinions)
    if verdict is None and 2 * ties > len(opinions):
        return Opinion(for_a=0.5, for_b=0.5)
    return Opinion(for_a=float(verdict == "A"), for_b=float(verdict == "B"))


def _accuracy(pairs: Sequence[tuple[Opinion, Verdict]], *, half_ties: bool) -> JurorAccuracy:
    right = [opinion.right(winner, half_ties=half_ties) for opinion, winner in pairs]
    right_verdicts = [opinion.calls_a_tie if winner == TIE else opinion.verdict == winner for opinion, winner in pairs]
    without = [opinion.verdict is None for opinion, _ in pairs]
    return JurorAccuracy(
        pairs=len(pairs),
        accuracy=fmean(right),
        ci95=mean_ci95(right),
        right_verdicts=fmean(right_verdicts),
        undecided=fmean(none and not known for none, known in zip(without, right_verdicts, strict=True)),
    )


def _shown(value: float | None) -> str:
    return "none (nothing to agree on)" if value is None else f"{value:.3f}"
