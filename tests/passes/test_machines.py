"""What a cluster can ever hold, from its autoscaler's configuration and the machines that are there."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import CapacityError
from stj.passes.demand import Demand
from stj.passes.machines import NO_LIMIT, Machines, MachineType, matches
from stj.passes.session import training_demand
from stj.train_config import TrainConfig

GPU = {"CPU": 96, "GPU": 8}


def demand(bundles: int, cpus: float = 1, gpus: float = 0, helpers: float = 0, **place: str) -> Demand:
    names = {"setting": "engine.min_replicas", "noun": "engines", "place_setting": "engine.place"}
    labels = {label.replace("_", "-"): value for label, value in place.items()}
    return Demand(**names, bundles=bundles, cpus=cpus, gpus=gpus, place=labels, helper_cpus=helpers)  # type: ignore[arg-type]


def kind(name: str, most: int, resources: Mapping[str, float] = GPU, least: int = 0, **labels: str) -> MachineType:
    named = {label.replace("_", "-"): value for label, value in labels.items()}
    return MachineType(name=name, resources=resources, labels=named, most=most, least=least)


HEAD = kind("head", 1, {"CPU": 16})
GROWS = Machines(
    source="file",
    types=[kind("spot", 4, market_type="spot"), kind("on-demand", 2, market_type="on-demand")],
    live=[HEAD],
    limit=5,
)


@pytest.mark.parametrize(
    ("asked", "room"),
    [
        (demand(1, gpus=8), 5),  # six machines, but five in all
        (demand(1, gpus=3), 10),  # two on each machine: no engine spans machines
        (demand(1, gpus=9), 0),
        (demand(1, gpus=1, market_type="on-demand"), 16),
        (demand(1, gpus=1, market_type="gold"), 0),
        (demand(1, cpus=17), 25),  # the head is too small
        (demand(1, cpus=16), 31),
        (demand(1, cpus=0.1, gpus=8), 5),
    ],
)
def test_the_room_of_a_cluster_is_counted_by_machine(asked: Demand, room: int) -> None:
    assert GROWS.room(asked) == room


def test_the_limit_of_all_machines_goes_to_the_types_that_hold_the_most() -> None:
    types = [kind("small", 3, {"CPU": 8, "GPU": 1}), kind("large", 2)]
    assert Machines(source="file", types=types, limit=3).room(demand(1, gpus=1)) == 17


def test_machines_that_are_there_count_even_if_the_configuration_has_fewer() -> None:
    here = Machines(source="file", types=[kind("gpu", 1)], live=[HEAD, kind("gpu", 1), kind("gpu", 1)], limit=1)
    assert here.room(demand(1, gpus=8)) == 2
    assert here.room_now(demand(1, gpus=8)) == 2


def test_machines_that_are_there_count_with_what_they_have() -> None:
    """A group of which the autoscaler knows no GPU, as for MIG, may still have machines with GPUs."""
    sliced = [kind("mig", 1, {"CPU": 8, "GPU": 7}), kind("mig", 1, {"CPU": 8, "GPU": 7})]
    here = Machines(source="file", types=[kind("mig", 2, {"CPU": 8}), kind("gpu", 1)], live=[HEAD, *sliced], limit=3)
    assert here.room(demand(1, gpus=1)) == 2 * 7 + 8


def test_machines_that_are_kept_leave_less_of_the_limit() -> None:
    types = [kind("always", 3, {"CPU": 8}, least=3), kind("gpu", 4)]
    assert Machines(source="file", types=types, live=[HEAD], limit=4).room(demand(1, gpus=8)) == 1
    assert Machines(source="file", types=types, live=[HEAD]).room(demand(1, gpus=8)) == 4


def test_rays_own_labels_are_known_once_a_machine_is_there() -> None:
    place = {"ray.io/accelerator-type": "H100"}
    asked = replace(demand(1, gpus=8), place=place)
    with pytest.raises(CapacityError, match=r"no machine of the cluster has such labels.*the autoscaler knows a type"):
        Machines(source="file", types=[kind("gpu", 4)], live=[HEAD]).refuse_impossible(asked)
    kept = Machines(source="file", types=[kind("gpu", 4, least=1)], live=[HEAD])
    assert kept.room(asked) is None  # it will have its label, whatever it is
    labelled = replace(kind("gpu", 1), labels=place)
    assert Machines(source="static", live=[HEAD, labelled]).room(asked) == 1


NO_CPU, FULL = kind("head", 1, {}), kind("gpu", 4, {"CPU": 1, "GPU": 1})


@pytest.mark.parametrize(
    ("cluster", "at_once"),
    [
        (Machines(source="file", types=[FULL], live=[HEAD], limit=4), 9),  # the file may come to allow more
        (Machines(source="file", types=[FULL], live=[NO_CPU], limit=4), 2),  # two CPUs read rows
        (Machines(source="file", types=[FULL, kind("cpu", 1, {"CPU": 2})], live=[NO_CPU], limit=5), 9),
        (Machines(source="static", live=[HEAD, *[FULL] * 3]), 3 * 4),
        (Machines(source="unknown", live=[NO_CPU]), 9),
    ],
)
def test_engines_are_asked_for_at_once_unless_they_would_take_the_cpus_of_reading(cluster: Machines, at_once: int) -> None:
    assert cluster.at_once(demand(1, cpus=1, gpus=1, helpers=2), 9) == min(at_once, 9)


def test_no_machine_that_can_come_is_left_out_for_one_that_has_more_gpus() -> None:
    """Three machines with GPUs and one with CPUs hold three engines and what reads their rows."""
    types = [FULL, kind("cpu", 4, {"CPU": 16})]
    Machines(source="file", types=types, live=[NO_CPU], limit=4).refuse_impossible(demand(3, gpus=1, helpers=2))


def test_cpus_are_kept_for_reading() -> None:
    """If engines took every CPU of a cluster, no task could read rows for them."""
    static = Machines(source="static", live=[kind("here", 1, {"CPU": 2})])
    words = r"engine.min_replicas=2: the cluster can hold 0 engines \(1 CPU each\) beside the 2 CPUs that are kept for reading"
    with pytest.raises(CapacityError, match=words):
        static.refuse_impossible(demand(2, helpers=2))
    static.refuse_impossible(demand(2))


SIZES = st.builds(lambda cpus, gpus: {"CPU": cpus, "GPU": gpus}, st.integers(0, 4), st.integers(0, 4))
TYPES = st.lists(
    st.builds(lambda most, size, least: (most, size, least), st.integers(1, 3), SIZES, st.integers(0, 1)), max_size=3
)


@given(TYPES, SIZES, st.integers(3, 6), st.integers(0, 2), st.integers(0, 2), st.sampled_from([0, 2]))
def test_only_what_no_choice_of_machines_can_hold_is_refused(
    types: list[Any], head: dict[str, float], limit: int, cpus: int, gpus: int, helpers: int
) -> None:
    asked = demand(1, cpus=cpus, gpus=gpus, helpers=helpers)
    kinds = [kind(str(number), *facts) for number, facts in enumerate(types)]
    there = kind("head node", 1, head)

    def held(numbers: Sequence[int]) -> int:
        chosen = [there, *(machine for machine, number in zip(kinds, numbers, strict=True) for _ in range(number))]
        bundles = sum(machine.holds(asked) for machine in chosen)
        left = sum(machine.resources["CPU"] for machine in chosen) - helpers
        return min(bundles, max(0, int(left // cpus))) if helpers and cpus else bundles

    choices = itertools.product(*(range(machine.least, machine.most + 1) for machine in kinds))
    most = max(held(numbers) for numbers in choices if sum(numbers) <= limit)
    room = Machines(source="file", types=kinds, live=[there], limit=limit).room(asked)
    assert room is not None
    assert room >= most
    assert helpers or room == most


def test_a_refusal_names_what_is_asked_what_can_be_had_and_the_types() -> None:
    types = "spot .up to 4 with 96 CPUs, 8 GPUs each; market-type=spot., on-demand"
    with pytest.raises(CapacityError, match=f"=6: the cluster can hold 5 engines .1 CPU, 8 GPUs each.*5 machines of {types}"):
        GROWS.refuse_impossible(demand(6, gpus=8))
    with pytest.raises(CapacityError, match=f"take 1 CPU, 16 GPUs each, of one machine, and none is that large.*{types}"):
        GROWS.refuse_impossible(demand(1, gpus=16))
    with pytest.raises(CapacityError, match=f"engine.place={{market-type: gold}}: no machine of the cluster.*{types}"):
        GROWS.refuse_impossible(demand(1, gpus=8, market_type="gold"))


def test_a_place_is_refused_where_the_autoscaler_does_not_read_labels() -> None:
    """The autoscaler v1 would start on-demand machines for engines that only spot machines may run."""
    at_spot = demand(2, gpus=8, market_type="spot")
    old = replace(GROWS, reads_labels=False)
    with pytest.raises(CapacityError, match=r"engine.place={market-type: spot}: the autoscaler v1 does not read labels.*_v2=1"):
        old.refuse_impossible(at_spot)
    old.refuse_impossible(demand(2, gpus=8))
    replace(old, types=old.types[:1]).refuse_impossible(at_spot)  # no other type could be started
    there = replace(old, live=[HEAD, *[kind("spot", 1, market_type="spot")] * 2])
    there.refuse_impossible(at_spot)
    assert there.at_once(at_spot, 4) == 2  # for more, it would start others


def ranks(workers: int, **settings: Any) -> Demand:
    return training_demand(TrainConfig(workers=workers, gradient_dtype="bf16", **settings))


SMALL = kind("small", 9, {"CPU": 48, "GPU": 4})


@pytest.mark.parametrize(
    ("cluster", "workers", "of_machines"),
    [
        (GROWS, 28, "8, 8, 8, 4"),
        (GROWS, 12, "8, 4"),
        (GROWS, 24, ""),
        (GROWS, 7, ""),  # one machine has all
        (Machines(source="static", live=[HEAD, *[kind("gpu", 1)] * 4]), 28, "8, 8, 8, 4"),
        (Machines(source="static", live=[HEAD, *[kind("gpu", 1)] * 4]), 32, ""),
        (Machines(source="file", types=[kind("gpu", 4), SMALL], live=[HEAD]), 28, ""),  # seven small ones
        (Machines(source="file", types=[kind("gpu", 4), SMALL], live=[HEAD]), 26, "8, 8, 8, 2"),
        (Machines(source="static", live=[kind("gpu", 1), replace(SMALL, most=1)]), 12, "8, 4"),
        (Machines(source="static", live=[kind("gpu", 1), replace(SMALL, most=1)]), 8, ""),
        (Machines(source="unknown", live=[HEAD, kind("gpu", 1)]), 12, ""),
        (Machines(source="file", types=[kind("gpu", 2, {})], live=[HEAD], limit=2), 12, ""),
    ],
)
def test_ranks_that_no_choice_of_machines_makes_even_are_refused_at_the_start(
    cluster: Machines, workers: int, of_machines: str
) -> None:
    """Their ranks would refuse the training after hours of judging."""
    cluster.refuse_impossible(replace(ranks(workers), uneven=None))
    if not of_machines:
        cluster.refuse_impossible(ranks(workers))
        return
    words = (
        f"^train.gradient_dtype=bf16 needs equally many .*, and train.workers={workers} have {of_machines} ranks on theirs: "
    )
    with pytest.raises(CapacityError, match=words):
        cluster.refuse_impossible(ranks(workers))


def test_machines_elsewhere_do_not_make_ranks_even() -> None:
    """The small machines are spot ones."""
    cluster = Machines(source="file", types=[kind("gpu", 4), replace(SMALL, labels={"market-type": "spot"})], live=[HEAD])
    cluster.refuse_impossible(ranks(28))
    with pytest.raises(CapacityError, match="have 8, 8, 8, 4 ranks"):
        cluster.refuse_impossible(ranks(28, place={"market-type": "!spot"}))


def test_one_hundred_thousand_ranks_are_judged_at_once() -> None:
    huge = Machines(source="file", types=[kind("gpu", NO_LIMIT)], live=[HEAD])
    with pytest.raises(CapacityError, match="have 3 to 8 ranks"):
        huge.refuse_impossible(ranks(99_995))


@pytest.mark.parametrize(
    "cluster",
    [
        Machines(source="unknown", live=[HEAD]),
        Machines(source="file", types=[kind("gpu", 2, {})], live=[HEAD], limit=2),  # Ray learns its size when one has come
    ],
)
def test_what_is_not_known_is_not_refused(cluster: Machines) -> None:
    assert cluster.room(demand(9, gpus=99)) is None
    cluster.refuse_impossible(demand(9, gpus=99))


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [("a", {"a"}), ("!a", {"b", "c", None}), ("in(a,b)", {"a", "b"}), ("in(a, b)", {"a", "b"}), ("!in(a,b)", {"c", None})],
)
def test_label_selectors_are_rays(wanted: str, fits: set[str | None]) -> None:
    values: list[str | None] = ["a", "b", "c", None]
    assert {value for value in values if matches({"label": value} if value else {}, {"label": wanted})} == fits


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(st.lists(NAMES, min_size=1, max_size=3), st.booleans(), st.one_of(st.none(), NAMES))
def test_selectors_of_any_labels_mean_what_ray_means(names: list[str], negated: bool, value: str | None) -> None:
    from ray._private.label_utils import validate_label_selector_value

    wanted = "!" * negated + (f"in({','.join(names)})" if len(names) > 1 else names[0])
    assert validate_label_selector_value(wanted) is None
    assert matches({"label": value} if value else {}, {"label": wanted}) == ((value in names) != negated)
