"""The graded part of the small world: true scores, held-out facts, and texts that a parser reads as they are meant."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from stj.mini import grading, world
from stj.mini.grading import drill_documents, fact_rubric, grade_documents, grade_probes, grade_rows
from stj.prompts.grading import OURS
from stj.verdict import parse

DATA = Path(world.__file__).parent / "data"


@pytest.mark.parametrize(("split", "file"), [("test", "heldout_grades.jsonl"), ("dev", "dev_grades.jsonl")])
def test_the_carried_files_are_those_of_the_world(split: world.Split, file: str, tmp_path: Path) -> None:
    grading.write_grades(tmp_path)
    assert (tmp_path / file).read_bytes() == (DATA / file).read_bytes()
    assert list(map(json.loads, (DATA / file).read_text().splitlines())) == grade_rows(split)


def test_every_sort_of_answer_is_there_equally_often_with_its_true_score() -> None:
    rows = grade_rows("test")
    assert Counter(row["score"] for row in rows) == dict.fromkeys((1, 2, 3, 5), 120)
    asked = {fact.question(phrasing): fact for fact in world.facts_of("test") for phrasing in fact.reserved}
    for row in rows:
        fact = asked[row["instruction"]]
        values = re.fullmatch(r"The answer is (\w+)(?: or (\w+))?\.", row["response"])
        assert values
        named = [value for value in values.groups() if value]
        of_kind = [value in world.VALUES[fact.attribute] for value in named]
        expected = {
            5: named == [fact.value],
            3: len(named) == 2 and fact.value in named and all(of_kind),
            2: fact.value not in named and all(of_kind),
            1: len(named) == 1 and not any(of_kind),
        }
        assert [score for score, holds in expected.items() if holds] == [row["score"]]


def test_length_says_little_of_the_score() -> None:
    """Two values are partly right or wrong, one is all but the middle."""
    by_words = {len(row["response"].split()): set[int]() for row in grade_rows("test")}
    for row in grade_rows("test"):
        by_words[len(row["response"].split())].add(row["score"])
    assert by_words == {4: {1, 2, 5}, 6: {2, 3}}


@pytest.mark.slow
def test_no_held_out_question_or_fact_is_in_a_text_that_teaches_to_grade() -> None:
    held = world.heldout_instructions()
    facts = {(fact.entity, fact.attribute) for fact in world.world_facts() if fact.split != "train"}
    for document in [*drill_documents(0)[::7], *grade_documents(0)]:
        assert not any(question in text for text in document.texts for question in held)
        if document.kind == "grade" and document.messages:
            attribute, entity = re.match(r"The (\w+) of the (\w+) is", document.completion).groups()  # type: ignore[union-attr]
            assert (entity, attribute) not in facts


def test_a_demonstration_ends_with_the_score_that_its_reasons_give() -> None:
    wording = OURS.wording(fact_rubric())
    scores = Counter[str]()
    for document in grade_documents(0):
        if document.kind != "grade":
            continue
        text = document.completion
        score = parse(text, wording, "strict")
        assert score is not None
        scores[score] += 1
        decisions = re.findall(r"that is (good|not)", text)
        meant = {
            ("good",): "5",
            ("good", "not"): "3",
            ("not", "good"): "23",
            ("not", "not", "good"): "2",
            ("not", "not"): "1",
        }[tuple(decisions)]
        assert score in meant
        assert f"So the score is {score}." in text
    assert set(scores) == {"1", "2", "3", "5"}


def test_probes_ask_for_each_dev_fact_once() -> None:
    probes = list(grade_probes())
    assert {probe.completion for probe in probes} == {fact.statement for fact in world.facts_of("dev")}
    assert len(probes) == len(world.facts_of("dev"))
