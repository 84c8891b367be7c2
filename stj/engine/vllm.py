"""The engine: vLLM's AsyncLLM. Its continuous batching serves all rows in flight at once."""

import asyncio
import itertools
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vllm import SamplingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind

from stj.config import ChatOptions, EngineConfig, ModelConfig
from stj.engine.settings import engine_settings
from stj.engine.vllm_private import AsyncLLM, EngineDeadError, EngineGenerateError, UsageCounter
from stj.errors import EngineDied, ModelError, PromptTooLong, RequestFailed
from stj.generate import Completion, Sampling, Usage
from stj.models.chat import check_chat, encode_chat
from stj.models.locate import local_model
from stj.models.thinking import ThoughtReader
from stj.models.tokenizer import load_tokenizer, stop_ids
from stj.rows import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONG_CHARACTERS = 20_000  # Encode longer prompts in a thread: a second for 1 MB would block the event loop of all requests.


class VllmEngine:
    """One model on one or several devices, behind our `Engine` interface."""

    def __init__(
        self,
        llm: AsyncLLM,
        tokenizer: "PreTrainedTokenizerBase",
        options: ChatOptions,
        stops: Sequence[int],
        max_model_len: int,
    ) -> None:
        self._llm = llm
        self._counter = UsageCounter(llm)
        self._tokenizer = tokenizer
        self._options = options
        self._stops = list(stops)
        self._thoughts = ThoughtReader.of(tokenizer, options)
        self._max_model_len = max_model_len
        self._ids = itertools.count()

    @classmethod
    def start(cls, model: ModelConfig, config: EngineConfig, seed: int, *, fork_workers: bool = False) -> "VllmEngine":
        """Loads a model; must run in the event loop that later asks the engine.

        `fork_workers` needs a process without other threads: vLLM's workers are then forked, and import nothing again.

        Raises ModelError if the model is missing, or if its chat template cannot serve.
        """
        directory = local_model(model)
        path, options = str(directory), model.chat_options
        tokenizer = load_tokenizer(directory, model.path)
        check_chat(tokenizer, options)  # before the slow start
        stops = sorted(stop_ids(tokenizer, directory))
        quiet = {"use_tqdm_on_load": False, "disable_log_stats": True}
        settings = AsyncEngineArgs(**engine_settings(path, model, config, seed), **quiet).create_engine_config()
        if fork_workers:
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"  # on a CPU vLLM has just set it to "spawn"
        llm = AsyncLLM.from_vllm_config(settings, disable_log_stats=True)
        return cls(llm, tokenizer, options, stops, model.max_model_len)

    @classmethod
    def beside(cls, llm: AsyncLLM, options: ChatOptions, template: str | None) -> "VllmEngine":
        """Shares the engine of a running vLLM server and its chat template; None is the model's own.

        Raises ModelError if the chat template cannot serve.
        """
        directory = Path(llm.model_config.tokenizer)
        tokenizer = load_tokenizer(directory)
        if template:
            tokenizer.chat_template = template
        check_chat(tokenizer, options)
        return cls(llm, tokenizer, options, sorted(stop_ids(tokenizer, directory)), llm.model_config.max_model_len)

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """One completion.

        Raises PromptTooLong if the model's context leaves no room, RequestFailed if vLLM or the chat template refuses the
        request, and EngineDied if a worker process has ended.
        """
        long = sum(len(turn.content) for turn in messages) > _LONG_CHARACTERS
        encode = partial(encode_chat, self._tokenizer, messages, self._options)
        try:
            prompt = await asyncio.to_thread(encode) if long else encode()
        except ModelError as error:  # the template serves other dialogues, as check_chat has seen
            raise RequestFailed(str(error)) from None
        room = self._max_model_len - len(prompt)
        if room < 1:
            raise PromptTooLong(f"prompt of {len(prompt)} tokens, context of {self._max_model_len} tokens")
        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens, room),
            stop_token_ids=self._stops,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        request = self._llm.generate(TokensPrompt(prompt_token_ids=prompt), parameters, str(next(self._ids)))
        try:
            async for final in request:
                output = final.outputs[0]
        except EngineDeadError:
            raise EngineDied("a worker process of vLLM has ended") from None
        except (EngineGenerateError, ValueError) as error:
            raise RequestFailed(f"vLLM: {error}") from None
        written = output.token_ids[:-1] if output.finish_reason == "stop" else output.token_ids
        return Completion.of(
            self._thoughts.read(written, output.text),
            finish_reason=str(output.finish_reason),
            prompt_tokens=len(prompt),
            output_tokens=len(output.token_ids),
        )

    @property
    def usage(self) -> Usage:
        """Tokens of the engine since its start."""
        return self._counter.usage

    @property
    def died(self) -> bool:
        """Whether a worker process has ended. Requests that arrive at that moment would wait forever."""
        return bool(self._llm.errored)

    def close(self) -> None:
        """Ends the engine's processes."""
        self._llm.shutdown()
