"""Absolute judgments: one response graded by a rubric, alone.

    shown       the instruction, what the row has of context and reference, the response, and the rubric (prompts/grading.py)
    votes       one greedy grade, or several sampled ones
    shares      the probability of each point of the scale: from the tokens of the score, or from counting votes
    score       the point with the greatest share, among those that votes gave

A score is never made up. One outside the scale, a fraction, or several scores are none (stj/verdict/scales.py).
"""

import hashlib
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

from stj.config import HeldoutConfig
from stj.generate import Generate, Sampling, TracedSampling
from stj.prompts.grading import Graded, GradePrompt, grade_prompt_of
from stj.rows import Answer, Grade, Purpose, Row, Turn
from stj.rubrics import Rubric
from stj.stages.distribution import CHOICES, grade_shares
from stj.stages.judge import messages_of
from stj.stages.runner import together
from stj.text import shows_something
from stj.thoughts import shown_response
from stj.use_config import GradeConfig
from stj.verdict import Parser, parse


@dataclass(frozen=True, kw_only=True)
class RubricGrade:
    """What a judge says of one response by one rubric."""

    rubric: str
    """Name of the rubric."""
    points: tuple[int, ...]
    """Points of its scale, from the worst to the best."""
    votes: tuple[Grade, ...] = ()
    error: str | None = None
    """Reason why the response could not be graded; None if it was. With an error there are no votes."""

    @property
    def distribution(self) -> Mapping[int, float] | None:
        """The probability of each point, over the votes with a score; None if there is none."""
        shares = [vote.shares or _certain(vote.score, self.points) for vote in self.votes if vote.score is not None]
        means = map(fmean, zip(*shares, strict=True))
        return dict(zip(self.points, means, strict=True)) if shares else None

    @property
    def score(self) -> int | None:
        """The most probable of the points that votes gave, so that a text explains it; None without a score.

        Of equally probable points it is the one nearest to the mean, and of two such points the lower one.
        """
        if (distribution := self.distribution) is None:
            return None
        mean = _mean(distribution)
        given = [point for point in self.points if any(vote.score == point for vote in self.votes)]
        return max(given, key=lambda point: (round(distribution[point], 9), -round(abs(point - mean), 9), -point))

    @property
    def mean(self) -> float | None:
        """The mean of the distribution, which need not be a point of the scale; None without a score."""
        distribution = self.distribution
        return None if distribution is None else _mean(distribution)

    @property
    def confidence(self) -> float:
        """The probability of the score; a vote without a score counts against it. 0 without a score."""
        if (distribution := self.distribution) is None or (score := self.score) is None:
            return 0.0
        read = sum(vote.score is not None for vote in self.votes)
        return distribution[score] * read / len(self.votes)

    @property
    def feedback(self) -> str:
        """The text of the first vote for the score, or of the first vote if none has a score."""
        return next((vote.text for vote in self.votes if vote.score == self.score), "")

    def plain(self) -> dict[str, Any]:
        """The result as JSON values. Only thoughts that exist are in it."""
        distribution = self.distribution
        votes = [
            {"score": vote.score, "text": vote.text} | ({"thought": vote.thought} if vote.thought else {})
            for vote in self.votes
        ]
        return {
            "rubric": self.rubric,
            "score": self.score,
            "mean": self.mean,
            "confidence": self.confidence,
            "distribution": None if distribution is None else {str(point): share for point, share in distribution.items()},
            "feedback": self.feedback,
            "error": self.error,
            "votes": votes,
        }


async def grade(row: Row, generate: Generate, config: GradeConfig, rubrics: Sequence[Rubric] = ()) -> Row:
    """The row with the votes on its response by each rubric: its own if it brings some, else those given.

    Dropped as "empty_response", or as "no_context" or "no_reference" if a rubric or the prompt needs what the row lacks.
    """
    assert row.response is not None, f"row {row.id} has no response"
    rubrics = row.rubrics or rubrics
    if (missing := missing_input(row, row.response, rubrics)) is not None:
        return row.drop(*missing)
    votes = await together(vote for rubric in rubrics for vote in grades_of(row, "response", rubric, generate, config))
    return replace(row, grades=tuple(votes))


