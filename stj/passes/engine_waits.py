"""Engines without a machine: a pass says what they wait for, and asks for another type if theirs is refused."""

from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from stj.passes.demand import Demand
from stj.passes.stock import OtherType
from stj.passes.waiting import Waiting

_ANSWER_TIMEOUT_S = 30.0


class EngineWaits:
    """The engines of a pass that have no machine, as CapacityWatch counts them in the registry."""

    def __init__(self, demand: Demand, registry: Any) -> None:
        self._registry = registry
        self._waiting = Waiting(demand)
        self._other_type = OtherType(demand)

    def begin(self) -> None:
        """Counts refusals of the cloud from now on."""
        self._waiting.begin()

    def look(self) -> str:
        """What they wait for; empty if none waits. The registry keeps it for the error at the deadline.

        Raises RayError if the registry does not answer in time.
        """
        missing, total = ray.get(self._registry.engines.remote(), timeout=_ANSWER_TIMEOUT_S)
        words = self._waiting.words(missing, total)
        self._registry.record_waits.remote(words)
        with suppress(RayError):  # the words matter more
            self._other_type.look(self._waiting.refused, missing, total)
        return words

    def end(self) -> None:
        """Ends what was asked for."""
        with suppress(Exception):  # after an error Ray may be gone too; the request ends by itself, a minute later
            self._other_type.end()
