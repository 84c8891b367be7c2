"""Counts of one iteration: from instructions to pairs, and from pairs to kept judgments."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from stj.rows import TRAINING, Row
from stj.stages.grade_pair import graded_pairs
from stj.stages.select import passed_rule
from stj.verdict import PAIR, PARSERS, Parser, parse


@dataclass(kw_only=True)
class Funnel:
    """From instructions to pairs."""

    instructions_in: int = 0
    """Instructions, and pairs and questions of other sources."""
    selected: int = 0
    """Instructions that passed the rule."""
    pairs: int = 0
    attacked: dict[str, int] = field(default_factory=dict)
    """Pairs whose worse answer is attacked, by attack (`pairs.attacked`)."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows dropped before they became pairs, by reason."""
    failed: int = 0
    """Rows whose request failed before they became pairs."""

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Funnel":
        """Counts the training rows among the rows of the generator's pass."""
        funnel, dropped, attacked = cls(), Counter[str](), Counter[str]()
        for row in rows:
            if row.task != TRAINING:
                continue
            funnel.instructions_in += 1
            funnel.selected += passed_rule(row.category, row.dropped)
            funnel.pairs += row.pair is not None
            if row.pair and row.pair.attack:
                attacked[row.pair.attack] += 1
            funnel.failed += row.error is not None and row.pair is None
            if row.dropped and row.pair is None:
                dropped[row.dropped] += 1
        funnel.dropped, funnel.attacked = dict(sorted(dropped.items())), dict(sorted(attacked.items()))
        return funnel


@dataclass(kw_only=True)
class JudgingCounts:
    """What the judge did with the training pairs."""

    judged: int = 0
    """Pairs that the judge saw."""
    kept: int = 0
    """Pairs with a kept judgment."""
    attacked: int = 0
    """Judged pairs whose worse answer is attacked."""
    attacked_kept: int = 0
    """Those of them with a kept judgment."""
    kept_by_parser: dict[str, int] = field(default_factory=dict)
    """Pairs of whose sampled judgments each parser would keep one. The parser in use decided when sampling stopped, so a parser
    that reads less might have kept more after further samples."""
    draws: int = 0
    """Judgments sampled, over all pairs."""
    aborted: int = 0
    """Samples ended early because a sample of lower index was right; not among the draws."""
    unparsed: int = 0
    """Judgments without a verdict."""
    truncated: int = 0
    """Those of them that max_tokens cut, or that ended inside their thought."""
    label_a: int = 0
    """Kept judgments whose better answer was shown as A."""
    label_b: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Pairs that teach nothing, by reason."""
    failed: int = 0

    @property
    def draws_per_kept(self) -> float | None:
        """Judgments sampled for each one kept."""
        return self.draws / self.kept if self.kept else None

    @property
    def accepted(self) -> float | None:
        """Share of the judged pairs with a kept judgment."""
        return self.kept / self.judged if self.judged else None

    @property
    def attacked_accepted(self) -> float | None:
        """Share of the attacked pairs with a kept judgment."""
        return self.attacked_kept / self.attacked if self.attacked else None

    @property
    def truncated_share(self) -> float | None:
        """Share of the sampled judgments that were cut."""
        return self.truncated / self.draws if self.draws else None

    def add(self, row: Row, keep: Literal["correct", "random"]) -> None:
        """Counts one training row that has a pair; `keep` says which judgments of it are kept."""
        self.judged += 1
        self.failed += row.error is not None
        attacked = row.pair is not None and row.pair.attack is not None
        self.attacked += attacked
        self.attacked_kept += attacked and row.kept is not None
        if row.dropped:
            self.drop(row.dropped)
        elif row.judgments and row.kept is None and row.rescued is None:  # It was graded too, and teaches a grade.
            self.drop("no_correct_judgment")
        self.draws += len(row.judgments)
        self.aborted += row.aborted
        unparsed = [judgment for judgment in row.judgments if judgment.verdict is None]
        self.unparsed += len(unparsed)
        self.truncated += sum(judgment.truncated for judgment in unparsed)
        for parser in PARSERS:
            self.kept_by_parser[parser] = self.kept_by_parser.get(parser, 0) + _keeps(parser, row, keep)
        if row.kept is not None:
            self.kept += 1
            self.label_a += row.judgments[row.kept].winner == "A"
            self.label_b += row.judgments[row.kept].winner == "B"

    def drop(self, reason: str) -> None:
        """Counts a pair that teaches nothing."""
        _count(self.dropped, reason)


@dataclass(kw_only=True)
class RescueCounts:
    """What became of the pairs without a right judgment (`judge.rescue`). A rescued pair is not among the kept ones."""

    tried: int = 0
    """Pairs that were judged once more with their label known."""
    rescued: int = 0
    """Those of them with a rationale that may be learned."""
    rationales: int = 0
    """Rationales of all these pairs."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Rationales that are not learned, by reason."""

    def add(self, row: Row) -> None:
        """Counts one training row that has a pair."""
        self.tried += bool(row.rationales)
        self.rescued += row.rescued is not None
        self.rationales += len(row.rationales)
        for rationale in row.rationales:
            if rationale.rejected is not None:
                _count(self.rejected, rationale.rejected)


