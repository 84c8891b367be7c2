"""The peak of the memory that tensors hold on a CPU, counted tensor by tensor."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Live(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of live tensors, each storage once."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[int] = set()
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)}
        result = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage(), before)
        return result

    def _count(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        key = storage._cdata
        if key in before or key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def peak_bytes(loss: Callable[[], torch.Tensor], kept: int) -> int:
    """Peak bytes of live tensors in forward and backward of a loss, without `kept`, the bytes of the weight's gradient."""
    with _Live() as live:
        torch.autograd.backward(loss())
    return live.peak - kept
