"""A type of machine that the cloud does not have now: another one is asked for."""

from typing import Any

import pytest

from stj.passes import stock
from stj.passes.machines import Machines
from stj.passes.stock import OtherType, substitute
from tests.passes.test_machines import HEAD, demand, kind

SPOT, ON_DEMAND = kind("spot", 4, market_type="spot"), kind("on-demand", 2, market_type="on-demand")
ENGINE = demand(1, gpus=8)


def machines(*types: Any, live: tuple[Any, ...] = ()) -> Machines:
    return Machines(source="file", types=types, live=[HEAD, *live])


@pytest.mark.parametrize(
    ("cluster", "asked", "other"),
    [
        (machines(SPOT, ON_DEMAND), ENGINE, "on-demand"),
        (machines(SPOT, ON_DEMAND, kind("reserved", 3, market_type="reserved")), ENGINE, "reserved"),  # holds more
        (machines(SPOT), ENGINE, None),
        (machines(SPOT, ON_DEMAND), demand(1, gpus=8, market_type="spot"), None),  # the user wants no other
        (machines(SPOT, kind("small", 9, {"CPU": 8, "GPU": 4}, market_type="on-demand")), ENGINE, None),
        (machines(SPOT, ON_DEMAND, live=(kind("on-demand", 1), kind("on-demand", 1))), ENGINE, None),  # all are there
        (machines(SPOT, kind("like-spot", 9, market_type="spot")), ENGINE, None),  # its labels would mean spot as well
        (machines(SPOT, kind("unlabelled", 9)), ENGINE, None),
    ],
)
def test_the_other_type_is_as_good_and_can_be_named_by_its_labels(cluster: Machines, asked: Any, other: str | None) -> None:
    chosen = substitute(cluster, asked, {"spot"})
    assert (chosen and chosen.name) == other


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests to the autoscaler, the clock's time in their first place."""
    asked: list[Any] = []
    clock = iter(range(0, 100000, 25))
    monkeypatch.setattr(stock.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(stock, "machines_of_cluster", lambda: machines(SPOT, ON_DEMAND))
    monkeypatch.setattr(stock, "hold_machines", lambda name, *request: asked.append(request))
    monkeypatch.setattr(stock, "release_machines", lambda name: asked.append("end"))
    return asked


def test_another_type_is_asked_for_after_a_minute_until_an_engine_has_a_machine(requests: list[Any]) -> None:
    other = OtherType(ENGINE)
    for _ in range(3):
        other.look({"spot"}, 3, 3)
    assert not requests
    for _ in range(4):
        other.look({"spot"}, 3, 3)
    assert len(requests) > 1  # renewed
    assert requests[0] == ([{"CPU": 1, "GPU": 8}] * 2, {"market-type": "on-demand"}, 60.0)
    other.look({"spot"}, 2, 3)
    assert requests[-1] == "end"
    count = len(requests)
    other.look({"spot"}, 2, 3)
    other.end()
    assert len(requests) == count


def test_a_type_that_comes_after_all_is_waited_for(requests: list[Any]) -> None:
    other = OtherType(ENGINE)
    for refused in [{"spot"}, set(), {"spot"}, set()] * 5:
        other.look(refused, 1, 1)
    assert not requests
