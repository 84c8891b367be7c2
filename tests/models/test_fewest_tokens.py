"""A prompt is refused as too long without being tokenized only if no tokenizer could make it fit."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerBase

from stj.errors import PromptTooLong
from stj.models.chat import encode_chat, encode_reply, encode_text, fewest_tokens
from stj.models.control_tokens import PlainTokenizer, plain_tokenizer
from stj.models.fewest_tokens import FewestTokens
from stj.rows import Turn
from tests.models import chat_formats
from tests.models.test_chat import MISTRAL_FILES, mistral, real, seed, synthetic

UNBOUNDED = {"unigram", "word pieces", "words"}
"""Kinds that may make any number of characters one token."""
PIECES = (
    " ", "  ", "\t", "\n\n", "▁", "the ", "1234567", "=", "-" * 16, " " * 128, "数据", "é", "e\u0301", "\u1f82", "\u212a",
    "\u2126", "ᄀ\u1161\u11a8", "ﷺ", "🎉", "\U0001d15e", "\U000105d2\u0307", "\0", "\ufffd", "\u3000", "\u2003",
    "<|im_end|>", "</s>", "<think>",
)  # fmt: skip
TEXTS = st.lists(st.tuples(st.sampled_from(PIECES) | st.text(max_size=4), st.integers(1, 200)), max_size=6).map(
    lambda parts: "".join(piece * times for piece, times in parts)
)


def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    if name in ("qwen3", "llama3_1", "gemma3"):
        return real(name)
    return seed(chat_formats.CHATML) if name == "seed" else synthetic()[name]


NAMES = ("seed", "qwen3", "llama3_1", "gemma3", *chat_formats.KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@given(text=TEXTS)
@example(text="</s>" + " " * 1000 + "</s>")
@example(text="\u1f82" * 1000)
def test_no_text_has_fewer_tokens(name: str, text: str) -> None:
    plain = plain_tokenizer(tokenizer_of(name))
    text = text.encode(errors="replace").decode()
    for shown in (text, unicodedata.normalize("NFD", text), plain.hide(text)):
        assert plain.fewest(shown) <= len(plain.encode(shown))


def test_an_added_token_may_stand_for_spaces() -> None:
    """The normalizer makes them of the text's, before it is searched for added tokens."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁": 256}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.add_tokens([AddedToken("▁" * 40, normalized=True)])
    text = " " * 4000
    tokens = len(backend.encode(text).ids)
    assert tokens == 100
    assert FewestTokens.of_backend(backend)(text) <= tokens


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in MISTRAL_FILES if "tekken" in file.name][:1], ids=lambda file: file.name)
@given(text=TEXTS)
def test_no_text_has_fewer_tokens_of_mistrals(file: Any, text: str) -> None:
    tokenizer = mistral(file)
    text = text.encode(errors="replace").decode()
    assert fewest_tokens(tokenizer)(text) <= len(encode_text(tokenizer, text))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_words_are_counted_closely_enough_to_refuse_a_long_text(name: str) -> None:
    plain = plain_tokenizer(tokenizer_of(name))
    for text in ("The quick brown fox isn’t lazy. " * 500, "数据" * 500, "é🎉" * 500):
        tokens, fewest = len(plain.encode(text)), plain.fewest(text)
        assert fewest == 0 if name in UNBOUNDED else fewest > tokens / 150


@pytest.mark.slow
@given(text=TEXTS, most=st.integers(1, 3000))
@example(text="x" * 30_000, most=100)
@pytest.mark.parametrize("template", [chat_formats.CHATML, chat_formats.MISTRAL])
def test_a_prompt_is_refused_only_if_it_is_too_long(template: str, text: str, most: int) -> None:
    tokenizer = seed(template)
    turns = [Turn(role="user", content=f"?{text}" + " " * 25_000)]  # longer than what is cached
    tokens = len(encode_chat(tokenizer, turns))
    try:
        assert len(encode_chat(tokenizer, turns, most_tokens=most)) == tokens
    except PromptTooLong:
        assert tokens > most
    reply = f"<think>{text}"
    tokens = len(encode_reply(tokenizer, turns, " " * 25_000, thought=reply))
    try:
        assert len(encode_reply(tokenizer, turns, " " * 25_000, thought=reply, most_tokens=most)) == tokens
    except PromptTooLong:
        assert tokens > most


def refusals(turns: Sequence[Turn], reply: str = "") -> list[str]:
    """The refusal of these messages by each real tokenizer's bound; none of them may be tokenized."""
    told = []
    for name in ("qwen3", "llama3_1", "gemma3"):
        tokenizer = real(name)
        with pytest.MonkeyPatch.context() as changed:
            changed.setattr(tokenizer, "chat_template", chat_formats.CHATML)  # Other tests have the same tokenizer.
            with pytest.raises(PromptTooLong) as refusal:
                encode_reply(tokenizer, turns, reply, most_tokens=131_072) if reply else encode_chat(
                    tokenizer, turns, most_tokens=131_072
                )
        told.append(str(refusal.value))
    return told


@pytest.mark.slow
def test_a_text_of_20_mb_is_refused_without_being_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took 66 s and 8 GB."""
    for name in ("qwen3", "llama3_1", "gemma3"):
        _ = encode_chat(seed(chat_formats.CHATML), [Turn(role="user", content="?")]), plain_tokenizer(real(name)).fewest

    encode = PlainTokenizer.encode
    monkeypatch.setattr(PlainTokenizer, "encode", lambda self, text: encode(self, text) if len(text) < 1000 else 1 / 0)
    told = refusals([Turn(role="user", content="word’ " * 4_000_000)])
    assert all(line.startswith("prompt of at least ") for line in told)
    refusals([Turn(role="user", content="?")], "word " * 4_000_000)
