"""Engines that died, or did not start, in words: each is one line of the log, with its cause and what follows."""

from collections.abc import Collection
from dataclasses import dataclass

_WITHOUT_WORDS = "its process was killed or crashed; is memory short?"


@dataclass(frozen=True, kw_only=True)
class EngineRestart:
    """An engine that starts again."""

    machine: str | None
    """Ray's id of the machine on which it ran; None if it did not start."""
    cause: str
    """What its actor has said; empty if it was killed, too."""
    attempt: int
    """Number of the start that follows, counted since an engine last started."""
    attempts: int
    """engine.start_attempts."""

    def line(self, machines: Collection[str]) -> str:
        """The restart in words; `machines` are those that are in the cluster now."""
        follows = f"attempt {self.attempt} of {self.attempts} follows"
        if self.machine is None:
            return f"an engine did not start ({follows}): {self.cause}"
        cause = self.cause or (_WITHOUT_WORDS if self.machine in machines else "its machine is lost")
        return f"an engine died and starts again, with its rows ({follows}): {cause}"
