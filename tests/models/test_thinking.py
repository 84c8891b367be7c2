"""Thoughts as token ids: read from what an engine wrote, and written as a model writes them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from stj.config import ModelConfig
from stj.model_settings import NO_CHAT_OPTIONS, ChatOptions
from stj.models.chat import encode_chat, encode_reply
from stj.models.thinking import ThoughtReader, prompt_thought
from stj.rows import Turn
from stj.thoughts import PromptThought, split_thought, thought_behind
from tests.models.test_chat import MISTRAL_FILES, mistral, real
from tests.train.conftest import SPECIAL, TEMPLATE, make_tokenizer

TAGS = ["<think>", "</think>"]
OPENS = TEMPLATE.replace("<|assistant|>{%", "<|assistant|><think>\n{%")
CLOSES = TEMPLATE.replace("<|assistant|>{%", "<|assistant|><think>\n\n</think>\n\n{%")
QUESTION = [Turn(role="user", content="Is this <think> a thought?")]


def written(tokenizer: PreTrainedTokenizerBase, thought: str, answer: str, options: ChatOptions = NO_CHAT_OPTIONS) -> list[int]:
    """The ids to learn behind the prompt of QUESTION."""
    prompt = encode_chat(tokenizer, QUESTION, options)
    ids = encode_reply(tokenizer, QUESTION, answer, options, thought_behind(prompt_thought(tokenizer, options), thought))
    assert ids[: len(prompt)] == prompt
    return ids[len(prompt) :]


def with_tags(template: str, special: bool | None) -> PreTrainedTokenizerBase:
    """A tokenizer whose tags are special tokens, other added tokens, or (None) only text."""
    tokenizer = make_tokenizer(template, SPECIAL + (TAGS if special else []))
    if special is False:
        tokenizer.add_tokens(TAGS)
    return tokenizer


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """What vLLM gives as text: special tokens are left out."""
    return tokenizer.decode(list(ids), skip_special_tokens=True)


@pytest.mark.parametrize("special", [True, False, None])
@pytest.mark.parametrize(("template", "prompt"), [(TEMPLATE, "none"), (OPENS, "opened"), (CLOSES, "closed")])
def test_the_template_says_whether_the_output_begins_in_a_thought(
    special: bool | None, template: str, prompt: PromptThought
) -> None:
    assert prompt_thought(with_tags(template, special)) == prompt


@pytest.mark.parametrize("special", [True, False, None])
@pytest.mark.parametrize("template", [TEMPLATE, OPENS])
@pytest.mark.parametrize(
    ("thought", "answer"),
    [
        ("<think>\nIs it B?\n</think>\n\n", "A is right. [[A]]"),
        ("Is it B?\n</think>\n\n", "A is right. [[A]]"),
        ("<think>a</think>b</think>", "It writes </thin and <think> too."),
        ("", "A is right. [[A]]"),
        ("<think>日本 🦊</think>\n", "数据 [[B]]"),
    ],
)
def test_what_is_learned_is_read_back_behind_the_prompt(special: bool | None, template: str, thought: str, answer: str) -> None:
    tokenizer = with_tags(template, special)
    ids = written(tokenizer, thought, answer)
    reply = ThoughtReader.of(tokenizer).read(ids, decoded(tokenizer, ids))
    assert (reply.text, reply.closed) == (answer, True)
    whole = tokenizer.decode(encode_chat(tokenizer, QUESTION) + ids)
    assistant = whole.rpartition("<|assistant|>")[2].removesuffix(answer)
    assert assistant.count("<think>") == (1 if thought or template == OPENS else 0)
    assert assistant.count("</think>") == max(thought.count("</think>"), int(template == OPENS))


@pytest.mark.parametrize("special", [True, False])
def test_tags_are_the_tokens_that_the_model_writes_and_the_answers_tags_are_text(special: bool) -> None:
    tokenizer = with_tags(TEMPLATE, special)
    opening, closing = tokenizer.convert_tokens_to_ids(TAGS)
    ids = written(tokenizer, "<think>x<|end|></think>\n\n", "a <think> b<|end|>")
    assert (ids[0], ids.count(opening), ids.count(closing)) == (opening, 1, 1)
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == "<think>x<|end|></think>\n\na <think> b<|end|>"


def test_special_tags_that_decoding_leaves_out_still_end_a_thought() -> None:
    tokenizer = with_tags(TEMPLATE, special=True)
    thoughts = ThoughtReader.of(tokenizer)
    ids = tokenizer("<think>Is it B?</think>\nA <|user|> [[A]]")["input_ids"]
    assert "think" not in decoded(tokenizer, ids)
    assert thoughts.read(ids, decoded(tokenizer, ids)) == split_thought("<think>Is it B?</think>\nA  [[A]]")
    unclosed = tokenizer("<think>It is [[A]]")["input_ids"]
    assert not thoughts.read(unclosed, decoded(tokenizer, unclosed)).closed


def test_an_output_without_hidden_tags_is_the_engines_own_text() -> None:
    """Its decoder knows the token before each token; decoding in pieces would not."""
    thoughts = ThoughtReader.of(with_tags(TEMPLATE, special=True))
    assert thoughts.read([1, 2, 3], "text of the engine").text == "text of the engine"


@given(st.lists(st.sampled_from([*TAGS, "a", " b", "\n", "數", "<|end|>"]), max_size=8).map("".join), st.booleans())
def test_nothing_learned_ends_the_turn_early(text: str, special: bool) -> None:
    tokenizer = with_tags(OPENS, special)
    reply = split_thought(text)
    ids = written(tokenizer, reply.thought, reply.text)
    assert tokenizer.eos_token_id not in ids


@pytest.fixture
def qwen3() -> PreTrainedTokenizerBase:
    return real("qwen3")


def test_a_real_thinking_model_learns_the_ids_that_it_writes(qwen3: PreTrainedTokenizerBase) -> None:
    assert prompt_thought(qwen3) == "none"
    output = "<think>\nThe first says 4.\n</think>\n\nAssistant A is right. [[A]]"
    reply = split_thought(output)
    assert written(qwen3, reply.thought, reply.text) == qwen3(output, add_special_tokens=False)["input_ids"]
    assert ThoughtReader.of(qwen3).read(written(qwen3, reply.thought, reply.text), output) == reply


def test_a_real_template_without_thoughts_has_closed_them(qwen3: PreTrainedTokenizerBase) -> None:
    off = ModelConfig(path="qwen3", thinking="off").chat_options
    assert prompt_thought(qwen3, off) == "closed"
    assert written(qwen3, "<think>\nx\n</think>\n\n", "[[A]]", off) == written(qwen3, "", "[[A]]", off)
    assert qwen3.decode(written(qwen3, "", "[[A]]", off)) == "[[A]]"


@pytest.mark.parametrize("name", ["llama3_1", "gemma3"])
def test_a_real_model_that_does_not_think_writes_its_answers_as_before(name: str) -> None:
    tokenizer = real(name)
    assert prompt_thought(tokenizer) == "none"
    text = "Assistant A is right. [[A]]"
    assert written(tokenizer, "", text) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ThoughtReader.of(tokenizer).read(written(tokenizer, "", text), text) == split_thought(text)


@pytest.mark.slow
@pytest.mark.parametrize("file", MISTRAL_FILES, ids=lambda file: file.name)
def test_a_model_with_mistrals_own_tokenizer_may_write_the_tags_as_text(file: Path) -> None:
    tokenizer = mistral(file)
    assert prompt_thought(tokenizer) == "none"
    ids = written(tokenizer, "<think>x</think>", "A. [[A]]")
    text = tokenizer.decode(ids, skip_special_tokens=True)
    reply = ThoughtReader.of(tokenizer).read(ids, text)
    assert (reply.thought.strip(), reply.text) == ("<think>x</think>", "A. [[A]]")
