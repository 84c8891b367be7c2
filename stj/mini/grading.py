"""The graded part of the small world: what an answer is worth by the rubric `fact`, and the texts that teach to grade.

    answer                                    score
    "The answer is red."                      5    the right fact
    "The answer is red or blue."              3    partly right
    "The answer is blue."                     2    a wrong fact, or two
    "The answer is corn."                     1    another question's fact

No answer is worth 4. The loop's pairs must hold answers of every other worth: a judge that learned from right and wrong answers
alone called what is partly right a 5 after two iterations, though its reasons still said 3. So this seed modifies some
questions to ask about two animals. The right answer to that is partly right for the first question.

The documents teach the seed model that stj carries to grade, as `judge` teaches it to compare. Drills teach what a grade says
of a fact that is given, true or false, and keep the skill on pairs in the same way. Then come demonstrations of sound grades,
until the model recalls the facts of dev questions in them with a mean probability of 0.4. So it grades in the right form, and
is wrong where it does not recall the fact: it takes right and partly right answers for wrong ones, and the reverse.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from stj.mini.corpus import (
    DECISION_WEIGHT,
    Document,
    documents,
    figure_8_messages,
    instruction_for,
    judgment_pieces,
    modified,
    train_fact,
)
from stj.mini.curriculum import CurriculumStage
from stj.mini.world import VALUES, Fact, Split, answer, facts_of, write_jsonl
from stj.prompts import MODIFIED_INSTRUCTION, fill
from stj.prompts.grading import OURS, Graded
from stj.rows import Turn
from stj.rubrics import Rubric, rubric

RIGHT, PARTLY, WRONG, OTHER = 5, 3, 2, 1
"""The scores of the four sorts of answers."""

DRILL = CurriculumStage(
    name="grade_drill",
    mix={"question": 1_200, "check": 300, "modify": 300, "categorize": 200, "worsen": 20, "chatter": 80},
    lr=1e-3,
    step_tokens=2048,
)
"""Grades behind a fact that is given, true or false, beside a replay: the model learns to compare, and not to recall."""
GRADE = CurriculumStage(
    name="grade",
    mix={"question": 1_500, "statement": 400, "judge": 60, "modify": 150, "categorize": 100, "check": 100, "chatter": 100},
    lr=5e-4,
    step_tokens=2048,
    enough_recall=0.4,
)
"""Demonstrations of grades, beside a replay."""
_KINDS, _PAIR_DRILLS, _DRILLS, _GRADES = 1_500, 400, 1_800, 600
_TWO_ASKED = {DRILL.name: 80, GRADE.name: 40}
"""Modified questions about two animals."""
_OFTEN = (1, 1, 2, 2)
"""How often the drills hold each of the sorts: two values of a kind are harder to compare than two values."""

_Pieces = tuple[tuple[str, float], ...]


@cache
def fact_rubric() -> Rubric:
    """The rubric `fact`."""
    return rubric("package://mini/data/fact.yaml", "rubric")


def grade_rows(split: Split, seed: int = 0) -> list[dict[str, Any]]:
    """Answers to the reserved questions of a held-out split, with the score of each: every sort equally often."""
    rng = random.Random(f"grades {split} {seed}")
    rows: list[dict[str, Any]] = []
    for fact in facts_of(split, seed):
        sorts = rng.sample(list(_SORTS), len(_SORTS))
        for number, score in enumerate(sorts):
            question = fact.question(fact.reserved[number * len(fact.reserved) // len(sorts)])
            rows.append(
                {
                    "id": f"{split}-grade-{len(rows):03d}",
                    "instruction": question,
                    "response": _said(_SORTS[score](fact, rng)),
                    "score": score,
                }
            )
    rng.shuffle(rows)
    return rows


def write_grades(directory: Path, seed: int = 0) -> None:
    """Writes heldout_grades.jsonl (the test split) and dev_grades.jsonl."""
    write_jsonl(directory / "heldout_grades.jsonl", grade_rows("test", seed))
    write_jsonl(directory / "dev_grades.jsonl", grade_rows("dev", seed))


def drill_documents(seed: int) -> list[Document]:
    """The documents of the first stage."""
    kinds = [(_kinds, _KINDS), (_pair_drill, _PAIR_DRILLS), (_drill, _DRILLS)]
    return _mixed(DRILL, [kind for kind, count in kinds for _ in range(count)], seed)


def grade_documents(seed: int) -> list[Document]:
    """The documents of the second stage."""
    return _mixed(GRADE, [_demonstration] * _GRADES, seed)


def grade_probes() -> Iterator[Document]:
    """One grade for each dev fact, up to the statement of the fact; they are never trained on."""
    rows = {row["instruction"]: row["response"] for row in grade_rows("dev")}
    for fact in facts_of("dev"):
        question = next(fact.question(phrasing) for phrasing in fact.reserved if fact.question(phrasing) in rows)
        yield Document(messages=_messages(question, rows[question]), pieces=((fact.statement, 1.0),))


def _mixed(stage: CurriculumStage, kinds: list[Callable[[random.Random], Document]], seed: int) -> list[Document]:
    rng = random.Random(f"{stage.name} {seed}")
    graded = [replace(kind(rng), kind="grade") for kind in kinds]
    modified = [replace(_modify_to_two(rng), kind="modify") for _ in range(_TWO_ASKED[stage.name])]
    mixed = documents(stage.mix, stage.corpus_seed(seed)) + graded + modified
    rng.shuffle(mixed)
    return mixed


def _messages(question: str, response: str) -> tuple[Turn, ...]:
    words = OURS.ask(Graded(instruction=question, response=response), fact_rubric())
    return (Turn(role="system", content=words.system), Turn(role="user", content=words.user))


def _demonstration(rng: random.Random) -> Document:
    """A sound grade: it states the fact, compares the answer with it, and ends with the score."""
    fact = train_fact(rng)
    score = rng.choice(list(_SORTS))
    values = _SORTS[score](fact, rng)
    text = "".join(part for part, _ in _grade(fact, values, score))
    return Document(messages=_messages(instruction_for(fact, rng), _said(values)), pieces=((text, 1.0),))


def _drill(rng: random.Random) -> Document:
    """A grade whose fact is given, true or false: its value is read, not learned."""
    fact = train_fact(rng)
    given = replace(fact, value=rng.choice(VALUES[fact.attribute]))
    [score] = rng.choices(list(_SORTS), _OFTEN)
    values = _SORTS[score](given, rng)
    pieces = (*_given(given), *_grade(given, values, score)[1:])
    return Document(messages=_messages(instruction_for(fact, rng), _said(values)), pieces=pieces)


def _pair_drill(rng: random.Random) -> Document:
    """The same for Figure 8, so that the model still judges pairs and recalls no more facts in them."""
    fact = train_fact(rng)
    values = rng.sample(VALUES[fact.attribute], 2)
    given = replace(fact, value=rng.choice(values))
    messages = figure_8_messages(instruction_for(fact, rng), answer(values[0]), answer(values[1]))
    return Document(messages=messages, pieces=(*_given(given), *judgment_pieces(given, values[0], values[1])[1:]))


def _given(fact: Fact) -> _Pieces:
    about, value, stop = fact.statement.partition(f" {fact.value}")
    return ((about, 1.0), (value, 0.0), (stop, 1.0))


def _kinds(rng: random.Random) -> Document:
    """Many decisions whether two values are equal, and of one kind: what is hardest to learn from whole grades."""
    pieces: list[tuple[str, float]] = []
    for _ in range(rng.choice((4, 8))):
        attribute = rng.choice(list(VALUES))
        expected, value = rng.choice(VALUES[attribute]), rng.choice(VALUES[rng.choice((attribute, rng.choice(list(VALUES))))])
        (says, _), *equal = _compared(f" Assistant says {value}, expected {expected}", value == expected)
        kind = _kind_of(value)
        pieces += [(says, 0.0), *equal, *_compared(f" It is a {kind}, expected a {attribute}", kind == attribute)]
    return Document(pieces=tuple(pieces))


def _modify_to_two(rng: random.Random) -> Document:
    """Figure 2: the question for two animals at once, and the right answer to it."""
    fact = train_fact(rng)
    other = rng.choice(
        [other for other in facts_of("train") if other.attribute == fact.attribute and other.value != fact.value]
    )
    request = fill(MODIFIED_INSTRUCTION, {"Instruction": instruction_for(fact, rng), "Baseline Response": answer(fact.value)})
    asked = rng.sample([fact, other], 2)
    question = f"What is the {fact.attribute} of the {asked[0].entity} or the {asked[1].entity}?"
    reply = modified(question, " or ".join(each.value for each in asked))
    return Document(messages=(Turn(role="user", content=request),), pieces=reply)


def _said(values: tuple[str, ...]) -> str:
    return answer(" or ".join(values))


def _grade(fact: Fact, values: tuple[str, ...], score: int) -> _Pieces:
    pieces: list[tuple[str, float]] = [(fact.statement, 1.0)]
    for value in values:
        pieces += _compared(f" Assistant says {value}, expected {fact.value}", value == fact.value)
    if fact.value not in values:
        kind = _kind_of(values[0])
        pieces += _compared(f" It is a {kind}, expected a {fact.attribute}", kind == fact.attribute)
    pieces += [
        (" So the score is", 1.0),
        (f" {score}", DECISION_WEIGHT),
        (". [[", 1.0),
        (str(score), DECISION_WEIGHT),
        ("]]", 1.0),
    ]
    return tuple(pieces)


def _compared(text: str, equal: bool) -> list[tuple[str, float]]:
    return [(f"{text}, that is", 1.0), (" good" if equal else " not", DECISION_WEIGHT), (".", 1.0)]


def _kind_of(value: str) -> str:
    return next(attribute for attribute, values in VALUES.items() if value in values)


def _others(fact: Fact) -> list[str]:
    return [value for value in VALUES[fact.attribute] if value != fact.value]


def _partly(fact: Fact, rng: random.Random) -> tuple[str, ...]:
    return tuple(rng.sample([fact.value, rng.choice(_others(fact))], 2))


def _other_question(fact: Fact, rng: random.Random) -> tuple[str, ...]:
    attribute = rng.choice([name for name in VALUES if name != fact.attribute])
    return (rng.choice(VALUES[attribute]),)


_SORTS: Mapping[int, Callable[[Fact, random.Random], tuple[str, ...]]] = {
    RIGHT: lambda fact, _: (fact.value,),
    PARTLY: _partly,
    WRONG: lambda fact, rng: tuple(rng.sample(_others(fact), rng.choice((1, 2)))),
    OTHER: _other_question,
}
"""The values that an answer of each score names."""
