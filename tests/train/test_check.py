"""What is refused before any rank takes a GPU. No Ray runs in these tests, so no rank could."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from stj.config import ModelConfig
from stj.config_loader import load
from stj.errors import ConfigError, ModelError, StjError, TrainingFailed
from stj.rows import Example
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.storage.sealed import write_sealed
from stj.train import check, data
from stj.train.committed import Checkpoint
from stj.train.job import TrainingJob
from stj.train.launch import train
from stj.train_config import PreferenceConfig, TrainConfig
from tests.train.conftest import make_example, write_examples

CONFIG = TrainConfig(workers=2, max_seq_len=256, max_num_tokens=512)
SHORT = PreferenceConfig(max_seq_len=256)
EXAMPLES = [make_example(index) for index in range(12)]


def refusal(folder: Path, model: Path, examples: list[Example] = EXAMPLES, config: TrainConfig = CONFIG) -> StjError:
    """What training raises on the driver, before it needs Ray."""
    artifact = write_examples(Folder.at(folder / "examples"), examples)
    with pytest.raises(StjError) as caught:
        train(config, ModelConfig(path=str(model)), artifact, Artifact(Folder.at(folder) / "model", {"step": "model"}))
    assert "\n" not in str(caught.value)
    return caught.value


def changed(model: Path, folder: Path, **config: object) -> Path:
    """A copy of a model with other settings in its config.json."""
    copy = shutil.copytree(model, folder / "changed")
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | config))
    return copy


def test_an_empty_training_set(tmp_path: Path, seed_directory: Path) -> None:
    assert "no examples to train on: it is empty" in str(refusal(tmp_path, seed_directory, []))


def test_examples_of_one_label(tmp_path: Path, seed_directory: Path) -> None:
    error = refusal(tmp_path, seed_directory, EXAMPLES[::2])
    assert "all 6 examples have the label A" in str(error)


def test_grades_of_one_score(tmp_path: Path, seed_directory: Path) -> None:
    grades = [replace(example, winner=None, score=4, kind="grade") for example in EXAMPLES]
    error = refusal(tmp_path, seed_directory, grades)
    assert "all 12 grades have the score 4: a judge would learn to say nothing else" in str(error)
    error = refusal(
        tmp_path / "both", seed_directory, [*EXAMPLES, *(replace(grade, id=f"{grade.id}-grade") for grade in grades)]
    )
    assert "all 12 grades have the score 4" in str(error)


def test_enough_examples_are_not_all_encoded(tmp_path: Path, seed_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks encode all, each a part; here it would take minutes for a large set, while GPUs wait."""
    encoded: list[str] = []

    def counted(*arguments: Any) -> Iterator[Any]:
        for example in data.encoded_examples(*arguments):
            encoded.append(example if isinstance(example, str) else example.id)
            yield example

    monkeypatch.setattr(check, "encoded_examples", counted)
    artifact = write_examples(Folder.at(tmp_path / "examples"), [make_example(index) for index in range(300)])
    job = TrainingJob(
        config=CONFIG,
        seed_model=ModelConfig(path=str(seed_directory)),
        weights="",
        fingerprint="",
        examples=artifact.folder.uri,
        model="",
        folder=str(tmp_path),
    )
    check.check(job)
    assert 2 <= len(encoded) < 40


def long(example: Example) -> Example:
    return replace(example, completion=f"{'word ' * 200}{example.completion}")


def test_examples_that_are_of_one_label_when_the_long_ones_are_gone(tmp_path: Path, seed_directory: Path) -> None:
    examples = [long(example) if example.winner == "B" else example for example in EXAMPLES]
    error = refusal(tmp_path, seed_directory, examples)
    assert "all 6 examples that are left (dropped: 6 too_long) have the label A" in str(error)


def test_preferences_that_are_of_one_label(tmp_path: Path, seed_directory: Path) -> None:
    examples = [replace(example, rejected=None) if example.winner == "A" else example for example in EXAMPLES]
    error = refusal(tmp_path, seed_directory, examples, replace(CONFIG, workers=1, objective="dpo", preference=SHORT))
    assert "all 6 examples that are left (dropped: 6 no_wrong_judgment) have the label B" in str(error)


