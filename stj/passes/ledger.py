"""The cost of a pass over all its starts: `ledger.json` beside its rows, and `ledger` in the manifest at the end."""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from stj.errors import ArtifactError
from stj.generate import Usage
from stj.storage.folder import Folder
from stj.storage.sealed import read_sealed, write_sealed

log = logging.getLogger(__name__)

LEDGER = "ledger.json"
_FIELDS = ("starts", "engine_seconds", "usage")


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Engine time and tokens. A kill -9 loses the cost since the last commit."""

    starts: int = 0
    """Number of starts of the pass, including resumed ones."""
    engine_seconds: float = 0
    """Sum of the seconds from each engine's start to its end, including loading."""
    usage: Usage = field(default_factory=Usage)

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(
            starts=self.starts + other.starts,
            engine_seconds=self.engine_seconds + other.engine_seconds,
            usage=self.usage + other.usage,
        )

    def write(self, folder: Folder) -> None:
        """Writes the ledger for the next start of the pass."""
        write_sealed(folder, LEDGER, asdict(self))

    def facts(self, useful_tokens: int, dollars: float | None) -> dict[str, Any]:
        """The ledger as JSON values, for the manifest; `useful_tokens` are the output tokens that finished rows needed.

        The other output tokens are wasted: those of surplus samples, of failed rows, and of rows that a kill lost before their
        commit.
        """
        return {
            "starts": self.starts,
            "engine_seconds": round(self.engine_seconds, 1),
            **asdict(self.usage),
            "wasted_tokens": max(0, self.usage.output_tokens - useful_tokens),
            "dollars": None if dollars is None else round(dollars, 4),
        }


def read_ledger(folder: Folder) -> Ledger:
    """The cost of earlier starts; zero if there were none, or if their ledger is damaged, which a warning says."""
    if not folder.exists(LEDGER):
        return Ledger()
    try:
        record = read_sealed(folder, LEDGER, "what earlier starts of this pass cost is not counted", fields=_FIELDS)
    except ArtifactError as error:
        log.warning("%s", error)
        return Ledger()
    return Ledger(**{**record, "usage": Usage(**record["usage"])})
