"""The engine: vLLM's AsyncLLM. Its continuous batching serves all rows in flight at once."""

import asyncio
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vllm import SamplingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.logprobs import Logprob
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.usage.usage_lib import UsageContext

from stj.config import EngineConfig, ModelConfig
from stj.engine.settings import adapter_settings, engine_settings
from stj.engine.vllm_private import AsyncLLM, EngineDeadError, EngineGenerateError, UsageCounter
from stj.engine.weights import check_weights
from stj.errors import EngineDied, ModelError, PromptTooLong, RequestFailed
from stj.generate import Completion, Sampling, SeededSampling, Token, TracedSampling, Usage
from stj.model_settings import ChatOptions
from stj.models.adapter import has_tokenizer
from stj.models.chat import check_chat, encode_chat, fewest_tokens
from stj.models.fetch import held_model, plain_path
from stj.models.locate import adapter_of
from stj.models.thinking import ThoughtReader
from stj.models.tokenizer import load_tokenizer, stop_ids
from stj.rows import Turn
from stj.text import without_surrogates

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CAUSE_CHARACTERS = 300  # vLLM's message may list every layer of the model.
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
        adapter: LoRARequest | None = None,
    ) -> None:
        self._llm = llm
        self._counter = UsageCounter(llm)
        self._tokenizer = tokenizer
        self._options = options
        self._stops = list(stops)
        self._thoughts = ThoughtReader.of(tokenizer, options)
        self._max_model_len = max_model_len
        self._adapter = adapter
        self._ids = itertools.count()
        self._one_long_prompt = asyncio.Lock()  # A tokenizer takes some 100 bytes of memory for each character.

    @classmethod
    def start(cls, model: ModelConfig, config: EngineConfig, seed: int, *, fork_workers: bool = False) -> "VllmEngine":
        """Loads a model; must run in the event loop that later asks the engine.

        `fork_workers` needs a process without other threads: vLLM's workers are then forked, and import nothing again.

        Raises ModelError if the model is missing, lacks some of its weights, or if its chat template cannot serve.
        """
        adapter, path = adapter_of(model), plain_path(held_model(model))
        base = plain_path(held_model(adapter.base)) if adapter else path
        tokenizer_at, options = path if has_tokenizer(path) else base, model.chat_options
        tokenizer = load_tokenizer(tokenizer_at, model.path)
        check_chat(tokenizer, options)  # before the slow start
        stops = sorted(stop_ids(tokenizer, tokenizer_at))
        if model.load_format == "auto":
            check_weights(str(base), model.label)
        quiet = {"use_tqdm_on_load": False, "disable_log_stats": True}
        arguments = {**engine_settings(str(base), model, config, seed), **adapter_settings(adapter, str(path)), **quiet}
        # Batches as large as those of vllm.LLM: without a context vLLM takes 2,048 tokens, on an H100 an eighth of them.
        settings = AsyncEngineArgs(**arguments).create_engine_config(UsageContext.LLM_CLASS)
        if fork_workers:
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"  # on a CPU vLLM has just set it to "spawn"
        llm = AsyncLLM.from_vllm_config(settings, disable_log_stats=True)
        return cls(llm, tokenizer, options, stops, model.max_model_len, _adapter_request(str(path)) if adapter else None)

    @classmethod
    def beside(cls, llm: AsyncLLM, options: ChatOptions, template: str | None, adapter: str | None = None) -> "VllmEngine":
        """Shares the engine of a running vLLM server and its chat template; None is the model's own.

        `adapter` is the directory of the server's only adapter, if it has one. Raises ModelError if the chat template cannot
        serve.
        """
        directory = Path(llm.model_config.tokenizer)
        tokenizer = load_tokenizer(directory)
        if template:
            tokenizer.chat_template = template
        check_chat(tokenizer, options)
        stops, request = sorted(stop_ids(tokenizer, directory)), _adapter_request(adapter) if adapter else None
        return cls(llm, tokenizer, options, stops, llm.model_config.max_model_len, request)

    async def load_adapter(self) -> None:
        """Loads the model's adapter, if it is one: otherwise vLLM would do so at the first request.

        Raises ModelError if vLLM cannot load it, for example because its base has no such layers.
        """
        if self._adapter:
            try:
                await self._llm.add_lora(self._adapter)
            except Exception as error:  # vLLM carries any error of its worker here
                cause = " ".join(str(error).split())[:_CAUSE_CHARACTERS]
                raise ModelError(f"model {self._adapter.lora_path}: vLLM cannot load this adapter: {cause}") from None

    async def run_dummy_batch(self) -> None:
        """Has every worker compute a token: for CPU engines of several workers, which vLLM starts without a warm-up.

        The warm-up makes the tensors into which a stage of a pipeline receives; without them the first request ends the engine.
        It also compiles the lookup of a part of the embeddings, which takes seconds.
        """
        await self._llm.collective_rpc("execute_dummy_batch")

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """One completion.

        Raises PromptTooLong if the model's context leaves no room, RequestFailed if vLLM or the chat template refuses the
        request, and EngineDied if a worker process has ended.
        """
        prompt = await self._prompt(messages)
        room = self._max_model_len - len(prompt)
        if room < 1:
            raise PromptTooLong(f"prompt of {len(prompt)} tokens, context of {self._max_model_len} tokens")
        parameters = self._parameters(sampling, room)
        request = self._llm.generate(
            TokensPrompt(prompt_token_ids=prompt), parameters, str(next(self._ids)), lora_request=self._adapter
        )
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
            tokens=_tokens(written, output.logprobs or ()),
        )

    async def _prompt(self, messages: Sequence[Turn]) -> list[int]:
        """The ids of a prompt.

        Raises RequestFailed if the chat template refuses the messages, and PromptTooLong if they cannot fit in the context.
        """
        long = sum(len(turn.content) for turn in messages) > _LONG_CHARACTERS
        encode = partial(encode_chat, self._tokenizer, messages, self._options, self._max_model_len - 1)
        try:
            if not long:
                return encode()
            async with self._one_long_prompt:
                return await asyncio.to_thread(encode)
        except PromptTooLong as error:
            raise PromptTooLong(f"{error}, context of {self._max_model_len} tokens") from None
        except ModelError as error:  # the template serves other dialogues, as check_chat has seen
            raise RequestFailed(str(error)) from None

    def _parameters(self, sampling: Sampling, room: int) -> SamplingParams:
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens, room),
            stop_token_ids=self._stops,
            seed=sampling.seed if isinstance(sampling, SeededSampling) else None,
            logprobs=(sampling.choices or None) if isinstance(sampling, TracedSampling) else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    @property
    def usage(self) -> Usage:
        """Tokens of the engine since its start."""
        return self._counter.usage

    @property
    def longest_token(self) -> int:
        """The bytes of the vocabulary's longest token; 0 if that is not known."""
        return fewest_tokens(self._tokenizer).longest

    def check_room(self, texts: Sequence[str]) -> None:
        """Raises PromptTooLong, at once, if a prompt that shows all these texts can never fit in the context.

        White space at their ends does not count: a chat template may leave it out.
        """
        if sum(map(len, texts)) > _LONG_CHARACTERS:
            fewest = sum(fewest_tokens(self._tokenizer)(without_surrogates(text).strip()) for text in texts)
            if fewest >= self._max_model_len:
                raise PromptTooLong(f"prompt of at least {fewest} tokens, context of {self._max_model_len} tokens")

    @property
    def died(self) -> bool:
        """Whether a worker process has ended. Requests that arrive at that moment would wait forever."""
        return bool(self._llm.errored)

    def close(self) -> None:
        """Ends the engine's processes."""
        self._llm.shutdown()


def _tokens(ids: Sequence[int], choices: "Sequence[Mapping[int, Logprob]]") -> tuple[Token, ...]:
    """The written tokens with the likeliest ones in their places, if vLLM was asked for them."""
    return tuple(
        Token(
            text=there[written].decoded_token or "",
            choices=tuple((choice.decoded_token or "", math.exp(choice.logprob)) for choice in there.values()),
        )
        for written, there in zip(ids, choices, strict=False)  # no choices were asked for, or one more: of the stop token
    )


def _adapter_request(directory: str) -> LoRARequest:
    """What vLLM wants beside each request; 1 is the number of the only adapter, for a server too."""
    return LoRARequest(lora_name=directory, lora_int_id=1, lora_path=directory)
