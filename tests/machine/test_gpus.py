"""The GPUs of this machine, from NVML's answers. No GPU is needed."""

import sys
from types import SimpleNamespace

import pytest

from stj.machine.gpus import _visible, gpus_here


@pytest.mark.parametrize(("visible", "busy"), [(None, 2), ("0,1", 1), ("1, 2", 0), ("", 0), ("3,7", 1), ("GPU-a,GPU-b", 1)])
def test_only_visible_gpus_count(visible: str | None, busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert sum(_visible([True, False, False, True])) == busy


def test_a_gpu_of_which_others_use_the_larger_part_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total, free = 80 * 2**30, 7 * 2**30

    class Desktop:
        total, free = 24 * 2**30, 21 * 2**30

    nvml = SimpleNamespace(
        NVMLError=OSError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: (Card, Desktop)[index],
        nvmlDeviceGetName=lambda card: card.__name__,
        nvmlDeviceGetMemoryInfo=lambda card: card,
        nvmlSystemGetDriverVersion=lambda: "580.65.06",
        nvmlSystemGetCudaDriverVersion_v2=lambda: 13000,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    here = gpus_here()
    assert here is not None
    assert (here.names, here.memory_gb, here.busy) == (("Card", "Desktop"), 24 * 2**30 / 1e9, 1)
    assert here.driver.version == "580.65.06"


def test_this_machine_is_asked_without_starting_cuda() -> None:
    here = gpus_here()
    assert here is None or here.names
