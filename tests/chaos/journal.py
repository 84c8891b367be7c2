"""A journal of the engines that start and of the rows that they are asked.

It has one JSON object a line. A killed engine loses none: each line is written before the row begins.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stj.config import EngineConfig, ModelConfig
from stj.generate import Engine


async def journaled_engine(model: ModelConfig, config: EngineConfig, seed: int, journal: str) -> Engine:
    """The engine that a pass starts by itself; its actor notes its start, and each row before it begins."""
    from stj.passes import actor

    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(**record: Any) -> None:
        os.write(file, f"{json.dumps({'weights': model.path, **record})}\n".encode())

    begin = actor.RowJournal.begin

    async def noted(rows: actor.RowJournal, row_id: str) -> None:
        note(row=row_id)
        await begin(rows, row_id)

    actor.RowJournal.begin = noted  # type: ignore[method-assign, assignment]
    note(engine=os.getpid())
    return await actor._scoped_engine(model, config, seed)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a journal says."""

    engines: int
    """Starts of engines."""
    rows: int
    """Rows that engines were asked, each time counted."""
    rows_again: int
    """Those of them that an engine had been asked before."""


def read_journal(path: Path) -> Asked:
    """The counts of a journal; zero if there is none."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = [(line["weights"], line["row"]) for line in lines if "row" in line]
    return Asked(engines=len(lines) - len(rows), rows=len(rows), rows_again=len(rows) - len(set(rows)))
