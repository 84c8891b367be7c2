"""A thinking model's thoughts as token ids: what its template says about a thought, and its outputs from and to ids.

Many tokenizers hold `<think>` and `</think>` as tokens of their own. Text from data never becomes these tokens, but a thought
to learn must hold them: the model writes them so. If a tokenizer marks them as special, decoding leaves them out, so they are
put back here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from stj.config import NO_CHAT_OPTIONS, ChatOptions
from stj.models.chat import encode_chat, encode_reply, encode_text
from stj.rows import Turn
from stj.thoughts import CLOSE, OPEN, PromptThought, Reply, split_thought, thought_behind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TAIL = 16  # More tokens than either tag has, with its line breaks, in any vocabulary.


@dataclass(frozen=True, kw_only=True)
class ThoughtFormat:
    """How one model, behind one chat template, writes its thoughts."""

    tokenizer: "PreTrainedTokenizerBase"
    options: ChatOptions
    prompt: PromptThought
    """What the end of every prompt says about a thought."""
    tags: dict[str, int]
    """The tags that are tokens of their own."""
    hidden: dict[int, str]
    """Tags that decoding leaves out, by token id."""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", options: ChatOptions = NO_CHAT_OPTIONS) -> "ThoughtFormat":
        """The format of the model whose tokenizer this is. Raises ModelError as `encode_chat` does."""
        prompt = encode_chat(tokenizer, [Turn(role="user", content="?")], options)
        added = {str(token): (number, token.special) for number, token in tokenizer.added_tokens_decoder.items()}
        tags = {tag: added[tag] for tag in (OPEN, CLOSE) if tag in added}
        return cls(
            tokenizer=tokenizer,
            options=options,
            prompt=_prompt_thought(tokenizer.decode(prompt[-_TAIL:])),
            tags={tag: number for tag, (number, _) in tags.items()},
            hidden={number: tag for tag, (number, special) in tags.items() if special},
        )

    def read(self, ids: Sequence[int], text: str) -> Reply:
        """The reply in an output; `text` is the output decoded without special tokens, and `ids` end before the stop token."""
        if any(token in self.hidden for token in ids):
            text = "".join(self._pieces(ids))
        return split_thought(text, opened=self.prompt == "opened")

    def write(self, messages: Sequence[Turn], thought: str, answer: str) -> list[int]:
        """Token ids of a prompt and the output to learn behind it. Nothing in the answer becomes a tag."""
        thought = thought_behind(self.prompt, thought)
        pieces = re.split("({})".format("|".join(map(re.escape, self.tags))), thought) if self.tags else [thought]
        pieces[-1] += answer
        ids = encode_reply(self.tokenizer, messages, pieces[0], self.options)
        for tag, piece in zip(pieces[1::2], pieces[2::2], strict=True):
            ids += [self.tags[tag], *encode_text(self.tokenizer, piece)]
        return ids

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        groups = [(tag, list(group)) for tag, group in groupby(ids, self.hidden.get)]
        return [tag * len(group) if tag else self.tokenizer.decode(group, skip_special_tokens=True) for tag, group in groups]


def _prompt_thought(end: str) -> PromptThought:
    """What the end of a prompt says about a thought."""
    end = end.rstrip()
    return "opened" if end.endswith(OPEN) else "closed" if end.endswith(CLOSE) else "none"
