"""A thinking model's thoughts in its prompts and its outputs: whether the template opens them, and how outputs are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from stj.model_settings import NO_CHAT_OPTIONS, ChatOptions
from stj.models.chat import encode_chat, is_mistral
from stj.rows import Turn
from stj.thoughts import CLOSE, OPEN, PromptThought, Reply, split_thought

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TAIL = 16  # More tokens than either tag has, with its line breaks, in any vocabulary.


def prompt_thought(tokenizer: "PreTrainedTokenizerBase", options: ChatOptions = NO_CHAT_OPTIONS) -> PromptThought:
    """What the end of every prompt says about a thought. Raises ModelError as `encode_chat` does."""
    prompt = encode_chat(tokenizer, [Turn(role="user", content="?")], options)
    end = tokenizer.decode(prompt[-_TAIL:]).rstrip()
    return "opened" if end.endswith(OPEN) else "closed" if end.endswith(CLOSE) else "none"


@dataclass(frozen=True, kw_only=True)
class ThoughtReader:
    """Reads the outputs of one model behind one chat template."""

    tokenizer: "PreTrainedTokenizerBase"
    opened: bool
    """Whether the template opens the thought."""
    hidden: dict[int, str]
    """Tags that decoding leaves out, because they are special tokens, by id."""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", options: ChatOptions = NO_CHAT_OPTIONS) -> "ThoughtReader":
        """The reader for a model's outputs. Raises ModelError as `encode_chat` does."""
        added = {} if is_mistral(tokenizer) else tokenizer.added_tokens_decoder  # Mistral's own format has no such tags.
        hidden = {number: str(token) for number, token in added.items() if token.special and str(token) in (OPEN, CLOSE)}
        return cls(tokenizer=tokenizer, opened=prompt_thought(tokenizer, options) == "opened", hidden=hidden)

    def read(self, ids: Sequence[int], text: str) -> Reply:
        """The reply in an output; `text` is the output decoded without special tokens, and `ids` end before the stop token."""
        if any(token in self.hidden for token in ids):
            text = "".join(self._pieces(ids))
        return split_thought(text, opened=self.opened)

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        """The text between hidden tags, and the tags."""
        groups = [(tag, list(group)) for tag, group in groupby(ids, self.hidden.get)]
        return [tag * len(group) if tag else self.tokenizer.decode(group, skip_special_tokens=True) for tag, group in groups]
