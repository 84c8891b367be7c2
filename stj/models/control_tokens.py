"""Encodes a template's text together with messages, so that only the template's control tokens become control tokens.

A tokenizer finds its control tokens by their text, and cannot know who wrote it. So `PlainTokenizer` is a copy that knows
control tokens only under other names, made up anew in each process. The template's control tokens get these names, those of the
messages do not. All else is one text, as for the tokenizer itself: a word may begin in the template and end in a message.
"""

import json
import re
import secrets
from collections.abc import Collection, Iterable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer

from stj.errors import ModelError
from stj.models.fewest_tokens import FewestTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NONCES = 10**20  # A message guesses a nonce with a chance of 1e-20.
_SPACES = ("▁", "Ġ")  # How vocabularies write a space before a word.
_RENAMED = "\ue000{}"  # Names control tokens in a model's vocabulary that plain text could spell.


class Names:
    """Made-up names for pieces of text. They are digits, which no normalizer and no template changes."""

    def __init__(self) -> None:
        self._nonce = f"{secrets.randbelow(_NONCES):020d}"
        self._numbers: dict[str, int] = {}

    def of(self, piece: str) -> str:
        """The name of a piece."""
        return f"{self._nonce}{self._numbers.setdefault(piece, len(self._numbers)):07d}"

    def restore(self, text: str) -> str:
        """The text with each name replaced by its piece."""
        if not self._numbers:
            return text
        pieces = list(self._numbers)
        return re.sub(rf"{self._nonce}(\d{{7}})", lambda match: pieces[int(match[1])], text)


class PlainTokenizer:
    """A tokenizer for which control tokens are plain text, except under their made-up names.

    Control tokens are all added tokens except ordinary words, single characters and white space, which some vocabularies
    also add.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Copies the tokenizer. Raises ModelError if it is not one of the `tokenizers` library."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ModelError(
                f"model {tokenizer.name_or_path}: its tokenizer is {type(tokenizer).__name__}, which has no tokenizer.json. "
                "Use a model with a tokenizer.json"
            )
        added: dict[int, AddedToken] = backend.get_added_tokens_decoder()
        control = {number: token for number, token in added.items() if _is_control(token)}
        names = Names()
        self._names = {token.content: names.of(token.content) for token in control.values()}
        self._start = names.of("")
        self._hidden = frozenset(self._names.values())
        self._control = _any_of(self._names)
        self._control_ids = frozenset(control)
        self._copy = _copy(backend, added, self._names)
        if self._spelled():
            self._copy = _copy(_without(backend, self._names), added, self._names)
        self._copy.add_tokens([AddedToken(self._start, normalized=False)])
        in_copy = {
            self._copy.token_to_id(self._names.get(token.content, token.content)): number for number, token in added.items()
        }
        self._ids = {other: number for other, number in in_copy.items() if other != number}
        _, first, *_ = self._copy.encode(f"{self._start}a", add_special_tokens=False).tokens
        self._spaced = first.startswith(_SPACES)

    def find(self, text: str) -> tuple[str, ...]:
        """The control tokens in a text, in order; the longest where several begin."""
        return tuple(self._control.findall(text))

    def hold(self, text: str, names: Names) -> str:
        """The text with its control tokens under these names."""
        return self._control.sub(lambda match: names.of(match[0]), text)

    def hide(self, text: str) -> str:
        """The text with its control tokens under the names that `encode` knows."""
        return self._control.sub(lambda match: self._names[match[0]], text)

    def hide_only(self, text: str, tokens: Iterable[str]) -> str:
        """The text with these control tokens under the names that `encode` knows; all others, and other words, stay."""
        for token in tokens:
            text = text.replace(token, self._names.get(token, token))
        return text

    @cached_property
    def fewest(self) -> FewestTokens:
        """Counts the fewest ids that `encode` can give for a text."""
        return FewestTokens.of_backend(self._copy)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text whose control tokens are hidden."""
        ids: list[int] = self._copy.encode_batch_fast([text], add_special_tokens=False)[0].ids
        numbers = self._ids
        return [numbers.get(number, number) for number in ids]

    def encode_behind_control(self, text: str) -> list[int]:
        """Token ids of plain text behind a control token.

        Some tokenizers put a space before it. That space is the text's own, if it begins with one.
        """
        return self.encode(self._start + (text.removeprefix(" ") if self._spaced else text))[1:]

    def ends_with_control(self, text: str) -> bool:
        """Whether a text whose control tokens are hidden ends with one."""
        return text[-len(self._start) :] in self._hidden

    def _spelled(self) -> bool:
        """Whether the vocabulary spells a control token from plain text, as those do that hold `<s>` as a word."""
        texts = [form.format(name) for name in self._names for form in ("{}", " {} ", "a{}a")]
        encoded = self._copy.encode_batch_fast(texts, add_special_tokens=False)
        return not self._control_ids.isdisjoint(number for row in encoded for number in row.ids)


@lru_cache(maxsize=8)
def plain_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> PlainTokenizer:
    """The tokenizer's plain copy, made once."""
    return PlainTokenizer(tokenizer)


def _is_control(token: AddedToken) -> bool:
    """Whether an added token is more than a character, a word or white space of the language.

    Some vocabularies add single characters that their training text lacked (DeepSeek's coder: `÷`).
    """
    word = all(character.isalnum() or character.isspace() or character == "▁" for character in token.content)
    return token.special or not (word or len(token.content) == 1)


def _copy(backend: Tokenizer, added: dict[int, AddedToken], names: dict[str, str]) -> Tokenizer:
    """A tokenizer with the same model, in which the control tokens have their made-up names."""
    copy = Tokenizer(backend.model)
    if backend.normalizer is not None:
        copy.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        copy.pre_tokenizer = backend.pre_tokenizer
    copy.add_tokens([_named(token, names) for _, token in sorted(added.items())])
    return copy


def _named(token: AddedToken, names: dict[str, str]) -> AddedToken:
    return AddedToken(
        names.get(token.content, token.content),
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
    )


def _without(backend: Tokenizer, texts: Collection[str]) -> Tokenizer:
    """A tokenizer whose vocabulary has the same ids, but spells none of the texts."""
    record = json.loads(backend.to_str())
    model = record["model"]
    names = {text: _RENAMED.format(number) for number, text in enumerate(texts)}
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(word, word): number for word, number in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(word, word), score] for word, score in model["vocab"]]
    if "merges" in model:
        model["merges"] = [pair for pair in map(_pair, model["merges"]) if names.keys().isdisjoint([*pair, "".join(pair)])]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return Tokenizer.from_str(json.dumps(record | {"added_tokens": [], "post_processor": None}))


def _pair(merge: str | list[str]) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else merge


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds the longest of the texts; it shares their beginnings, so that thousands cost no more than a few."""
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}
    return re.compile(_branches(tree) if tree else r"(?!)")


def _branches(node: dict[str, Any]) -> str:
    text = ""
    while len(node) == 1 and "" not in node:  # without a fork: no group, since Python's groups nest only so deep
        ((character, node),) = node.items()
        text += re.escape(character)
    longer = [re.escape(character) + _branches(child) for character, child in node.items() if character]
    if not longer:
        return text
    return f"{text}(?:{'|'.join(longer)}){'?' if '' in node else ''}"
