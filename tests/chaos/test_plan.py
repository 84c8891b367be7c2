"""What a seed plans: the same each time, and over 20 seeds every kind of fault at every place."""

from collections import Counter

import pytest

from tests.chaos.plan import DRIVERS, ENGINES, EXPORTS, KINDS, PASSES, PLACES, kinds_at, plan_of

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_gives_the_same_plan_each_time_in_the_order_of_the_run(seed: int) -> None:
    plan = plan_of(seed)
    assert plan == plan_of(seed)
    assert plan.faults
    assert list(plan.faults) == sorted(plan.faults, key=lambda fault: (PLACES.index(fault.place), fault.share))


def test_seeds_differ() -> None:
    assert len({plan_of(seed).faults for seed in SEEDS}) == len(SEEDS)


def test_every_kind_and_every_place_occurs_in_20_seeds() -> None:
    faults = [fault for seed in SEEDS for fault in plan_of(seed).faults]
    kinds, places = Counter(fault.kind for fault in faults), Counter(fault.place for fault in faults)
    assert all(kinds[kind] >= 2 for kind in KINDS), kinds
    assert all(places[place] >= 2 for place in PLACES), places


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_can_have_a_victim_where_it_strikes(seed: int) -> None:
    plan = plan_of(seed)
    for fault in plan.faults:
        assert fault.kind in kinds_at(fault.place, two_workers=plan.two_workers)
        assert 0 <= fault.victim < 1
        assert 0 <= fault.share < 1


def test_ranks_die_in_trainings_and_engines_in_passes() -> None:
    for place in PLACES:
        kinds = set(kinds_at(place, two_workers=False))
        assert ("rank" in kinds) == (place in EXPORTS or place.endswith("/model"))
        assert (set(ENGINES) <= kinds) == (place in PASSES)
        assert set(DRIVERS) <= kinds
        assert "engine worker" not in kinds  # an engine without workers has none to lose
    assert "engine worker" in kinds_at("pairs", two_workers=True)