def rescue_words(counts: RescueCounts) -> str:
    """How many pairs were rescued, and why rationales are not learned, for a reader."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.rejected.items()))
    why = f" ({counts.rationales:,} rationales, not learned: {reasons})" if reasons else ""
    return f"rescued {counts.rescued:,} of {counts.tried:,} pairs without a right judgment{why}"


@dataclass(kw_only=True)
class GradingCounts:
    """What the judge did when it graded the answers of the training pairs."""

    graded: int = 0
    """Pairs whose answers were graded."""
    kept: int = 0
    """Pairs with a kept sample: a grade of each answer, the better one ahead by the margin unless judge.keep is random."""
    draws: int = 0
    """Samples, each with a grade of both answers."""
    unparsed: int = 0
    """Grades without a score."""
    truncated: int = 0
    """Those of them that max_tokens cut, or that ended inside their thought."""
    scores: dict[str, int] = field(default_factory=dict)
    """Kept grades by score, before they are balanced."""
    learned: dict[str, int] = field(default_factory=dict)
    """Grades that became examples, by score."""
    by_rubric: dict[str, dict[str, int]] = field(default_factory=dict)
    """Graded and kept pairs by the name of the rubric."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Pairs that teach no grade, by reason."""
    failed: int = 0

    @property
    def accepted(self) -> float | None:
        """Share of the graded pairs with a kept sample."""
        return self.kept / self.graded if self.graded else None

    @property
    def draws_per_kept(self) -> float | None:
        """Samples for each one kept."""
        return self.draws / self.kept if self.kept else None

    def add(self, row: Row) -> None:
        """Counts one training row that has a pair."""
        self.failed += row.error is not None
        if not row.grades:
            if row.error is None:
                self.drop(row.ungraded or row.dropped or "not_graded")
            return
        pairs = graded_pairs(row)
        self.graded += 1
        self.draws += len(pairs)
        unparsed = [grade for grade in row.grades if grade.score is None]
        self.unparsed += len(unparsed)
        self.truncated += sum(grade.finish_reason == "length" for grade in unparsed)
        rubric = self.by_rubric.setdefault(row.grades[0].rubric, {"graded": 0, "kept": 0})
        rubric["graded"] += 1
        if row.kept_grades is None:
            self.drop("no_right_grades")
            return
        self.kept += 1
        rubric["kept"] += 1
        kept = pairs[row.kept_grades]
        for grade in (kept.chosen, kept.rejected):
            _count(self.scores, str(grade.score))

    def drop(self, reason: str) -> None:
        """Counts a pair that teaches no grade."""
        _count(self.dropped, reason)

    def learn(self, score: int) -> None:
        """Counts a grade that becomes an example."""
        _count(self.learned, str(score))


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def by_score(counts: Mapping[str, int]) -> str:
    """The counts of each score side by side, for a reader."""
    return ", ".join(f"{score}: {counts[score]:,}" for score in sorted(counts, key=int))


def by_parser(counts: Mapping[str, int]) -> str:
    """The counts of each parser side by side, for a reader."""
    return ", ".join(f"{parser} {counts[parser]:,}" for parser in PARSERS if parser in counts) or "nothing was judged"


def _keeps(parser: Parser, row: Row, keep: Literal["correct", "random"]) -> bool:
    """Whether a parser reads a verdict that would be kept from one of the row's judgments."""
    whole = (judgment for judgment in row.judgments if judgment.finish_reason == "stop")
    verdicts = ((judgment.winner, parse(judgment.text, PAIR, parser)) for judgment in whole)
    return any(verdict == winner if keep == "correct" else verdict is not None for winner, verdict in verdicts)
