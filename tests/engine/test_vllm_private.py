"""Every private API of vLLM that the engine uses, by name: an upgrade that removes one fails the test of that name."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.engine.hosted import engine_environment
from stj.generate import Usage
from tests.private_api import exists, private_names

APIS = [
    "vllm.v1.engine.async_llm.AsyncLLM.output_processor",
    "vllm.v1.engine.async_llm.AsyncLLM.from_vllm_config.disable_log_stats",
    "vllm.v1.engine.async_llm.AsyncLLM.generate",
    "vllm.v1.engine.async_llm.AsyncLLM.encode",
    "vllm.v1.engine.async_llm.AsyncLLM.errored",
    "vllm.v1.engine.async_llm.AsyncLLM.collective_rpc",
    "vllm.v1.worker.gpu_worker.Worker.execute_dummy_batch",  # CPUWorker inherits it
    "vllm.v1.engine.async_llm.AsyncLLM.shutdown",
    "vllm.v1.engine.async_llm.AsyncLLM.model_config",
    "vllm.v1.engine.exceptions.EngineDeadError",
    "vllm.v1.engine.exceptions.EngineGenerateError",
    "vllm.v1.engine.output_processor.OutputProcessor.process_outputs",
    "vllm.v1.engine.EngineCoreOutput.new_token_ids",
    "vllm.v1.engine.EngineCoreOutput.prefill_stats",
    "vllm.v1.metrics.stats.PrefillStats.num_prompt_tokens",
    "vllm.v1.metrics.stats.PrefillStats.num_computed_tokens",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.llama",
    "vllm.envs.VLLM_WORKER_MULTIPROC_METHOD",
    "vllm.usage.usage_lib.UsageContext.LLM_CLASS",  # its batches
    "vllm.entrypoints.launchers.api_server.entry",  # judging/serve.py becomes this server
]
ENGINE = Path(__file__).parents[2] / "stj" / "engine"
ADAPTER = ENGINE / "vllm_private.py"


def on_cpu() -> dict[str, str]:
    return engine_environment(ModelConfig(), EngineConfig(device="cpu"))


@pytest.mark.parametrize("api", APIS)
def test_vllm_still_has(api: str) -> None:
    assert exists(api), f"this vLLM has no {api}: see {ADAPTER}"


@pytest.mark.parametrize("api", APIS)
def test_a_renamed_api_is_noticed(api: str) -> None:
    assert not exists(f"{api}_renamed")


@pytest.mark.parametrize("variable", sorted(name for name in on_cpu() if name.startswith("VLLM_")))
def test_vllm_still_reads(variable: str) -> None:
    assert exists(f"vllm.envs.{variable}")


@pytest.mark.parametrize("module", sorted(set(ENGINE.glob("*.py")) - {ADAPTER}), ids=lambda path: path.name)
def test_only_the_adapter_uses_private_apis(module: Path) -> None:
    assert "vllm.v1" not in module.read_text()
    assert not private_names(module, "vllm")


def test_all_v1_modules_of_the_adapter_are_tested() -> None:
    modules = set(re.findall(r"\bvllm\.v1\.[\w.]+", ADAPTER.read_text()))
    assert modules
    assert not {module for module in modules if not any(api.startswith(module) for api in APIS)}


@pytest.mark.engine
def test_the_usage_of_each_step_is_counted() -> None:
    """On vLLM's own values; importing them takes ten seconds."""
    from vllm.v1.engine import EngineCoreOutput
    from vllm.v1.metrics.stats import PrefillStats

    from stj.engine.vllm_private import UsageCounter

    processed: list[tuple[object, ...]] = []
    processor = SimpleNamespace(process_outputs=lambda *arguments: processed.append(arguments))
    counter = UsageCounter(SimpleNamespace(output_processor=processor))
    prefill = PrefillStats(num_prompt_tokens=10, num_computed_tokens=4)
    first = [EngineCoreOutput("a", [1], prefill_stats=prefill), EngineCoreOutput("b", [2, 3])]
    processor.process_outputs(first, 0.0)
    processor.process_outputs([EngineCoreOutput("a", [4])], 1.0)
    assert counter.usage == Usage(prompt_tokens=10, computed_tokens=4, output_tokens=4)
    assert processed[0] == (first, 0.0)
