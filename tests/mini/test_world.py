"""The mini world keeps the promises of its docstrings. Takes a few seconds, without torch."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from stj.mini import world
from stj.mini.corpus import documents
from stj.mini.curriculum import CURRICULUM

DATA = Path(world.__file__).parent / "data"
FILES = ("instructions.jsonl", "heldout.jsonl", "attacked.jsonl", "dev.jsonl")


def read(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def test_committed_files_are_what_the_code_writes(tmp_path: Path) -> None:
    world.write_data(tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_splits_are_disjoint_and_sized() -> None:
    keys = [(fact.entity, fact.attribute) for fact in world.world_facts()]
    assert len(set(keys)) == len(keys) == 384
    assert Counter(fact.split for fact in world.world_facts()) == {"train": 216, "dev": 48, "test": 120}
    assert (len(read("heldout.jsonl")), len(read("dev.jsonl"))) == (480, 192)
    assert not {row["instruction"] for row in read("heldout.jsonl")} & {row["instruction"] for row in read("dev.jsonl")}


def test_another_seed_is_another_world() -> None:
    assert world.world_facts(1) != world.world_facts(0)


@pytest.fixture(scope="module")
def training_texts() -> list[tuple[str, str]]:
    """(kind, text) for every training text of the recipe, and for every instruction of the pool."""
    texts = [
        (document.kind, text)
        for stage in CURRICULUM
        for document in documents(stage.mix, stage.corpus_seed(0))
        for text in document.texts
    ]
    texts += [("pool", turn["content"]) for row in world.instruction_rows() for turn in row["conversation"]]
    return list(set(texts))


def questions_in(texts: Iterable[str]) -> set[str]:
    """Every question in one of the world's phrasings, anywhere in the texts."""
    shapes = [
        re.escape(phrasing).replace(r"\{attribute\}", r"\w+").replace(r"\{entity\}", r"\w+") for phrasing in world.PHRASINGS
    ]
    whole = "\n".join(texts)
    return {question for shape in shapes for question in re.findall(shape, whole)}


@pytest.mark.slow
def test_no_heldout_instruction_is_in_any_training_text(training_texts: list[tuple[str, str]]) -> None:
    asked = questions_in(text for _, text in training_texts)
    assert len(asked) > 2000
    assert not asked & world.heldout_instructions()


@pytest.mark.slow
def test_no_heldout_fact_is_judged_or_modified_or_checked_in_training(training_texts: list[tuple[str, str]]) -> None:
    """Only statements and plain questions name a held-out entity with its attribute, in any phrasing."""
    texts = [text for kind, text in training_texts if kind not in ("statement", "question")]
    held = [fact for fact in world.world_facts() if fact.split != "train"]
    assert not questions_in(texts) & {fact.question(i) for fact in held for i in range(len(world.PHRASINGS))}
    stated = set(re.findall(r"[Tt]he \w+ of the \w+", "\n".join(texts)))
    assert len(stated) > 200
    assert not stated & {f"{the} {fact.attribute} of the {fact.entity}" for fact in held for the in ("the", "The")}


@pytest.mark.parametrize("name", ["heldout.jsonl", "dev.jsonl"])
def test_length_solves_nothing(name: str) -> None:
    """A judge that always answers A is right half of the time, because every pair is judged in both orders."""
    rows = read(name)
    sizes = [(len(str(row["chosen"])), len(str(row["rejected"]))) for row in rows]
    longest = sum(1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0 for chosen, rejected in sizes) / len(rows)
    assert 0.45 <= longest <= 0.55
    assert all(len(str(row["chosen"]).split()) == len(str(row["rejected"]).split()) for row in rows)


def test_heldout_pairs_are_right_against_wrong() -> None:
    truth = {fact.question(i): world.answer(fact.value) for fact in world.world_facts() for i in range(len(world.PHRASINGS))}
    rows = read("heldout.jsonl")
    assert all(row["chosen"] == truth[str(row["instruction"])] != row["rejected"] for row in rows)
    assert Counter(row["kind"] for row in rows) == {"wrong value": 240, "irrelevant": 240}
    assert len({row["id"] for row in rows}) == len(rows)


def test_the_pool_has_the_schema_of_wildchat() -> None:
    rows = read("instructions.jsonl")
    fields = {"conversation_hash", "model", "timestamp", "conversation", "turn", "language", "toxic", "redacted"}
    assert all(set(row) == fields for row in rows)
    assert len({row["conversation_hash"] for row in rows}) == len(rows)
    for row in world.instruction_rows():
        assert [turn["role"] for turn in row["conversation"]] == ["user", "assistant"] * row["turn"]
        assert {"content", "role", "language", "toxic", "redacted"} <= set(row["conversation"][0])


def test_the_pool_is_unique_and_mostly_questions_for_train_facts() -> None:
    rows = world.instruction_rows()
    questions = {fact.question(i) for fact in world.facts_of("train") for i in range(len(world.PHRASINGS))}
    asked = [row["conversation"][-2]["content"] for row in rows]
    dialogues = {json.dumps(row["conversation"]) for row in rows}
    assert len(dialogues) == len(rows)
    assert 1800 <= len(rows) <= 2200
    assert 0.6 <= sum(text in questions for text in asked) / len(rows) <= 0.7
    assert 0 < sum(row["turn"] > 1 for row in rows) / len(rows) <= 0.03
    assert all(any(row[flag] for row in rows) for flag in ("toxic", "redacted"))
    assert {"English", "Spanish", "French", "German"} == {row["language"] for row in rows}


def test_the_world_needs_no_torch() -> None:
    assert "torch" not in vars(world)
    assert not any(name.startswith("torch") for name in vars(sys.modules["stj.mini.corpus"]))
