"""The private APIs of vLLM that the engine uses, all in one place. An upgrade of vLLM may remove any of them.

tests/engine/test_vllm_private.py names each one and fails by that name. No other module imports from `vllm.v1`.
"""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from stj.generate import Usage

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreOutput

__all__ = ["AsyncLLM", "EngineDeadError", "EngineGenerateError", "UsageCounter", "import_cpu_modules"]

_CPU_MODULES = ("vllm.v1.worker.cpu_worker", "vllm.model_executor.models.llama")


class UsageCounter:
    """Counts an engine's tokens at each step, including those of aborted requests, whose completions never arrive.

    It reads the output of vLLM's core. With a stat logger, vLLM would also keep times of every request at every step.
    """

    def __init__(self, llm: AsyncLLM) -> None:
        self.usage = Usage()
        self._process_outputs = llm.output_processor.process_outputs
        llm.output_processor.process_outputs = self._count_and_process

    def _count_and_process(self, outputs: "Sequence[EngineCoreOutput]", *args: Any, **named: Any) -> Any:
        prefills = [output.prefill_stats for output in outputs if output.prefill_stats is not None]
        self.usage += Usage(
            prompt_tokens=sum(prefill.num_prompt_tokens for prefill in prefills),
            computed_tokens=sum(prefill.num_computed_tokens for prefill in prefills),
            output_tokens=sum(len(output.new_token_ids) for output in outputs),
        )
        return self._process_outputs(outputs, *args, **named)


def import_cpu_modules() -> None:
    """Imports the modules that a CPU engine needs beside vLLM itself. On a GPU they might touch the device before a fork."""
    for module in _CPU_MODULES:
        importlib.import_module(module)
