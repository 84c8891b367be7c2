"""A tiny random Llama with a tokenizer of bytes, and examples that it can learn; all are made here, from no file."""

import os

os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when DeepSpeed is imported

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stj.rows import Example, Turn, examples_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]


def make_tokenizer(template: str = TEMPLATE, special: list[str] = SPECIAL, eos: str = "<|end|>") -> PreTrainedTokenizerFast:
    """A byte-level tokenizer, one token a byte, with the special tokens after them."""
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, chat_template=template)


def make_example(index: int) -> Example:
    """A comparison with a short right judgment and a longer wrong one; lengths differ between examples."""
    label, other = "AB" if index % 2 == 0 else "BA"
    question = f"Which is better, number {index}? " + "word " * (index % 7)
    messages = (Turn(role="system", content="Judge."), Turn(role="user", content=question))
    right, wrong = f"My final verdict is [[{label}]]", "well, " * (1 + index % 3) + f"[[{other}]]"
    return Example(id=f"x{index:03d}", winner=label, messages=messages, completion=right, rejected=wrong)  # type: ignore[arg-type]


def write_examples(folder: Folder, examples: list[Example]) -> Artifact:
    artifact = Artifact(folder, {"step": "examples", "count": len(examples)})
    artifact.begin()
    artifact.write_part("examples", examples_to_table(examples))
    artifact.finish()
    return artifact


def llama_config(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> LlamaConfig:
    """A Llama of 2 layers, hidden 64."""
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return LlamaConfig(**(sizes | heads | ends | changes))


@pytest.fixture(scope="session")
def seed_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory: Llama of 2 layers, hidden 64, tied embeddings, in fp32 as some seeds are."""
    directory = tmp_path_factory.mktemp("seed")
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    LlamaForCausalLM(llama_config(tokenizer, tie_word_embeddings=True)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process alone; the same for all tests, because DeepSpeed remembers its first one."""
    rendezvous = tmp_path_factory.mktemp("ranks") / "rendezvous"
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
            environment.setenv(name, value)
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
        yield
        dist.destroy_process_group()
