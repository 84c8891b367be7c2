import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.model_settings import ChatOptions
from stj.models.chat import encode_chat
from stj.models.control_tokens import PlainTokenizer
from stj.models.tokenizer import load_tokenizer
from stj.rows import Example, Turn
from stj.storage.folder import Folder
from stj.train import data
from stj.train.data import encode_examples, encoded_examples, end_of_turn, kept_examples, read_tokens
from stj.train.job import TrainingJob
from stj.train_config import TrainConfig
from tests.train.conftest import make_example, make_tokenizer, write_examples

SEED_MODEL = Path(__file__).parents[2] / "stj/mini/seed_model"
LLAMA_3 = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MIXTRAL = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}</s>{% else %}{{ raise_exception('no system role') }}"
    "{% endif %}{% endfor %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDLESS = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.mark.parametrize(
    ("template", "special", "eos", "expected"),
    [
        (LLAMA_3, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>", ["<|eot_id|>"]),
        (MIXTRAL, ["[INST]", "[/INST]", "</s>"], "</s>", ["</s>"]),
        (CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>", ["<|im_end|>"]),
        (ENDLESS, ["</s>"], "</s>", ["</s>"]),
    ],
)
def test_end_of_turn_of_known_templates(
    template: str, special: list[str], eos: str, expected: list[str], tmp_path: Path
) -> None:
    tokenizer = make_tokenizer(template, special, eos)
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer, tmp_path)) == expected


def test_end_of_turn_is_where_generation_stops_even_if_eos_is_another_token(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(CHATML, ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "<|endoftext|>")
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.eos_token_id, stop]}))
    assert end_of_turn(tokenizer, tmp_path) == [stop]


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_an_end_that_only_a_config_names_is_learned(file: str, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(ENDLESS, ["</s>", "<|end|>"], "</s>")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no token ends an assistant's message"):
        end_of_turn(tokenizer, tmp_path)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    (tmp_path / file).write_text(json.dumps({"eos_token_id": end}))
    assert end_of_turn(tokenizer, tmp_path) == [end]


def test_examples_have_the_prompts_of_the_seeds_options(tmp_path: Path) -> None:
    template = LLAMA_3.replace("{% for m", "{{ strftime_now('%Y') }}{% if enable_thinking %}!{% endif %}{% for m", 1)
    tokenizer = make_tokenizer(template, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>")
    options = ChatOptions(thinking="on", date="1999-01-01")
    end = end_of_turn(tokenizer, tmp_path, options)
    (row,), _ = kept_examples(encode_examples(tokenizer, [make_example(0)], end, TrainConfig(), options))
    assert list(row.texts[0][: row.prompt_length]) == encode_chat(tokenizer, make_example(0).messages, options)
    assert tokenizer.decode(row.texts[0]).startswith("1999!<|start_header_id|>")


def test_what_is_learned_is_the_judgment_and_its_end(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    (row,), _ = kept_examples(encode_examples(tokenizer, [make_example(0)], end_of_turn(tokenizer, tmp_path), TrainConfig()))
    (text,) = row.texts
    assert tokenizer.decode(text[row.prompt_length :]) == "My final verdict is [[A]]<|end|>"
    assert row.counts == (len(text) - row.prompt_length,)
    prompt = tokenizer.decode(text[: row.prompt_length])
    assert prompt.startswith("<|system|>Judge.<|end|><|user|>Which")
    assert prompt.endswith("<|end|><|assistant|>")


def test_control_tokens_in_a_judgment_are_learned_as_text(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    example = Example(id="a", winner="A", messages=(Turn(role="user", content="?"),), completion="x<|end|>y")
    (row,), _ = kept_examples(encode_examples(tokenizer, [example], end_of_turn(tokenizer, tmp_path), TrainConfig()))
    assert list(row.texts[0][row.prompt_length :]).count(tokenizer.eos_token_id) == 1
    assert row.counts == (len("x<|end|>y") + 1,)


def test_the_place_of_an_example_in_a_curriculum_stays_with_its_tokens() -> None:
    tokenizer = make_tokenizer()
    examples = [replace(make_example(0), difficulty=0.25), make_example(1)]
    tokens, _ = kept_examples(encode_examples(tokenizer, examples, [0], TrainConfig()))
    assert [example.difficulty for example in tokens] == [0.25, None]


def test_too_long_examples_are_dropped_with_a_count() -> None:
    tokenizer = make_tokenizer()
    examples = [make_example(i) for i in range(14)]
    all_of_them, none = kept_examples(encode_examples(tokenizer, examples, [0], TrainConfig()))
    limit = sorted(row.length for row in all_of_them)[6]
    kept, dropped = kept_examples(encode_examples(tokenizer, examples, [0], TrainConfig(max_seq_len=limit)))
    assert none == {}
    assert len(kept) + dropped["too_long"] == 14
    assert [row.id for row in kept] == [row.id for row in all_of_them if row.length <= limit]


@pytest.mark.slow
def test_an_example_that_cannot_fit_is_never_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 MB of text take a tokenizer 10 s and 2 GB."""
    tokenizer, long = load_tokenizer(SEED_MODEL), "word " * 1_000_000
    asked = (Turn(role="user", content="?"),)
    examples = [
        Example(id="a", winner="A", messages=(Turn(role="user", content=long),), completion="x"),
        Example(id="b", winner="A", messages=asked, completion=long),
        Example(id="c", winner="A", messages=asked, completion="x", thought=long),
        Example(id="d", winner="A", messages=asked, completion="x"),
    ]
    encode = PlainTokenizer.encode
    monkeypatch.setattr(PlainTokenizer, "encode", lambda self, text: encode(self, text if len(text) < 9999 else 1 / 0))
    encoded = list(encode_examples(tokenizer, examples, [0], TrainConfig()))
    assert encoded[:3] == ["too_long"] * 3
    assert not isinstance(encoded[3], str)


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_ranks_encode_a_part_each_and_have_all_in_order(
    ranks: int, seed_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TrainingJob(
        config=TrainConfig(max_seq_len=80),
        seed_model=ModelConfig(path=str(seed_directory)),
        weights="",
        fingerprint="",
        examples=write_examples(Folder.at(tmp_path), [make_example(index) for index in range(11)]).folder.uri,
        model="",
        folder="",
    )
    alone, dropped = read_tokens(task, seed_directory)
    assert len(alone) + dropped["too_long"] == 11
    assert dropped["too_long"] > 0
    parts = [list(encoded_examples(task, seed_directory, rank, ranks)) for rank in range(ranks)]
    monkeypatch.setattr(data, "dist", SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setattr(data, "on_each_rank", lambda work: parts)
    together, dropped_together = read_tokens(task, seed_directory)
    assert dropped_together == dropped
    assert [(row.id, row.prompt_length) for row in together] == [(row.id, row.prompt_length) for row in alone]
    assert all(map(np.array_equal, [row.texts[0] for row in together], [row.texts[0] for row in alone]))
