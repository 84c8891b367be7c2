"""Tokenizers of the kinds that chat models have, small and made here, and chat templates as models are published with."""

from collections.abc import Mapping, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles alternate') }}"
    "{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}[/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% else %}{{ raise_exception('no system role') }}"
    "{% endif %}{% endfor %}"
)
PHI_3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
VICUNA = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + ' ' }}"
    "{% elif m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
ALPACA = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}\n\n{% else %}### {{ m['role'] | title }}:\n"
    "{{ m['content'] | trim }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}### Assistant:\n{% endif %}"
)
TEMPLATES = (CHATML, LLAMA_2, MISTRAL, PHI_3, VICUNA, ALPACA)

_CONTROL = (
    "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "[INST]",
    "[/INST]",
)  # fmt: skip
_NOT_SPECIAL = ("<think>", "</think>", "<tool_call>")
_CORPUS = (
    "How are you? I am well, thank you.\n\nUSER: Which is better? ASSISTANT: The first.",
    "def f(x):\n    return x + 1\n",
    "[INST] Hello [/INST] ### User: ### Assistant:",
    "数据 你好 世界",
    "a  b   c\t d \n e\n\n f",
)


KINDS = (
    "bytes", "bytes with a prefix space", "composed characters", "first word begins with a space",
    "every part begins with a space", "no word begins with a space", "legacy", "spaces replaced", "unigram", "word pieces",
    "words", "white space as tokens", "tokens that take the space around them",
)  # fmt: skip


def tokenizers() -> Mapping[str, PreTrainedTokenizerFast]:
    """One tokenizer of each kind, by what is special about it."""
    metaspace = pre_tokenizers.Metaspace
    legacy = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])  # Llama 2, Mistral
    gemma = normalizers.Replace(" ", "▁")
    bytes_ = pre_tokenizers.ByteLevel
    words = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    return {
        "bytes": _bpe(bytes_(add_prefix_space=False), decoder=decoders.ByteLevel()),
        "bytes with a prefix space": _bpe(bytes_(add_prefix_space=True), decoder=decoders.ByteLevel()),
        "composed characters": _bpe(bytes_(add_prefix_space=False), normalizers.NFC(), decoders.ByteLevel()),
        "first word begins with a space": _bpe(metaspace(prepend_scheme="first", split=False)),
        "every part begins with a space": _bpe(metaspace(prepend_scheme="always", split=False)),
        "no word begins with a space": _bpe(metaspace(prepend_scheme="never", split=True)),
        "legacy": _bpe(None, legacy),
        "spaces replaced": _bpe(pre_tokenizers.Split(" ", "merged_with_previous"), gemma),
        "unigram": _made(models.Unigram(), trainers.UnigramTrainer, metaspace(), None, special_tokens=list(_CONTROL)),
        "word pieces": _made(
            models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer, words, normalizers.BertNormalizer()
        ),
        "words": _made(models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer, words, None),
        "white space as tokens": _bpe(bytes_(add_prefix_space=False), words=("\n\n", "\n\n\n", "  ", "   ", "世界")),
        "tokens that take the space around them": _bpe(metaspace(), around=True),
    }


def _bpe(
    splits: pre_tokenizers.PreTokenizer | None,
    normalizer: normalizers.Normalizer | None = None,
    decoder: decoders.Decoder | None = None,
    words: Sequence[str] = (),
    *,
    around: bool = False,
) -> PreTrainedTokenizerFast:
    """Byte-pair encoding that knows every byte."""
    if isinstance(splits, pre_tokenizers.ByteLevel):
        model, more = models.BPE(), {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    else:
        model, more = models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True), {}
        more["special_tokens"] = [*_CONTROL, *(f"<0x{byte:02X}>" for byte in range(256))]
    return _made(model, trainers.BpeTrainer, splits, normalizer, decoder, words, around=around, **more)


def _made(
    model: models.Model,
    trainer: type[trainers.Trainer],
    splits: pre_tokenizers.PreTokenizer | None,
    normalizer: normalizers.Normalizer | None,
    decoder: decoders.Decoder | None = None,
    words: Sequence[str] = (),
    *,
    around: bool = False,
    **more: object,
) -> PreTrainedTokenizerFast:
    def with_parts(tokenizer: Tokenizer) -> Tokenizer:
        if splits:
            tokenizer.pre_tokenizer = splits
        if normalizer:
            tokenizer.normalizer = normalizer
        if decoder:
            tokenizer.decoder = decoder
        return tokenizer

    tokenizer = with_parts(Tokenizer(model))
    more = {"special_tokens": list(_CONTROL), **more}
    if trainer is trainers.UnigramTrainer:
        more["unk_token"] = "<unk>"
    tokenizer.train_from_iterator(_CORPUS, trainer(vocab_size=700, show_progress=False, **more))
    bare = with_parts(Tokenizer(tokenizer.model))  # training marks the bytes as control tokens too
    flags = {"normalized": False, "lstrip": around, "rstrip": around}
    bare.add_special_tokens([AddedToken(name, **flags) for name in _CONTROL])
    bare.add_tokens([AddedToken(name, normalized=True) for name in _NOT_SPECIAL])
    bare.add_tokens([AddedToken(word, normalized=False) for word in words])
    return PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