async def grade_heldout(row: Row, generate: Generate, config: HeldoutConfig, words: GradePrompt, parser: Parser) -> Row:
    """The row with the grades of its response by its rubric: sampled as held-out pairs are judged, and greedily."""
    assert row.response is not None, f"row {row.id} has no response"
    if (missing := missing_input(row, row.response, row.rubrics)) is not None:
        return row.drop(*missing)
    asked = partial(ask_grade, row, "response", row.rubrics[0], generate, words)
    votes = [asked(config.decoding, parser, index) for index in range(config.samples)]
    if config.greedy:
        votes.append(asked(config.decoding.greedy(), parser, 0, "greedy"))
    return replace(row, grades=tuple(await together(votes)))


def grades_of(row: Row, answer: Answer, rubric: Rubric, generate: Generate, config: GradeConfig) -> list[Awaitable[Grade]]:
    """The votes to ask on one answer by one rubric."""
    sampling = config.decoding if config.votes > 1 else config.decoding.greedy()
    if config.aggregate == "distribution":
        sampling = TracedSampling(**asdict(sampling), choices=CHOICES)
    asked = partial(ask_grade, row, answer, rubric, generate, grade_prompt_of(config.prompt), sampling, config.parser)
    purpose: Purpose = "sampled" if config.votes > 1 else "greedy"
    return [asked(index, purpose) for index in range(config.votes)]


async def ask_grade(
    row: Row,
    answer: Answer,
    rubric: Rubric,
    generate: Generate,
    prompt: GradePrompt,
    sampling: Sampling,
    parser: Parser,
    index: int,
    purpose: Purpose = "sampled",
) -> Grade:
    """One grade of one answer by one rubric."""
    messages = grade_messages(row, answer, rubric, prompt)
    completion = await generate(messages, sampling)
    ended = completion.finish_reason == "stop"
    read = partial(parse, wording=prompt.wording(rubric), parser=parser)
    verdict = read(completion.text) if ended else None
    return Grade(
        rubric=rubric.name,
        answer=answer,
        index=index,
        asked=digest_of(messages),
        text=completion.text,
        score=None if verdict is None else int(verdict),
        finish_reason=completion.finish_reason,
        output_tokens=completion.output_tokens,
        thought=completion.thought,
        purpose=purpose,
        shares=grade_shares(completion.tokens, completion.text, read, rubric.points) if ended and completion.tokens else (),
    )


def grade_messages(row: Row, answer: Answer, rubric: Rubric, prompt: GradePrompt) -> list[Turn]:
    """The prompt that a judge sees for one answer; it does not show the thought that a thinking model wrote before it."""
    graded = Graded(
        instruction=row.instruction,
        response=shown_response(answer_text(row, answer)),
        context=row.context,
        reference=row.reference,
    )
    return messages_of(prompt.ask(graded, rubric))


def answer_text(row: Row, answer: Answer) -> str:
    """The text of one of the row's answers."""
    if answer == "response":
        assert row.response is not None, f"row {row.id} has no response"
        return row.response
    assert row.pair is not None, f"row {row.id} has no pair"
    return row.pair.chosen if answer == "chosen" else row.pair.rejected


def digest_of(messages: Sequence[Turn]) -> str:
    """SHA-256 of the messages, in hex: a grade is for these alone."""
    shown = [(message.role, message.content) for message in messages]
    return hashlib.sha256(repr(shown).encode("utf-8", "surrogatepass")).hexdigest()


def missing_input(row: Row, response: str, rubrics: Sequence[Rubric]) -> tuple[str, str] | None:
    """Why the response cannot be graded by these rubrics: the reason, and what needs it; None if it can."""
    if not shows_something(shown_response(response)):
        return "empty_response", "the response to grade is empty"
    given = {"context": row.context, "reference": row.reference}
    for name, text in given.items():
        for rubric in rubrics:
            if name in rubric.inputs and not (text or "").strip():
                return f"no_{name}", f"the rubric {rubric.name} needs a {name}"
    return None


def rubric_grade(row: Row, rubric: Rubric, answer: Answer = "response") -> RubricGrade:
    """What the row's grades of one answer say by one rubric."""
    error = row.error or (f"{row.dropped}: {row.detail}" if row.detail else row.dropped)
    votes = () if error else tuple(vote for vote in row.grades if vote.rubric == rubric.name and vote.answer == answer)
    return RubricGrade(rubric=rubric.name, points=rubric.points, votes=votes, error=error)


def _certain(score: int | None, points: Sequence[int]) -> tuple[float, ...]:
    return tuple(float(point == score) for point in points)


def _mean(distribution: Mapping[int, float]) -> float:
    return sum(point * share for point, share in distribution.items())
