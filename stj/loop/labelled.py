"""Labelled judgments as training examples: grades and verdicts whose truth somebody else has given, in the words of the run."""

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import tee

import numpy as np

from stj.config import Config
from stj.errors import SourceError
from stj.loop.tasks import grade_example, to_example
from stj.randomness import uniform
from stj.rows import Example, Grade, Judgment
from stj.sources.answer_overlap import drop_repeats
from stj.sources.labelled import KEY, LabelledGrade, LabelledVerdict, read_labelled
from stj.sources.overlap import Place
from stj.stages.grade import digest_of, grade_messages, missing_input
from stj.stages.judge import LABELS
from stj.text import shows_something
from stj.thoughts import shown_response, split_thought
from stj.verdict import PAIR, Format, Label, parse, written_grade


@dataclass(kw_only=True)
class LabelledCounts:
    """What became of the labelled judgments."""

    rows: int = 0
    learned: int = 0
    """Those that became examples, within `examples.labelled_share`."""
    dropped: dict[str, int] = field(default_factory=dict)
    """The others, by reason."""


class LabelledExamples:
    """The labelled judgments of a config, as many verdicts for A as for B.

    Those that repeat a text to keep out are dropped. A choice among them depends only on the seed and their ids. Every example
    draws a number, which takes 8 bytes of memory.
    """

    def __init__(self, config: Config, kept_out: Sequence[Place] = ()) -> None:
        self._config = config
        self._kept_out = kept_out
        self._draws: dict[Label | None, array[float]] = {label: array("d") for label in (None, *LABELS)}
        self.counts = LabelledCounts()
        dropped = Counter[str]()
        for item in self._read():
            self.counts.rows += 1
            if isinstance(made := _example(item, config), str):
                dropped[made] += 1
            else:
                self._draws[made.winner].append(self._draw(made.id))
        verdicts = min(len(self._draws[label]) for label in LABELS)
        self._keep({None: len(self._draws[None]), **dict.fromkeys(LABELS, verdicts)})
        dropped["more_of_one_label"] = sum(map(len, self._draws.values())) - self.counts.learned
        self.counts.dropped = {reason: count for reason, count in sorted(dropped.items()) if count}

    def limit(self, most: int) -> None:
        """Keeps at most this many, of each label and of grades in proportion."""
        if most < (before := self.counts.learned):
            self._keep({of: math.floor(count * most / before) for of, count in self._kept.items()})
            self.counts.dropped["labelled_share"] = before - self.counts.learned

    def __iter__(self) -> Iterator[Example]:
        for item in self._read():
            made = _example(item, self._config)
            if not isinstance(made, str) and self._draw(made.id) <= self._highest[made.winner]:
                yield made

    def _read(self) -> Iterator[LabelledGrade | LabelledVerdict]:
        items, again = tee(_read(self._config, self._config.examples.labelled))
        rows = drop_repeats((item.row for item in again), self._kept_out)
        return (item._replace(row=row) for item, row in zip(items, rows, strict=True))

    def _keep(self, counts: Mapping[Label | None, int]) -> None:
        """Keeps this many of each label, and of grades: those with the lowest draws."""
        self._kept = dict(counts)
        self._highest = {
            of: float(np.partition(np.array(self._draws[of]), count - 1)[count - 1]) if count else -1.0
            for of, count in counts.items()
        }
        self.counts.learned = sum(counts.values())

    def _draw(self, example_id: str) -> float:
        return uniform(self._config.seed, example_id, "labelled")


def check_learnable(config: Config, places: tuple[str, ...]) -> None:
    """Raises SourceError if none of the labelled judgments at these places becomes an example."""
    dropped = Counter[str]()
    for item in _read(config, places):
        if not isinstance(made := _example(item, config), str):
            return
        dropped[made] += 1
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()))
    raise SourceError(f"{KEY}=[{', '.join(places)}]: no row can be learned: {reasons}; give rows with scores, or leave it out")


def _read(config: Config, places: tuple[str, ...]) -> Iterator[LabelledGrade | LabelledVerdict]:
    return read_labelled(places, config.grading.default_rubric)


def _example(item: LabelledGrade | LabelledVerdict, config: Config) -> Example | str:
    """The example of a labelled judgment, or why it has none.

    Reasons: those of a row without texts, "empty_response", "no_context", "no_reference", "no_score", "score_not_whole" (the
    mean of several grades), "score_off_scale", "same_answers", "thought_in_answer" and "thought_in_feedback" (of a thinking
    model, which no reader sees), and "feedback_holds_verdict" (with it, a parser would not read the true one).
    """
    if item.row.dropped:
        return item.row.dropped
    if split_thought(item.feedback).thought:
        return "thought_in_feedback"
    return _grade(item, config) if isinstance(item, LabelledGrade) else _verdict(item)


def _grade(item: LabelledGrade, config: Config) -> Example | str:
    words, row, by = config.grading.words, item.row, item.rubric
    assert row.response is not None, "a graded row has a response"
    if (missing := missing_input(row, row.response, [by])) is not None:
        return missing[0]
    if item.score is None:
        return "no_score"
    if item.score != int(item.score):
        return "score_not_whole"
    if (score := int(item.score)) not in by.points:
        return "score_off_scale"
    text = written_grade(words.style, item.feedback, score)
    if not _says(text, words.wording(by), str(score)):
        return "feedback_holds_verdict"
    grade = Grade(
        rubric=by.name,
        answer="response",
        index=0,
        asked=digest_of(grade_messages(row, "response", by, words)),
        text=text,
        score=score,
        finish_reason="stop",
        output_tokens=0,
    )
    return replace(grade_example(row, grade, words), id=row.id)


def _verdict(item: LabelledVerdict) -> Example | str:
    assert item.row.pair is not None, "a verdict is on a pair"
    responses = item.row.pair.chosen, item.row.pair.rejected
    if not all(shows_something(shown_response(response)) for response in responses):
        return "empty_response"
    if responses[0] == responses[1]:
        return "same_answers"
    if any(split_thought(response).thought for response in responses):
        return "thought_in_answer"
    text = f"{item.feedback.rstrip()} [[{item.winner}]]".lstrip()
    if not _says(text, PAIR, item.winner):
        return "feedback_holds_verdict"
    made = partial(Judgment, purpose="training", index=0, finish_reason="stop", output_tokens=0)
    return to_example(item.row, made(winner=item.winner, text=text, verdict=item.winner))


def _says(text: str, wording: Format, verdict: str) -> bool:
    return all(parse(text, wording, parser) == verdict for parser in ("distinct", "strict"))
