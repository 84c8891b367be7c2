"""Texts as the tokens that an embedding model reads: cut to its context by its own tokenizer, with what that puts around."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextTokens:
    """A tokenizer that threads share. It keeps in itself whether it cuts, so that only one of them may ask it at a time."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", most: int, *, lowers: bool) -> None:
        """Texts of more than `most` tokens are cut; `lowers` makes small letters of all first."""
        self._tokenizer, self._most, self._lowers = tokenizer, most, lowers
        self._lock = threading.Lock()

    def of(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """The token ids of each text, and how many texts were cut."""
        texts = [text.lower() for text in texts] if self._lowers else list(texts)
        with self._lock:
            ids: list[list[int]] = self._tokenizer(texts, truncation=False, verbose=False)["input_ids"]
            long = [place for place, tokens in enumerate(ids) if len(tokens) > self._most]
            for place in long:
                ids[place] = self._tokenizer(texts[place], truncation=True, max_length=self._most)["input_ids"]
        return ids, len(long)
