"""The fewest tokens that a text can have, counted without a tokenizer: 0.3 s for 20 MB instead of 10 s and 2 GB.

A token covers at most as many bytes as it is long. So each byte of a text costs at least 1/n tokens, where n is the length of
the longest token that holds this byte, and a text costs at least the sum. That holds for byte-pair encodings that know every
byte and remove nothing, as nearly all language models have. For any other tokenizer nothing is known, and the count is 0.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from unicodedata import is_normalized

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPACE = "▁"  # How vocabularies without a byte alphabet write a space.
_WHITE = "".join(chr(number) for number in range(0x3001) if chr(number).isspace()).encode()
_COMPOSED = 4  # NFC makes at most 3 bytes one (the Kelvin sign a K); one more for what a later Unicode may add.
_ROUNDING = 1e-9  # The share by which a sum of millions of floats may be too high; it is less.
_PIECE = 2**20  # Count this many bytes at once: numpy takes eight times the memory meanwhile.
_BEYOND_FIRST_PLANE = re.compile("[\U00010000-\U0010ffff]+")
_SPLITS = {"ByteLevel", "Digits", "Metaspace", "Punctuation", "Split"}


class FewestTokens:
    """Counts the fewest tokens of texts for one tokenizer."""

    def __init__(self, costs: "np.ndarray[Any, np.dtype[np.float64]]", *, composes: bool) -> None:
        """`costs` are the least tokens that each of the 256 bytes costs; `composes` says that characters become one before."""
        self._costs = costs
        self._composes = composes

    @classmethod
    def of_backend(cls, backend: "Tokenizer") -> "FewestTokens":
        """The count for a tokenizer of the `tokenizers` library."""
        normalizers, splits = (
            list(_parts(backend.normalizer, "normalizers")),
            list(_parts(backend.pre_tokenizer, "pretokenizers")),
        )
        if not (all(map(_keeps_text, normalizers)) and all(map(_splits_only, splits)) and _knows_bytes(backend, splits)):
            return cls(np.zeros(256), composes=False)
        vocabulary, added = backend.get_vocab(with_added_tokens=False), backend.get_added_tokens_decoder().values()
        alphabet = _byte_alphabet() if _has_alphabet(splits) else None
        words = [*((token, alphabet) for token in vocabulary), *((token.content, None) for token in added)]
        tokens = filter(None, (_bytes(*word) for word in words))
        bytes_ = (bytes([byte]) for byte in range(256))  # without a byte alphabet their tokens are called <0x00>
        costs = _costs([*tokens, *bytes_])
        if any(token.lstrip or token.rstrip for token in added):
            costs[list(_WHITE)] = 0  # such a token takes all the white space around it
        return cls(costs, composes=any(part["type"] == "NFC" for part in normalizers))

    @classmethod
    def of_tokens(cls, tokens: Iterable[bytes]) -> "FewestTokens":
        """The count for a tokenizer that only joins bytes to these tokens."""
        return cls(_costs(list(tokens)), composes=False)

    @property
    def longest(self) -> int:
        """The bytes of the longest token; 0 if nothing is known."""
        return round(1 / self._costs[self._costs > 0].min()) if self._costs.any() else 0

    def __call__(self, text: str) -> int:
        """The fewest tokens that the text can have."""
        if self._composes and not text.isascii():
            text = _BEYOND_FIRST_PLANE.sub("", text)  # the only ones that a Unicode newer than Python's may compose
            if not is_normalized("NFC", text):
                return int(len(text.encode(errors="replace")) * self._costs.min() / _COMPOSED)
        data, cost = np.frombuffer(text.encode(errors="replace"), dtype=np.uint8), 0.0
        for at in range(0, len(data), _PIECE):
            cost += float(np.bincount(data[at : at + _PIECE], minlength=256) @ self._costs)
        return int(cost * (1 - _ROUNDING))


def _costs(tokens: list[bytes]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    costs = np.zeros(256)
    left = set(range(256))
    for token in sorted(filter(None, tokens), key=len, reverse=True):
        costs[list(left.intersection(token))] = 1 / len(token)
        left.difference_update(token)
    return costs


def _bytes(token: str, alphabet: dict[str, int] | None) -> bytes | None:
    """The bytes that a token of the vocabulary stands for; None if it stands for none.

    A word's space counts three bytes, as `▁` itself has; the space beside it says that the token may stand for one.
    """
    if alphabet is None:
        return token.encode(errors="replace") + b" " * (_SPACE in token)
    return bytes(alphabet[character] for character in token) if alphabet.keys() >= set(token) else None


def _parts(component: Any, name: str) -> Iterator[dict[str, Any]]:
    """A normalizer or pre-tokenizer as the parts that come one after another, in the words of tokenizer.json."""

    def flat(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if record["type"] == "Sequence":
            for part in record[name]:
                yield from flat(part)
        else:
            yield record

    if component is not None:
        yield from flat(json.loads(component.__getstate__()))


def _keeps_text(normalizer: dict[str, Any]) -> bool:
    """Whether the normalizer removes nothing."""
    if normalizer["type"] == "Replace":
        return bool(normalizer["pattern"] == {"String": " "} and normalizer["content"] == _SPACE)
    return normalizer["type"] in ("NFC", "Prepend")


def _splits_only(split: dict[str, Any]) -> bool:
    """Whether the pre-tokenizer removes nothing."""
    return split["type"] in _SPLITS and split.get("behavior") != "Removed" and split.get("replacement", _SPACE) == _SPACE


def _has_alphabet(splits: list[dict[str, Any]]) -> bool:
    return any(split["type"] == "ByteLevel" for split in splits)


def _knows_bytes(backend: "Tokenizer", splits: list[dict[str, Any]]) -> bool:
    """Whether each byte has a token: otherwise any number of unknown characters may be one token, or none."""
    if type(backend.model).__name__ != "BPE":
        return False
    if _has_alphabet(splits):
        return all(backend.model.token_to_id(letter) is not None for letter in _byte_alphabet())
    return backend.model.byte_fallback and all(backend.model.token_to_id(f"<0x{byte:02X}>") is not None for byte in range(256))


def _byte_alphabet() -> dict[str, int]:
    """The letters of GPT-2's byte alphabet and their bytes."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    other = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + number): byte for number, byte in enumerate(other)}
