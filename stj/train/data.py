"""Examples as token ids: the judge's prompt, then the judgment to learn with its end-of-turn token."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from stj.errors import ModelError, PromptTooLong, TrainingFailed
from stj.model_settings import NO_CHAT_OPTIONS, ChatOptions
from stj.models.chat import encode_chat, encode_reply, is_mistral
from stj.models.template import template_of, with_options
from stj.models.thinking import prompt_thought
from stj.models.tokenizer import load_tokenizer, stop_ids
from stj.rows import Example, example_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.thoughts import thought_behind
from stj.train.job import TrainingJob
from stj.train.ranks import on_each_rank
from stj.train_config import TrainConfig

_MARKER = "\ue000"  # a private-use character: no template holds it


@dataclass(frozen=True, kw_only=True)
class ExampleTokens:
    """One example as token ids."""

    id: str
    texts: tuple[NDArray[np.int32], ...]
    """The prompt with the judgment and its end-of-turn token; for a preference, first with the right judgment, then with the
    wrong one."""
    prompt_length: int
    difficulty: float | None = None
    """Place in a curriculum, from 0 (first) to 1; None if it has none."""

    @property
    def length(self) -> int:
        """Tokens of all texts together."""
        return sum(map(len, self.texts))

    @property
    def counts(self) -> tuple[int, ...]:
        """Supervised tokens of each text: its judgment and the end-of-turn token."""
        return tuple(len(text) - self.prompt_length for text in self.texts)


def read_tokens(job: TrainingJob, directory: Path) -> tuple[list[ExampleTokens], dict[str, int]]:
    """The examples as tokens, and how many were dropped, by reason.

    Each of R ranks encodes every R-th example, and they exchange them: encoding takes some 5 ms an example. All ranks must call
    it; a process that is no rank encodes all.

    Raises TrainingFailed if no example is left. Raises ModelError, on all ranks, if one of them cannot encode its examples.
    """
    if dist.is_initialized():
        by_rank = on_each_rank(lambda: list(encoded_examples(job, directory, dist.get_rank(), dist.get_world_size())))
    else:
        by_rank = [list(encoded_examples(job, directory))]
    # Example n is the (n // R)-th of rank n % R; the last ranks may have one less.
    in_order = [example for turn in zip_longest(*by_rank) for example in turn if example is not None]
    tokens, dropped = kept_examples(in_order)
    require_examples(job, len(tokens), dropped)
    return tokens, dropped


def require_examples(job: TrainingJob, left: int, dropped: Mapping[str, int]) -> None:
    """Raises TrainingFailed if no example is left."""
    if not left:
        raise TrainingFailed(
            f"{job.examples}: no examples to train on ({dropped.get('too_long', 0)} are longer than "
            f"max_seq_len={job.config.max_seq_len} tokens, {dropped.get('no_wrong_judgment', 0)} have no wrong judgment). "
            "Raise max_seq_len, or select more"
        )


def encoded_examples(job: TrainingJob, directory: Path, rank: int = 0, ranks: int = 1) -> Iterator[ExampleTokens | str]:
    """A rank's examples, every `ranks`-th, each as tokens or as the reason why it is dropped."""
    tokenizer, options = load_tokenizer(directory), job.seed_model.chat_options
    examples = map(example_from_dict, islice(read_artifact(Folder.at(job.examples)).records(), rank, None, ranks))
    end = end_of_turn(tokenizer, directory, options)
    return encode_examples(tokenizer, examples, end, job.config, options)


def kept_examples(encoded: Iterable[ExampleTokens | str]) -> tuple[list[ExampleTokens], dict[str, int]]:
    """The examples that are left, in their order, and how many are not, by reason."""
    kept, dropped = [], Counter[str]()
    for example in encoded:
        if isinstance(example, str):
            dropped[example] += 1
        else:
            kept.append(example)
    return kept, dict(dropped)


def end_of_turn(tokenizer: PreTrainedTokenizerBase, model_directory: Path, options: ChatOptions = NO_CHAT_OPTIONS) -> list[int]:
    """Token ids that the chat template writes after an assistant's message, up to the id at which generation stops.

    Raises ModelError if there is no template, or neither it nor the tokenizer has such a token.
    """
    stops = stop_ids(tokenizer, model_directory)
    if not stops:
        raise ModelError(
            f"model {model_directory}: no token ends an assistant's message: set eos_token in tokenizer_config.json "
            "or eos_token_id in generation_config.json"
        )
    ids = [] if is_mistral(tokenizer) else _after_an_answer(tokenizer, options)
    end = next((position for position, token in enumerate(ids) if token in stops), None)
    if end is not None:
        return ids[: end + 1]
    return [min(stops) if tokenizer.eos_token_id is None else tokenizer.eos_token_id]


def _after_an_answer(tokenizer: PreTrainedTokenizerBase, options: ChatOptions) -> list[int]:
    dialogue = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARKER}]
    template = with_options(template_of(tokenizer), options)
    tail = tokenizer.apply_chat_template(dialogue, chat_template=template, tokenize=False).rpartition(_MARKER)[2]
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"]
    return ids


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Example],
    end: Sequence[int],
    config: TrainConfig,
    options: ChatOptions = NO_CHAT_OPTIONS,
) -> Iterator[ExampleTokens | str]:
    """Examples in their order, each as tokens or as the reason why it is dropped.

    A completion is what the model must write behind the prompt that it will see: the thought to learn, if there is any, then
    the judgment. If the template opens a thought and there is none to learn, the completion closes it at once.

    The reasons: "too_long" if a text has more than max_seq_len tokens, "no_wrong_judgment" if a preference has only one side.
    """
    opened = prompt_thought(tokenizer, options)
    for example in examples:
        judgments = [(example.thought, example.completion)]
        if config.objective != "sft":
            if example.rejected is None:
                yield "no_wrong_judgment"
                continue
            judgments.append((example.rejected_thought, example.rejected))
        most, messages = config.max_seq_len, example.messages
        try:
            prompt = encode_chat(tokenizer, messages, options, most)
            texts = [
                [*encode_reply(tokenizer, messages, judgment, options, thought_behind(opened, thought), most), *end]
                for thought, judgment in judgments
            ]
        except PromptTooLong:
            texts = []
        if not texts or max(map(len, texts)) > most:
            yield "too_long"
            continue
        arrays = tuple(np.array(text, dtype=np.int32) for text in texts)
        yield ExampleTokens(id=example.id, texts=arrays, prompt_length=len(prompt), difficulty=example.difficulty)


def nothing_to_learn(tokens: Sequence[ExampleTokens]) -> ExampleTokens:
    """Two tokens without a label, for a rank without a micro-batch: ZeRO-3 needs all ranks in each layer."""
    return ExampleTokens(id="", texts=(tokens[0].texts[0][:2],), prompt_length=2)
