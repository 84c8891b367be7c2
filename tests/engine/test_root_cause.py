"""Why an engine did not start, from logs as vLLM writes them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import EngineConfig, ModelConfig
from stj.engine.root_cause import root_cause, start_error
from stj.errors import CapacityError, ConfigError, ModelError

REPORTED = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
CPU, GPU = EngineConfig(device="cpu", kv_cache_gib=0.001), EngineConfig()


def printed(process: str, *lines: str) -> str:
    """Lines as vLLM's logger prints them in one of its processes."""
    return "".join(f"({process} pid=27) ERROR 11-26 06:41:04 [core.py:1510] {line}\n" for line in lines)


def raised(exception: str) -> list[str]:
    return ["Traceback (most recent call last):", '  File "x.py", line 1, in f', "    raise", exception]


KV = (
    "ValueError: To serve at least one request with the model's max seq len (2048), (0.01 GiB KV cache is needed, which is "
    "larger than the available KV cache memory (0.0 GiB). Based on the available memory, the estimated maximum model length "
    "is 288. Try increasing `gpu_memory_utilization`"
)
CORE = printed("EngineCore", "EngineCore failed to start.", *raised("ValueError: no weights for x"))
WORKERS = (
    printed("Worker_TP0", "WorkerProc failed to start.", *raised("torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB"))
    + printed("Worker_TP1", "WorkerProc failed to start.", *raised("RuntimeError: NCCL communicator was aborted"))
    + printed("EngineCore", *raised("Exception: WorkerProc initialization failed due to an exception in a background process."))
)
CHAIN = printed(
    "EngineCore",
    *raised("KeyError: 'layers.1'"),
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    *raised("ValueError: no module named layers.1"),
    "",
    "The above exception was the direct cause of the following exception:",
    "",
    *raised("RuntimeError: Worker failed to start"),
)


def interleaved(first: str, second: str) -> str:
    """Two processes write at once."""
    return "".join(f"{a}\n{b}\n" for a, b in zip(first.splitlines(), second.splitlines(), strict=True))


@pytest.mark.parametrize(
    ("reported", "log", "cause"),
    [
        (REPORTED, CORE, "ValueError: no weights for x"),
        (REPORTED, WORKERS, "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB"),
        (REPORTED, CHAIN, "ValueError: no module named layers.1"),
        (REPORTED, "Traceback (most recent call last):\n  File\nImportError: libfoo.so\n", "ImportError: libfoo.so"),
        (REPORTED, interleaved(CORE, CORE.replace("EngineCore pid", "Worker pid")), "ValueError: no weights for x"),
        (REPORTED, "", REPORTED),
        ("", "Killed\n", ""),
        ("TypeError: of our own", CORE, "TypeError: of our own"),
        (
            "ValidationError: 1 validation error for ModelConfig Value error, Model architectures ['Nope'] are not supported",
            "",
            "Model architectures ['Nope'] are not supported",
        ),
    ],
)
def test_the_first_failure_is_the_cause_and_reports_about_it_are_not(reported: str, log: str, cause: str) -> None:
    assert root_cause(reported, log) == cause


@given(st.lists(st.sampled_from([*CORE.splitlines(), *WORKERS.splitlines(), *CHAIN.splitlines(), "", "x", "  y"])))
def test_any_log_gives_one_line(lines: list[str]) -> None:
    assert "\n" not in root_cause(REPORTED, "\n".join(lines))


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", CapacityError),
        ("ValueError: Free memory on device cuda:0 (1.2/79.1 GiB) on startup is less than desired", CapacityError),
        ("torch.distributed.DistNetworkError: The server socket has failed to listen: EADDRINUSE", CapacityError),
        ("RuntimeError: NCCL error: unhandled system error", CapacityError),
        ("OSError: [Errno 28] No space left on device", CapacityError),
        (REPORTED, CapacityError),
        ("Exception: Call to collective_rpc method failed: cancelled", CapacityError),  # what a killed worker leaves
        ("Exception: Call to collective_rpc method failed: shape mismatch", ModelError),
        ("", CapacityError),
        ("ValueError: There is no module or parameter named 'layers.9' in LlamaModel", ModelError),
        ("RuntimeError: start (0) + length (512) exceeds dimension size (504).", ModelError),
        ("safetensors._safetensors_rust.SafetensorError: Error while deserializing header", ModelError),
        (KV, ConfigError),
    ],
)
def test_what_may_heal_is_a_lack_of_capacity_and_the_rest_is_wrong(cause: str, kind: type[Exception], tmp_path: Path) -> None:
    error = start_error(ModelConfig(path="/model"), CPU, cause, tmp_path / "engine.log")
    assert type(error) is kind
    assert str(error).startswith("/model: ")
    assert f"(log: {tmp_path / 'engine.log'} on " in str(error)
    assert "\n" not in str(error)


def test_a_worker_that_was_killed_leaves_only_reports(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    core = [
        *raised("RuntimeError: cancelled"),
        "EngineCore encountered a fatal error.",
        *raised("RuntimeError: Executor failed."),
    ]
    log.write_text(printed("EngineCore", "Worker proc VllmWorker-1 died unexpectedly (exit code: -9).", *core))
    error = start_error(ModelConfig(path="/model"), CPU, "Exception: Call to collective_rpc method failed: cancelled", log)
    assert type(error) is CapacityError


def test_a_kv_cache_that_does_not_fit_says_what_would(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(printed("EngineCore", *raised(KV)))
    on_cpu, on_gpu = (str(start_error(ModelConfig(path="/model"), config, REPORTED, log)) for config in (CPU, GPU))
    assert (
        "max_model_len=2048 tokens needs up to 0.02 GiB of KV cache on each device: set engine.kv_cache_gib=0.02 or more"
        in on_cpu
    )
    assert "or max_model_len=288 or less" in on_cpu
    assert "engine.gpu_memory_utilization" in on_gpu


def test_a_long_cause_is_cut(tmp_path: Path) -> None:
    assert len(str(start_error(ModelConfig(path="/m"), CPU, "ValueError: " + "x" * 10_000, tmp_path / "log"))) < 800
