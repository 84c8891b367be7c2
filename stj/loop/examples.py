"""From a judged pass to training examples, as streams: a million pairs take a few bytes of memory each."""

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial

from stj.config import Config
from stj.errors import PassFailed
from stj.loop.all_benchmarks import keeps_out_all
from stj.loop.clue_balance import ClueBalance, ClueBalanceCounts
from stj.loop.counts import Funnel, GradingCounts, JudgingCounts, RescueCounts
from stj.loop.external_sort import sorted_by_id
from stj.loop.inputs import kept_out, training_pairs
from stj.loop.labelled import LabelledExamples
from stj.loop.lessons import Lesson, Lessons, holds_thought
from stj.loop.mixing import MOST_TIMES, MixedBalance, SourceCounts, source_counts, source_of
from stj.loop.opinions import PassOpinions
from stj.loop.panel_figures import panel_figures, panel_words
from stj.loop.score_balance import Points, ScoreBalance
from stj.loop.tasks import TaskMix, grade_example, to_example
from stj.rows import Example, Row, examples_to_table, row_from_dict
from stj.sources.answer_overlap import AnswerPhrases
from stj.sources.ids import repeat_id
from stj.sources.overlap import BENCHMARK_OVERLAP
from stj.stages.grade_pair import GradedPair, graded_pairs
from stj.storage.artifacts import Artifact
from stj.train_config import Objective

_EXAMPLES_PER_FILE = 2048
_ANSWERS = ["id", "position", "task", "turns", "pair", "response"]
"""The columns that hold the answers of a pair."""


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """Which pairs become examples."""

    judgments: MixedBalance
    """One right judgment of each of these pairs is learned."""
    compared: MixedBalance
    """The pairs among them with a wrong judgment too, to learn preferences."""
    grades: ScoreBalance
    """A grade of each answer of these pairs is learned."""
    matched: ClueBalance | None = None
    """The pairs that `curate.balance` keeps, among which the others choose; None if it names no clue."""

    def times(self, lesson: Lesson) -> int:
        """How often a right judgment of a pair is learned."""
        return self.judgments.times(lesson.row, lesson.right.winner) if self.may_have(lesson) else 0

    def may_have(self, lesson: Lesson) -> bool:
        """Whether `curate.balance` keeps a pair."""
        return self.matched is None or self.matched.has(lesson.row, lesson.right.winner)


