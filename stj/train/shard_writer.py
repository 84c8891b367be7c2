"""Writes shards in a thread, so that the next parameter is gathered while the last one is hashed and written."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from torch import Tensor

from stj.models.fetch import place_for_shards
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.train.shard import Shard, write_shard


class ShardWriter:
    """The shards that one rank writes, one after another.

    At most one tensor is in the thread: the caller waits with the next one until it is written. So a rank holds two parameters
    at most. An error of the thread is raised by the next call.

    If the model goes to an object store, the machine keeps its shards, so that an engine there need not fetch them.
    """

    def __init__(self, target: Folder) -> None:
        self._target = target
        self._keep = place_for_shards(target)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="export")
        self._work: Future[None] | None = None
        self._file = ExitStack()
        self._name = ""
        self._shard: Shard | None = None
        self._digests: dict[str, FileDigest] = {}

    def begin(self, name: str, layout: Mapping[str, Tensor]) -> None:
        """Begins a shard; `layout` is that of `write_shard`."""
        self._do(self._begin, name, layout)

    def add(self, tensor: Tensor) -> None:
        """Writes the next tensor of the shard, or a part of it; it must be on the host and may not change afterwards."""
        self._do(self._add, tensor)

    def end(self) -> None:
        """Ends the shard: after the next call that returns, it is whole on the disk or in the store."""
        self._do(self._end)

    def digests(self) -> dict[str, FileDigest]:
        """The digests of the shards, all of which are whole when this returns. Raises StjError if the disk is full."""
        self._wait()
        return self._digests

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        self._file.__exit__(kind, error, trace)

    def _do(self, work: Callable[..., None], *arguments: Any) -> None:
        self._wait()
        self._work = self._thread.submit(work, *arguments)

    def _wait(self) -> None:
        if self._work:
            self._work.result()

    def _begin(self, name: str, layout: Mapping[str, Tensor]) -> None:
        self._name, self._shard = name, self._file.enter_context(write_shard(self._target, name, layout, self._keep))

    def _add(self, tensor: Tensor) -> None:
        assert self._shard is not None, "no shard was begun"
        self._shard.add(tensor)

    def _end(self) -> None:
        assert self._shard is not None, "no shard was begun"
        self._file.close()
        self._digests[self._name], self._shard = self._shard.digest, None
