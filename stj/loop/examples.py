"""From a judged pass to training examples, as streams: a million pairs take a few bytes of memory each."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from stj.config import Config, Objective
from stj.errors import PassFailed
from stj.loop.counts import Funnel, JudgingCounts
from stj.loop.external_sort import sorted_by_id
from stj.loop.inputs import training_pairs
from stj.loop.label_balance import LabelBalance, to_learn
from stj.loop.tasks import TaskMix, to_example
from stj.rows import Example, Judgment, Row, examples_to_table, row_from_dict
from stj.storage.artifacts import Artifact
from stj.thoughts import split_thought

_EXAMPLES_PER_FILE = 2048


@dataclass(frozen=True, kw_only=True)
class _Lesson:
    """What a pair teaches."""

    row: Row
    right: Judgment
    wrong: Judgment | None


@dataclass(frozen=True, kw_only=True)
class ExampleSelection:
    """Keeps one right judgment a pair (and a wrong one, to learn preferences), as many with label A as with label B."""

    name: str
    """For error messages."""
    judged: Artifact
    """The pass that judged the pairs."""
    pairs: Artifact
    """The pass that made the pairs."""
    objective: Objective
    config: Config

    def write(self, artifact: Artifact) -> None:
        """Writes the examples and their counts. Raises PassFailed if nothing, or only one label, can be learned."""
        seed = self.config.seed
        counts, kept, compared = JudgingCounts(), LabelBalance(seed), LabelBalance(seed)
        for lesson in self._lessons(counts):
            kept.add(lesson.row.id, lesson.right.winner)
            if lesson.wrong is not None:
                compared.add(lesson.row.id, lesson.right.winner)
        kept.settle()
        compared.settle(within=kept)
        if not kept.size or (self.objective != "sft" and not compared.size):
            raise self._no_examples(counts, kept if self.objective == "sft" else compared)
        examples = sorted_by_id(self._examples(kept, compared))  # never in order of arrival
        parts, kinds = _write_parts(artifact, examples)
        funnel = Funnel.of(map(row_from_dict, self.pairs.records()))
        facts = {"funnel": asdict(funnel), "judged": asdict(counts), "kinds": dict(sorted(kinds.items()))}
        artifact.finish(parts, **facts, with_wrong_judgment=2 * compared.size)

    def _lessons(self, counts: JudgingCounts | None = None) -> Iterator[_Lesson]:
        """The pairs that teach something; all pairs are counted in `counts`."""
        for row in training_pairs(map(row_from_dict, self.judged.records())):
            if counts:
                counts.add(row, self.config.judge.keep)
            judgments = to_learn(row, self.objective)
            in_answer = row.kept is not None and _holds_thought(row)
            if judgments is not None and not in_answer:
                yield _Lesson(row=row, right=judgments[0], wrong=judgments[1])
            elif counts and row.kept is not None:
                counts.drop("thought_in_answer" if in_answer else "no_wrong_judgment")

    def _examples(self, kept: LabelBalance, compared: LabelBalance) -> Iterator[Example]:
        def lessons() -> Iterator[_Lesson]:
            return (lesson for lesson in self._lessons() if kept.has(lesson.row.id, lesson.right.winner))

        def has_wrong(lesson: _Lesson) -> bool:
            return lesson.wrong is not None and compared.has(lesson.row.id, lesson.right.winner)

        mix = TaskMix(self.config.examples, self.config.seed)
        if not self.config.examples.judgments_alone:
            mix.share_out((lesson.row.id, lesson.right.winner, has_wrong(lesson)) for lesson in lessons())
        for lesson in lessons():
            wrong = lesson.wrong if has_wrong(lesson) else None
            kind = mix.of(lesson.row.id, lesson.right.winner, wrong is not None)
            yield to_example(lesson.row, lesson.right, wrong, kind, self.config.examples.thoughts)

    def _no_examples(self, counts: JudgingCounts, usable: LabelBalance) -> PassFailed:
        dropped = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items())
        cut = f" {counts.truncated:,} of {counts.draws:,} judgments were truncated: raise judge.decoding.max_tokens."
        return PassFailed(
            f"{self.name}: no training examples: {counts.judged} pairs were judged, {usable.count('A')} can be learned with "
            f"label A, {usable.count('B')} with label B (dropped: {dropped or 'none'}).{cut if counts.truncated else ''} "
            "Judge more pairs, or read what the judge writes with `stj show`"
        )


def _holds_thought(row: Row) -> bool:
    """Whether a thinking model's thought is left in an answer: a judge would learn from what no reader sees."""
    answers = (row.pair.chosen, row.pair.rejected) if row.pair else ()
    return any(split_thought(answer).thought for answer in answers)


def _write_parts(artifact: Artifact, examples: Iterator[Example]) -> tuple[list[str], Counter[str]]:
    """Writes files of a few thousand examples; returns the files' names and the number of examples by kind."""
    parts: list[str] = []
    kinds = Counter[str]()
    while part := list(itertools.islice(examples, _EXAMPLES_PER_FILE)):
        kinds.update(example.kind for example in part)
        parts.append(artifact.write_part(f"examples-{len(parts):05d}", examples_to_table(part)))
    return parts, kinds