@dataclass(frozen=True, kw_only=True)
class ExampleSelection:
    """Keeps one right judgment a pair (and a wrong one, to learn preferences), as many with label A as with label B.

    If the judge grades, it keeps a grade of each answer of a pair too, with no score much more often than others.
    """

    name: str
    """For error messages."""
    judged: Artifact | None
    """The pass that judged the pairs; None if all examples are labelled."""
    pairs: Artifact | None
    """The pass that made the pairs."""
    earlier: Sequence[Artifact]
    """The passes that judged the pairs in the iterations before."""
    opinions: Sequence[PassOpinions] = ()
    """The passes that hold opinions of the panel."""
    objective: Objective
    config: Config
    _repeats: dict[str, str] = field(default_factory=dict, init=False)
    """Ids of the pairs whose answers repeat a benchmark, and what they repeat."""

    def write(self, artifact: Artifact) -> None:
        """Writes the examples and their counts. Raises PassFailed if nothing, or only one label, can be learned."""
        counts, grading, rescue = JudgingCounts(), GradingCounts(), RescueCounts()
        self._repeats.update(self._find_repeats())
        labelled = LabelledExamples(self.config, kept_out(self.config) if self.config.examples.labelled else ())
        by_source = source_counts(self.config.mixed_preferences, self.config.preferences)
        matched, balanced = self._without_clues()
        kept = self._choose(counts, grading, rescue, labelled, by_source, matched)
        made = itertools.chain(self._judgments(kept), self._grades(kept, grading), labelled)
        parts, kinds = _write_parts(artifact, sorted_by_id(made))  # never in the order of arrival
        funnel = Funnel.of(map(row_from_dict, self.pairs.records())) if self.pairs else Funnel()
        facts = {"funnel": asdict(funnel), "judged": asdict(counts), "kinds": dict(sorted(kinds.items()))}
        if self.config.judge.grades:
            facts["graded"] = asdict(grading)
        if self.config.judge.rescue and self.judged:
            facts["rescue"] = asdict(rescue)
        if self.config.examples.labelled:
            facts["labelled"] = asdict(labelled.counts)
        if by_source:
            for title, counted in by_source.items():
                counted.learned = 2 * kept.judgments.size_of(title)
                counted.repeated = counted.learned - 2 * kept.judgments.distinct_of(title)
                counted.most_times = kept.judgments.most_times_of(title)
            facts["sources"] = {title: asdict(counted) for title, counted in by_source.items()}
        if self._lessons.noise:
            facts["label_noise"] = asdict(self._lessons.noise)
        if balanced:
            facts["balanced"] = asdict(balanced)
        artifact.finish(parts, **facts, with_wrong_judgment=2 * kept.compared.size)

    def _without_clues(self) -> tuple[ClueBalance | None, ClueBalanceCounts | None]:
        """The pairs that stay if no clue in `curate.balance` may give their better answers away; None without such clues."""
        if not self.config.curate.balance:
            return None, None
        sources, for_humans = self.config.mixed_preferences, self.config.tops_up
        matched = ClueBalance(self.config.curate.balance, self.config.seed, sources, for_humans=for_humans)
        for row in self._rows():
            if (lesson := self._lessons.of(row)) is not None:
                matched.add(row, lesson.right.winner)
        return matched, matched.settle(self.name)

    def _choose(
        self,
        counts: JudgingCounts,
        grading: GradingCounts,
        rescue: RescueCounts,
        labelled: LabelledExamples,
        by_source: Mapping[str, SourceCounts],
        matched: ClueBalance | None,
    ) -> _Kept:
        """Which pairs become examples. Counts all pairs. Raises PassFailed if there is nothing to learn."""
        seed, judge = self.config.seed, self.config.judge
        sources = self.config.mixed_preferences
        balance = partial(MixedBalance, seed, sources, self.config.examples.mixing, for_humans=self.config.tops_up)
        kept = _Kept(
            judgments=balance(),
            compared=balance(),
            grades=ScoreBalance(seed),
            matched=matched,
        )
        for row in self._rows():
            if judge.compares:
                counts.add(row, judge.keep)
                rescue.add(row)
                lesson = self._lessons.of(row, counts)
                if lesson is not None and not kept.may_have(lesson):
                    counts.drop("clue_balance")
                elif lesson is not None:
                    kept.judgments.add(row, lesson.right.winner)
                    if lesson.wrong is not None:
                        kept.compared.add(row, lesson.right.winner)
                if by_source:
                    counted = by_source[source_of(row, sources)]
                    counted.judged += 1
                    counted.kept += lesson is not None
            if judge.grades:
                grading.add(row)
                if (pair := _graded(row, grading)) is not None:
                    kept.grades.add(row.id, _points(row, pair))
        kept.judgments.settle()
        kept.grades.settle()
        self._mix(kept, by_source)
        self._check_kept(kept, counts, grading)
        self._share_out(kept, labelled)
        learned = kept.judgments if self.objective == "sft" else kept.compared
        self._refuse_empty(learned, by_source)  # Mixing, or a share, may have rounded a source down to nothing.
        return kept

    def _mix(self, kept: _Kept, by_source: Mapping[str, SourceCounts]) -> None:
        """Mixes the sources by their weights. Raises PassFailed if one has nothing to mix.

        Pairs without clues are mixed already: to leave out another would bring a clue back.
        """
        mixed = bool(self.config.curate.balance)
        self._refuse_empty(kept.judgments, by_source)
        if not mixed:
            kept.judgments.mix()
        kept.compared.settle(within=kept.judgments)
        if self.objective != "sft":
            self._refuse_empty(kept.compared, by_source)
            if not mixed:
                kept.compared.mix()
        for title in by_source:
            if (times := kept.judgments.most_times_of(title)) > MOST_TIMES:
                raise PassFailed(
                    f"{self.name}: examples.mixing=up: an example of preferences[{title}] would be learned {times:,} times by "
                    f"the weights, more than {MOST_TIMES}: lower its weight, give it more pairs, or set examples.mixing=down"
                )

    def _refuse_empty(self, balance: MixedBalance, by_source: Mapping[str, SourceCounts]) -> None:
        for title, counted in by_source.items():
            if not balance.size_of(title):
                raise PassFailed(
                    f"{self.name}: preferences[{title}] has no example to mix: {counted.kept:,} of its {counted.judged:,} "
                    "judged pairs can be learned, and there must be some of each label, also by the weights. Leave it out, or "
                    "give it more pairs or weight"
                )

    def _check_kept(self, kept: _Kept, counts: JudgingCounts, grading: GradingCounts) -> None:
        """Raises PassFailed if the pairs teach nothing."""
        if self.judged is None:
            return
        judge = self.config.judge
        if judge.compares and not (kept.judgments.size and (self.objective == "sft" or kept.compared.size)):
            raise self._no_examples(counts, kept.judgments if self.objective == "sft" else kept.compared)
        if judge.grades and not kept.grades.size:
            raise self._no_grades(grading)

    def _share_out(self, kept: _Kept, labelled: LabelledExamples) -> None:
        """Leaves out examples until their kinds have the configured shares. Raises PassFailed if a kind has none left.

        Only `train.objective=sft` has shares, so no example with a wrong judgment is left out.
        """
        judge, share = self.config.judge, self.config.examples.labelled_share
        if self.config.examples.labelled and not labelled.counts.learned:
            raise PassFailed(f"{self.name}: no labelled judgment can be learned: {_listed(labelled.counts.dropped)}")
        before = _sizes(kept, labelled)
        if judge.task == "both":
            self._share_grades(kept)
        if share is not None:
            _share_labelled(kept, labelled, share)
        lost = [f"{count:,} {what}" for what, count in before.items() if count and not _sizes(kept, labelled)[what]]
        if lost and self.judged is not None:
            shares = f"grading.share={self.config.grading.share}, " if judge.task == "both" else ""
            raise PassFailed(
                f"{self.name}: {shares}examples.labelled_share={share if share is not None else 'null'}: leave none of "
                f"{' and '.join(lost)}; there are too few others. Choose a share nearer to 0.5, or judge more pairs"
            )

    def _share_grades(self, kept: _Kept) -> None:
        share = self.config.grading.share
        grades, judgments = kept.grades.size, kept.judgments.size  # two examples for each of them: chosen and rejected, A and B
        kept.grades.limit(_beside(judgments, share))
        kept.judgments.limit(_beside(grades, 1 - share))

    def _rows(self) -> Iterator[Row]:
        """The judged pairs; those whose answers repeat a benchmark teach nothing."""
        for row in training_pairs(map(row_from_dict, self.judged.records() if self.judged else ())):
            overlap = self._repeats.get(row.id)
            yield replace(row.drop(BENCHMARK_OVERLAP, overlap), kept=None, rationales=(), kept_grades=None) if overlap else row

    def _find_repeats(self) -> Iterator[tuple[str, str]]:
        """The judged pairs whose answers repeat a benchmark, if `source.keep_out` is `all`, and what they repeat."""
        known = AnswerPhrases(kept_out(self.config)) if keeps_out_all(self.config.source) and self.judged else None
        rows = map(row_from_dict, self.judged.records(_ANSWERS)) if known and self.judged else ()
        for row in training_pairs(rows):
            if known and (overlap := known.first_overlap(row)) is not None:
                yield row.id, overlap

    @cached_property
    def _lessons(self) -> Lessons:
        return Lessons(self.config, self.objective, self.judged, self.earlier, self.opinions)

    def _judgments(self, kept: _Kept) -> Iterator[Example]:
        def learned() -> Iterator[tuple[str, Lesson]]:
            """The id of each example, and what it teaches."""
            for row in self._rows():
                if (lesson := self._lessons.of(row)) is not None:
                    yield from ((repeat_id(row.id, times), lesson) for times in range(1, kept.times(lesson) + 1))

        def has_wrong(lesson: Lesson) -> bool:
            return lesson.wrong is not None and kept.compared.has(lesson.row, lesson.right.winner)

        mix = TaskMix(self.config.examples, self.config.seed)
        if not self.config.examples.judgments_alone:
            mix.share_out((example_id, lesson.right.winner, has_wrong(lesson)) for example_id, lesson in learned())
        for example_id, lesson in learned():
            wrong = lesson.wrong if has_wrong(lesson) else None
            kind = mix.of(example_id, lesson.right.winner, wrong is not None)
            made = to_example(lesson.row, lesson.right, wrong, kind, self.config.examples.thoughts)
            yield replace(made, id=example_id, difficulty=self._lessons.difficulty(lesson.row))

    def _grades(self, kept: _Kept, grading: GradingCounts) -> Iterator[Example]:
        for row in self._rows() if self.config.judge.grades else ():
            pair = _graded(row)
            if pair is None or not kept.grades.has(row.id, _points(row, pair)):
                continue
            for grade, score in zip((pair.chosen, pair.rejected), _scores(pair), strict=True):
                grading.learn(score)
                yield grade_example(row, grade, self.config.grading.words, self.config.examples.thoughts)

    def _no_examples(self, counts: JudgingCounts, usable: MixedBalance) -> PassFailed:
        dropped = _listed(counts.dropped)
        cut = f" {counts.truncated:,} of {counts.draws:,} judgments were truncated: raise judge.decoding.max_tokens."
        return PassFailed(
            f"{self.name}: no training examples: {counts.judged} pairs were judged, {usable.count('A')} can be learned with "
            f"label A, {usable.count('B')} with label B (dropped: {dropped}).{cut if counts.truncated else ''}{self._panel()} "
            "Judge more pairs, or read what the judge writes with `stj show`"
        )

    def _panel(self) -> str:
        """What the panel says about the pairs, if it chooses among them: a silent member leaves the choice to the others."""
        by_panel = self.config.select.disagreement and self.config.select.disagreement.draws == "panel"
        figures = panel_figures(self.judged, self.opinions, self.config.judge) if by_panel and self.judged else None
        return f" By select.disagreement, {panel_words(figures)}." if figures else ""

    def _no_grades(self, counts: GradingCounts) -> PassFailed:
        dropped = _listed(counts.dropped)
        cut = f" {counts.truncated:,} grades were truncated: raise judge.decoding.max_tokens." if counts.truncated else ""
        unread = f" {counts.unparsed:,} of {2 * counts.draws:,} grades have no score." if counts.unparsed else ""
        return PassFailed(
            f"{self.name}: no grades to learn: {counts.graded} pairs were graded, {counts.kept} with the better answer ahead "
            f"by grading.margin={self.config.grading.margin} (dropped: {dropped}).{unread}{cut} "
            "Judge more pairs, or read what the judge writes with `stj show`"
        )


