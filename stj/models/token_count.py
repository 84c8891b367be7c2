"""How many tokens texts have, before a run: by the model's own tokenizer if it lies here, else estimated."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from stj.config import ModelConfig
from stj.package_files import package_path

_CHARACTERS = 4
"""Characters of a token of English text, with the vocabularies of 2024."""


class TokenCounter(NamedTuple):
    """Counts tokens of texts, without those of a chat template."""

    tokens: Callable[[Sequence[str]], list[int]]
    exact: bool
    """Whether a tokenizer counts."""


def token_counter(model: ModelConfig) -> TokenCounter:
    """The counter of a model. It asks neither network nor store, and loads no more than `tokenizer.json`."""
    file = Path(os.path.expanduser(package_path(model.path or "."))) / "tokenizer.json"
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # of the Rust library, for a file that is missing or damaged: the check of the model says so
        return TokenCounter(lambda texts: [-(-len(text) // _CHARACTERS) for text in texts], exact=False)
    return TokenCounter(
        lambda texts: [len(each.ids) for each in tokenizer.encode_batch(list(texts), add_special_tokens=False)], exact=True
    )
