"""Which faults strike a run, and where: all of it follows from the seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["engine actor", "engine process", "engine worker", "rank", "node", "drained node", "driver", "stop", "head"]
Place = Literal[
    "pairs",
    "iteration_1/model",
    "iteration_1/export",
    "iteration_2/judged",
    "iteration_2/model",
    "iteration_2/export",
    "heldout_2",
    "report",
]

PASSES: tuple[Place, ...] = ("pairs", "iteration_2/judged", "heldout_2")
TRAININGS: tuple[Place, ...] = ("iteration_1/model", "iteration_2/model")
EXPORTS: tuple[Place, ...] = ("iteration_1/export", "iteration_2/export")
PLACES: tuple[Place, ...] = (*PASSES[:1], TRAININGS[0], EXPORTS[0], PASSES[1], TRAININGS[1], EXPORTS[1], PASSES[2], "report")
"""All places, in the order in which a run comes to them."""

DRIVERS: tuple[Kind, ...] = ("driver", "stop", "head")
"""Faults that end a driver: the same command must then resume."""
ENGINES: tuple[Kind, ...] = ("engine actor", "engine process")
KINDS: tuple[Kind, ...] = (*ENGINES, "engine worker", "rank", "node", "drained node", *DRIVERS)

_LEAST, _MOST = 2, 4  # Faults of a run: it takes 100 s without them, and each costs 10 to 30 s.
_WEIGHTS = {"pairs": 2.0, "iteration_2/judged": 1.5, "report": 0.5}  # Of a place; 1 of the others. Rows take the longest.
_HEADS = 1  # Heads that a run loses at most: each costs a whole cluster.
_LONGEST_DELAY_S = 1.0  # So that not all faults strike just after a commit or a step.
_LATEST_SHARE = 0.6  # Of the rows of a pass: an engine that is lost later has nothing to do any more.
_QUICK_DELAY_S = 0.2  # An export, and a report, take that long.


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: it strikes when the run has come to a share of a place, and a delay is over."""

    kind: Kind
    place: Place
    share: float
    """Share of the rows or steps of the place that are done when the fault is due."""
    delay_s: float
    victim: float
    """Chooses one of n victims, as number floor(victim * n)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens to the run of one seed."""

    seed: int
    two_workers: bool
    """Whether each engine has two worker processes (tensor parallel), which can be struck too."""
    faults: tuple[Fault, ...]


def plan_of(seed: int) -> Plan:
    """The faults of a seed, in the order in which the run comes to them. Engines that have workers lose at least one."""
    dice, two_workers = random.Random(f"chaos {seed}"), seed % 4 == 3
    faults = [_fault(dice, dice.choice(PASSES), ["engine worker"])] if two_workers else []
    weights = [_WEIGHTS.get(place, 1.0) for place in PLACES]
    for place in dice.choices(PLACES, weights, k=dice.randint(_LEAST, _MOST) - len(faults)):
        heads = sum(fault.kind == "head" for fault in faults)
        kinds = [kind for kind in kinds_at(place, two_workers=two_workers) if kind != "head" or heads < _HEADS]
        faults.append(_fault(dice, place, kinds))
    faults.sort(key=lambda fault: (PLACES.index(fault.place), fault.share))
    return Plan(seed=seed, two_workers=two_workers, faults=tuple(faults))


def _fault(dice: random.Random, place: Place, kinds: Sequence[Kind]) -> Fault:
    longest = _QUICK_DELAY_S if place in EXPORTS or place == "report" else _LONGEST_DELAY_S
    return Fault(
        kind=dice.choice(kinds),
        place=place,
        share=dice.random() * (_LATEST_SHARE if place in PASSES else 1),
        delay_s=dice.uniform(0, longest),
        victim=dice.random(),
    )


def kinds_at(place: Place, *, two_workers: bool) -> tuple[Kind, ...]:
    """The kinds of faults that have a victim at a place; one that is to come more often is there more often."""
    if place == "report":
        return DRIVERS
    here: tuple[Kind, ...] = ("rank",) * 3
    if place in PASSES:
        here = (*ENGINES, "engine worker", "engine worker") if two_workers else ENGINES * 2
    return (*here, *("node", "drained node") * 2, *DRIVERS)
