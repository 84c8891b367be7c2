"""Examples as token ids: the judge's prompt, then the judgment to learn with its end-of-turn token."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from stj.config import TrainConfig
from stj.errors import ModelError, TrainingFailed
from stj.models.chat import encode_chat, encode_text, require_template
from stj.rows import Example, example_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.train.job import TrainingJob

_MARKER = "\ue000"  # a private-use character: no template holds it


@dataclass(frozen=True, kw_only=True)
class ExampleTokens:
    """One example as token ids."""

    id: str
    texts: tuple[NDArray[np.int32], ...]
    """The prompt with the judgment and its end-of-turn token; for a preference, first with the right judgment, then with the
    wrong one."""
    prompt_length: int

    @property
    def length(self) -> int:
        """Tokens of all texts together."""
        return sum(map(len, self.texts))

    @property
    def counts(self) -> tuple[int, ...]:
        """Supervised tokens of each text: its judgment and the end-of-turn token."""
        return tuple(len(text) - self.prompt_length for text in self.texts)


def read_tokens(job: TrainingJob, directory: Path) -> tuple[list[ExampleTokens], dict[str, int]]:
    """The examples as tokens, and how many were dropped, by reason. Raises TrainingFailed if none is left."""
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    examples = map(example_from_dict, read_artifact(Folder.at(job.examples)).records())
    tokens, dropped = encode_examples(tokenizer, examples, end_of_turn(tokenizer, directory), job.config)
    if not tokens:
        raise TrainingFailed(
            f"{job.examples}: no examples to train on ({dropped.get('too_long', 0)} are longer than "
            f"max_seq_len={job.config.max_seq_len} tokens, {dropped.get('no_wrong_judgment', 0)} have no wrong judgment). "
            "Raise max_seq_len, or select more"
        )
    return tokens, dropped


def end_of_turn(tokenizer: PreTrainedTokenizerBase, model_directory: Path) -> list[int]:
    """Token ids that the chat template writes after an assistant's message, up to the id at which generation stops.

    Raises ModelError if there is no template, or neither it nor the tokenizer has such a token.
    """
    require_template(tokenizer)
    stops = _stop_ids(tokenizer, model_directory)
    dialogue = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARKER}]
    tail = tokenizer.apply_chat_template(dialogue, tokenize=False).rpartition(_MARKER)[2]
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"]
    end = next((position for position, token in enumerate(ids) if token in stops), None)
    if end is not None:
        return ids[: end + 1]
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"model {model_directory}: no token ends an assistant's message: set eos_token in tokenizer_config.json "
            "or eos_token_id in generation_config.json"
        )
    return [tokenizer.eos_token_id]


def encode_examples(
    tokenizer: PreTrainedTokenizerBase, examples: Iterable[Example], end: Sequence[int], config: TrainConfig
) -> tuple[list[ExampleTokens], dict[str, int]]:
    """Examples as tokens in their order, and how many were dropped, by reason.

    The reasons: "too_long" if a text has more than max_seq_len tokens, "no_wrong_judgment" if a preference has only one side.
    """
    kept, dropped = [], Counter[str]()
    for example in examples:
        judgments = [example.completion]
        if config.objective != "sft":
            if example.rejected is None:
                dropped["no_wrong_judgment"] += 1
                continue
            judgments.append(example.rejected)
        prompt = encode_chat(tokenizer, example.messages)
        texts = [[*prompt, *encode_text(tokenizer, judgment), *end] for judgment in judgments]
        if max(map(len, texts)) > config.max_seq_len:
            dropped["too_long"] += 1
            continue
        arrays = tuple(np.array(text, dtype=np.int32) for text in texts)
        kept.append(ExampleTokens(id=example.id, texts=arrays, prompt_length=len(prompt)))
    return kept, dict(dropped)


def nothing_to_learn(tokens: Sequence[ExampleTokens]) -> ExampleTokens:
    """Two tokens without a label, for a rank without a micro-batch: ZeRO-3 needs all ranks in each layer."""
    return ExampleTokens(id="", texts=(tokens[0].texts[0][:2],), prompt_length=2)


def _stop_ids(tokenizer: PreTrainedTokenizerBase, model_directory: Path) -> set[int]:
    stops = {tokenizer.eos_token_id}
    settings = model_directory / "generation_config.json"
    if settings.exists():
        named = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id")
        stops |= set(named) if isinstance(named, list) else {named}
    return stops - {None}
