"""A seed that thinks, through the whole loop on the real engines: built, judged with, trained, judged with again."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from stj.mini.thinking import thinking_documents
from stj.models.chat import encode_chat, encode_reply
from stj.models.thinking import prompt_thought
from stj.rows import TRAINING, Judgment, Row, example_from_dict, row_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.thoughts import CLOSE, OPEN, Reply, split_thought
from stj.verdict import PAIR, parse

ROOT = Path(__file__).parents[2]
STJ = [sys.executable, "-m", "stj.cli"]
MOST = 6  # Half of the twelve judgments.


def test_every_document_opens_its_thought_once_and_closes_it() -> None:
    for document in thinking_documents(0):
        text = document.completion
        assert (text.count(OPEN), text.count(CLOSE)) == (1, 1)
        assert document.pieces[0] == (f"{OPEN}\n", 0.0)  # The template writes it, so it is not learned.
        answer = split_thought(text).text
        assert answer
        if document.kind in {"judge", "check"}:
            assert parse(answer, PAIR, "strict")
            assert "[[" not in split_thought(text).thought
        elif document.kind == "categorize":
            assert answer.startswith("Category: ")
    assert "judge" in {document.kind for document in thinking_documents(0)}


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The thinking seed; its training takes half a minute."""
    directory = tmp_path_factory.mktemp("thinking") / "seed"
    subprocess.run([*STJ, "mini", "build-seed", str(directory), "--thinking"], check=True, capture_output=True, timeout=3600)
    return directory


@pytest.fixture(scope="module")
def finished(seed: Path) -> Path:
    """A run of one iteration."""
    root = seed.parent / "run"
    models = [f"models.{role}.path={seed}" for role in ("generator", "first_judge", "seed")]
    small = ["source.limit=80", "heldout.limit=6", "heldout.samples=1", "heldout.greedy=false", "iterations=1"]
    command = [*STJ, "run", str(ROOT / "conf" / "mini.yaml"), f"run_root={root}", *models, *small]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    assert ran.returncode == 0, ran.stderr
    return root


def rows_of(folder: Path) -> list[Row]:
    return [row_from_dict(record) for record in read_artifact(Folder.at(folder)).records()]


@pytest.mark.long
def test_no_pair_holds_a_thought_and_every_judgment_keeps_its_own(finished: Path) -> None:
    """Texts are sampled: a `<think>` within a line is only a word, and a thought may hold either tag."""
    paired = [row for row in rows_of(finished / "pairs") if row.task == TRAINING and row.pair]
    assert paired
    for row in paired:
        assert row.pair is not None
        assert not [answer for answer in (row.pair.chosen, row.pair.rejected) if CLOSE in answer]
        assert split_thought(row.pair.chosen).thought == ""
        for judgment in row.judgments:
            assert_apart(judgment)
    thoughts = [judgment.thought for row in paired for judgment in row.judgments]
    assert not all(thought.startswith(OPEN) for thought in thoughts)  # The template has opened them.
    assert any(row.kept is not None for row in paired)


def assert_apart(judgment: Judgment) -> None:
    """The thought ends where the answer begins; a judgment that ends inside its thought is all thought, and cut."""
    assert split_thought(judgment.thought + judgment.text, opened=True) == Reply(
        thought=judgment.thought, text=judgment.text, closed=judgment.thought.rstrip().endswith(CLOSE)
    )
    if judgment.finish_reason == "stop":
        assert judgment.thought.rstrip().endswith(CLOSE)
    else:
        assert judgment.verdict is None


@pytest.mark.long
def test_the_trained_judge_still_thinks_and_is_measured_behind_its_thoughts(finished: Path) -> None:
    judged = rows_of(finished / "heldout_1")
    judgments = [judgment for row in judged for judgment in row.judgments]
    assert len(judgments) == 12
    for judgment in judgments:
        assert_apart(judgment)
        assert judgment.verdict == (parse(judgment.text, PAIR, "distinct") if judgment.finish_reason == "stop" else None)
    thought = [judgment for judgment in judgments if judgment.thought.strip().removesuffix(CLOSE)]
    assert len(thought) > MOST
    assert sum(judgment.verdict is not None for judgment in judgments) > MOST


@pytest.mark.long
def test_the_examples_hold_what_the_judge_wrote_behind_its_prompt(finished: Path, seed: Path) -> None:
    examples = list(map(example_from_dict, read_artifact(Folder.at(finished / "iteration_1" / "examples")).records()))
    assert examples
    tokenizer = AutoTokenizer.from_pretrained(seed)
    assert prompt_thought(tokenizer) == "opened"
    for example in examples:
        assert example.thought.rstrip().endswith(CLOSE)
        prompt = encode_chat(tokenizer, example.messages)
        ids = encode_reply(tokenizer, example.messages, example.completion, thought=example.thought)[len(prompt) :]
        assert tokenizer.decode(ids) == example.thought + example.completion
        # A sampled thought may close twice: the answer is what stands behind the last tag, and each tag is its control token.
        assert ids.count(tokenizer.convert_tokens_to_ids(CLOSE)) == example.thought.count(CLOSE)
        assert parse(example.completion, PAIR, "distinct") == example.winner  # The rule of judge.parser.
