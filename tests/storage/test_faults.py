"""Full disks in the words of the libraries that meet them. Each error is a real one: a write to /dev/full or over a limit."""

import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from stj.errors import ModelError, StorageFailed
from stj.storage.faults import storage_fault


def error_of(write: Callable[[], object]) -> BaseException:
    """The error that a write raises, as the cause of another one, which is how libraries report it."""
    try:
        try:
            write()
        except Exception as error:
            raise RuntimeError("the library failed") from error
    except RuntimeError as error:
        return error
    raise AssertionError("nothing was raised")


def plain() -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (plain, "No space left on device"),  # its error names no file
        (lambda: torch.save(torch.zeros(4), "/dev/full"), "the disk took only a part of a file"),
        (lambda: Tokenizer(models.BPE()).save("/dev/full"), "No space left on device"),
    ],
    ids=["python", "torch", "tokenizers"],
)
def test_a_full_disk_is_found_behind_the_words_of_a_library(write: Callable[[], object], reason: str, tmp_path: Path) -> None:
    fault = storage_fault(error_of(write), ["s3://bucket/run", str(tmp_path / "not" / "there")])
    assert isinstance(fault, StorageFailed)
    assert f"cannot write: {reason}" in str(fault)
    assert str(fault).startswith(f"{tmp_path}/not/there: ")
    assert "\n" not in str(fault)


def test_a_file_over_the_limit_of_its_size(tmp_path: Path) -> None:
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        error = error_of(lambda: save_file({"weight": np.zeros(10_000)}, tmp_path / "model.safetensors"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    fault = storage_fault(error, [str(tmp_path)])
    assert fault is not None
    assert str(fault).startswith(f"{tmp_path}: cannot write: ")


def test_other_errors_are_none_of_a_disk(tmp_path: Path) -> None:
    for error in (ValueError("No such setting"), OSError(11, "Try again"), ModelError("No space left on device, it says")):
        assert storage_fault(error, [str(tmp_path)]) is None
    full = StorageFailed("full")
    assert storage_fault(error_of(lambda: (_ for _ in ()).throw(full)), []) is full
