"""What a pass has cost, over all its starts: `ledger.json` beside its rows, and the manifest's `ledger` in the end."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from stj.generate import Usage
from stj.storage.folder import Folder

LEDGER = "ledger.json"


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Engines' time and tokens. A kill -9 loses what was spent since the last commit."""

    starts: int = 0
    """How often the pass was started or taken up."""
    engine_seconds: float = 0
    """From the start of each engine to its end, loading included."""
    usage: Usage = field(default_factory=Usage)

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(
            starts=self.starts + other.starts,
            engine_seconds=self.engine_seconds + other.engine_seconds,
            usage=self.usage + other.usage,
        )

    def write(self, folder: Folder) -> None:
        """Keeps it where the next start finds it."""
        folder.write(LEDGER, json.dumps(asdict(self)).encode())

    def facts(self, useful_tokens: int, dollars_per_engine_hour: float | None) -> dict[str, Any]:
        """It as JSON values, for the manifest; `useful_tokens` are those that went into rows that came out, and did not fail.

        Wasted are the tokens of samples that were not needed, of failed rows, and of rows that were on an engine or not
        committed at a kill.
        """
        dollars = None if dollars_per_engine_hour is None else round(self.engine_seconds / 3600 * dollars_per_engine_hour, 4)
        return {
            "starts": self.starts,
            "engine_seconds": round(self.engine_seconds, 1),
            **asdict(self.usage),
            "wasted_tokens": max(0, self.usage.output_tokens - useful_tokens),
            "dollars": dollars,
        }


def read_ledger(folder: Folder) -> Ledger:
    """What earlier starts have cost; nothing where there were none, or where they left no readable word of it."""
    if not folder.exists(LEDGER):
        return Ledger()
    try:
        record = json.loads(folder.read(LEDGER))
        return Ledger(**{**record, "usage": Usage(**record["usage"])})
    except (ValueError, KeyError, TypeError):
        return Ledger()
