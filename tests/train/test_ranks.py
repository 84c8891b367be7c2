"""What ranks agree on: each sees the results of all, or all see the error of one."""

from types import SimpleNamespace
from typing import Any

import pytest

from stj.errors import ModelError
from stj.train import ranks


def with_others(others: list[Any], local_ranks: list[int], patch: pytest.MonkeyPatch) -> None:
    """This process is rank 0; the others send these values, or their numbers on their machines."""

    def gather(values: list[Any], mine: Any) -> None:
        values[:] = local_ranks if isinstance(mine, int) else [mine, *others]

    patch.setattr(ranks, "dist", SimpleNamespace(get_world_size=lambda: len(local_ranks), all_gather_object=gather))
    patch.setenv("LOCAL_RANK", str(local_ranks[0]))


def missing() -> str:
    raise ModelError("here it is missing")


def test_an_error_of_one_rank_is_raised_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with_others(["there"], [0, 1], monkeypatch)
    assert ranks.on_each_rank(lambda: "here") == ["here", "there"]
    with pytest.raises(ModelError, match="here it is missing"):
        ranks.on_each_rank(missing)
    with_others([ModelError("there it is missing")], [0, 1], monkeypatch)
    with pytest.raises(ModelError, match="there it is missing"):
        ranks.on_each_rank(lambda: "here")


def test_machines_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    with_others([], [0, 1, 2, 0, 1, 0], monkeypatch)
    assert ranks.first_ranks() == [0, 3, 5]
    assert ranks.ranks_in_turns() == [0, 3, 5, 1, 4, 2]