def test_examples_that_are_all_too_long(tmp_path: Path, seed_directory: Path) -> None:
    error = refusal(tmp_path, seed_directory, config=replace(CONFIG, max_seq_len=8))
    assert isinstance(error, TrainingFailed)
    assert "12 are longer than max_seq_len=8 tokens" in str(error)


def test_a_tokenizer_without_chat_template(tmp_path: Path, seed_directory: Path) -> None:
    copy = changed(seed_directory, tmp_path)
    (copy / "chat_template.jinja").unlink()
    error = refusal(tmp_path, copy)
    assert isinstance(error, ModelError)
    assert "has no chat template" in str(error)


def test_a_tokenizer_of_another_vocabulary(tmp_path: Path, seed_directory: Path) -> None:
    error = refusal(tmp_path, changed(seed_directory, tmp_path, vocab_size=200))
    assert "its tokenizer has ids up to 260 and its embedding 200 rows" in str(error)


def test_a_tokenizer_with_an_id_beyond_the_embedding(tmp_path: Path, seed_directory: Path) -> None:
    copy = changed(seed_directory, tmp_path)
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["a"] = 900  # few tokens, but one has a high id
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "its tokenizer has ids up to 900 and its embedding 261 rows" in str(refusal(tmp_path, copy))


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_damaged_file_beside_the_weights(tmp_path: Path, seed_directory: Path, name: str) -> None:
    copy = changed(seed_directory, tmp_path)
    (copy / name).write_text('{"')
    error = refusal(tmp_path, copy)
    assert isinstance(error, ModelError)
    assert (
        "its tokenizer or config.json cannot be read" if name == "tokenizer.json" else "config.json is not a JSON object"
    ) in str(error)


def test_a_config_that_does_not_say_how_large_the_vocabulary_is(tmp_path: Path, seed_directory: Path) -> None:
    copy = changed(seed_directory, tmp_path)
    settings = json.loads((copy / "config.json").read_text())
    del settings["vocab_size"]
    (copy / "config.json").write_text(json.dumps(settings))
    assert "its config.json names no vocab_size" in str(refusal(tmp_path, copy))


def test_a_head_that_does_more_than_the_loss_knows(tmp_path: Path, seed_directory: Path) -> None:
    error = refusal(tmp_path, changed(seed_directory, tmp_path, final_logit_softcapping=30.0))
    assert "final_logit_softcapping changes its logits" in str(error)


def test_more_ranks_than_rows(tmp_path: Path, seed_directory: Path) -> None:
    error = refusal(tmp_path, seed_directory, config=replace(CONFIG, workers=64))
    assert "train.workers=64 ranks cannot share the examples" in str(error)
    assert "set train.workers=" in str(error)


def test_checkpoints_of_another_number_of_ranks(tmp_path: Path, seed_directory: Path) -> None:
    model = Artifact(Folder.at(tmp_path) / "model", {"step": "model"})
    left = Checkpoint(fingerprint=model.fingerprint, step=3, epoch=0, samples=9, world_size=4, files={})
    write_sealed(Folder.at(tmp_path) / "checkpoints" / left.tag, "manifest.json", asdict(left))
    assert "was written by 4 ranks and this run has 2" in str(refusal(tmp_path, seed_directory))


@pytest.mark.parametrize("key", ["train.lr", "train.preference.lr", "train.preference.beta"])
def test_a_rate_of_zero(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=0.0: must be above 0"):
        load([], [f"{key}=0"])


def test_two_judgments_that_do_not_fit_in_a_row() -> None:
    with pytest.raises(ConfigError, match=r"two judgments of train.preference.max_seq_len=2048 tokens do not fit"):
        load([], ["train.objective=dpo", "train.max_seq_len=2048", "train.max_num_tokens=4000"])
