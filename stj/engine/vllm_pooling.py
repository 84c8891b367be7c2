"""The engine of an embedding model: vLLM's AsyncLLM with its runner for pooling, which batches texts as it batches prompts."""

import asyncio
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from vllm import PoolingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext

from stj.config import EngineConfig, ModelConfig
from stj.engine.settings import engine_settings
from stj.engine.vllm_private import AsyncLLM, EngineDeadError, EngineGenerateError, UsageCounter
from stj.engine.weights import check_weights
from stj.engine.wire import Embedded
from stj.errors import EngineDied, RequestFailed
from stj.generate import Usage
from stj.models.fetch import held_model, plain_path
from stj.models.pooling import pooling_of, reading_of
from stj.models.text_tokens import TextTokens
from stj.models.tokenizer import load_tokenizer

_UNREAD = ("lm_head.", "pooler.")
"""Weights that many embedding models lack, and of which vLLM reads none: the head that writes, which training leaves out, and
that of BERT's family for its pretraining task."""


class PoolingEngine:
    """An embedding model on one or several devices."""

    def __init__(self, llm: AsyncLLM, tokens: TextTokens) -> None:
        self._llm = llm
        self._counter = UsageCounter(llm)
        self._tokens = tokens
        self._ids = itertools.count()

    @classmethod
    def start(cls, model: ModelConfig, config: EngineConfig, seed: int, *, fork_workers: bool = False) -> "PoolingEngine":
        """Loads a model, with max_model_len cut to its context; must run in the event loop that later asks the engine.

        `fork_workers` is as of VllmEngine. Raises ModelError if the model is missing, lacks some of its weights, or does not
        say how its vectors are pooled.
        """
        path = plain_path(held_model(model))
        pooling_of(path, model.path)
        tokenizer, reading = load_tokenizer(path, model.path), reading_of(path, model)
        if model.load_format == "auto":
            check_weights(str(path), model.label, _UNREAD)
        quiet = {"use_tqdm_on_load": False, "disable_log_stats": True}
        arguments = {**engine_settings(str(path), model, config, seed), **quiet, "runner": "pooling"}
        context = AsyncEngineArgs(**{**arguments, "max_model_len": None}).create_model_config().max_model_len
        arguments["max_model_len"] = min(model.max_model_len, context, reading.tokens or context)
        settings = AsyncEngineArgs(**arguments).create_engine_config(UsageContext.LLM_CLASS)
        if fork_workers:
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"  # on a CPU vLLM has just set it to "spawn"
        llm = AsyncLLM.from_vllm_config(settings, disable_log_stats=True)
        return cls(llm, TextTokens(tokenizer, llm.model_config.max_model_len, lowers=reading.lowers))

    async def run_dummy_batch(self) -> None:
        """As that of VllmEngine."""
        await self._llm.collective_rpc("execute_dummy_batch")

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """A vector for each text, in order; longer texts than the model reads are cut as its tokenizer cuts them.

        Raises RequestFailed if vLLM refuses a text, and EngineDied if a worker process has ended.
        """
        prompts, cut = await asyncio.to_thread(self._tokens.of, texts)
        vectors = await asyncio.gather(*map(self._vector, prompts))
        return Embedded(vectors=np.stack(vectors), cut=cut)

    async def _vector(self, prompt: list[int]) -> Any:
        """The vector of a prompt, as the model gives it: of any length. Zeros for a prompt without tokens."""
        if not prompt:
            return np.zeros(self._llm.model_config.embedding_size, np.float32)
        parameters = PoolingParams(task="embed", use_activation=False)
        request = self._llm.encode(TokensPrompt(prompt_token_ids=prompt), parameters, str(next(self._ids)))
        try:
            async for final in request:
                output = final.outputs.data
        except EngineDeadError:
            raise EngineDied("a worker process of vLLM has ended") from None
        except (EngineGenerateError, ValueError) as error:
            raise RequestFailed(f"vLLM: {error}") from None
        return output.float().cpu().numpy()

    @property
    def usage(self) -> Usage:
        """Tokens of the engine since its start."""
        return self._counter.usage

    @property
    def died(self) -> bool:
        """Whether a worker process has ended."""
        return bool(self._llm.errored)

    def close(self) -> None:
        """Ends the engine's processes."""
        self._llm.shutdown()