def _share_labelled(kept: _Kept, labelled: LabelledExamples, share: float) -> None:
    """Leaves out labelled examples or the others until these have their share."""
    if share == 1:
        return
    others, known = 2 * (kept.judgments.size + kept.grades.size), labelled.counts.learned
    labelled.limit(_beside(others, share))
    left = known * (1 - share) / share / max(1, others)  # the part of the others that stays
    if left < 1:
        kept.judgments.limit(round(kept.judgments.size * left))
        kept.grades.limit(round(kept.grades.size * left))


def _beside(others: int, share: float) -> int:
    """How many have the share beside so many others."""
    return round(min(others * share / (1 - share), sys.maxsize)) if share < 1 else sys.maxsize


def _sizes(kept: _Kept, labelled: LabelledExamples) -> dict[str, int]:
    sizes = {"judgments": kept.judgments.size, "grades": kept.grades.size}
    return {**{what: 2 * size for what, size in sizes.items()}, "labelled judgments": labelled.counts.learned}


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "none"


def _graded(row: Row, counts: GradingCounts | None = None) -> GradedPair | None:
    """The grades that a row teaches, if any; a row that an answer's thought spoils is counted in `counts`."""
    if row.kept_grades is None:
        return None
    if holds_thought(row):
        if counts:
            counts.drop("thought_in_answer")
        return None
    return graded_pairs(row)[row.kept_grades]


def _points(row: Row, pair: GradedPair) -> Points:
    """The points of both grades on the scale of their rubric."""
    scale = next(rubric.scale for rubric in row.rubrics if rubric.name == pair.chosen.rubric)
    better, worse = _scores(pair)
    return (scale, better), (scale, worse)


def _scores(pair: GradedPair) -> tuple[int, int]:
    assert pair.chosen.score is not None, "only grades with a score are kept"
    assert pair.rejected.score is not None
    return pair.chosen.score, pair.rejected.score


def _write_parts(artifact: Artifact, examples: Iterator[Example]) -> tuple[list[str], Counter[str]]:
    """Writes files of a few thousand examples; returns the files' names and the number of examples by kind."""
    parts: list[str] = []
    kinds = Counter[str]()
    while part := list(itertools.islice(examples, _EXAMPLES_PER_FILE)):
        kinds.update(example.kind for example in part)
        parts.append(artifact.write_part(f"examples-{len(parts):05d}", examples_to_table(part)))
    return parts, kinds
