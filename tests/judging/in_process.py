"""Passes over a file in this process, on scripted engines: for tests of what the verbs do around them."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest

from stj.config import EngineConfig
from stj.engine.scripted import Handler, ScriptedEngine
from stj.judging import file_pass
from stj.passes import session
from stj.passes.spec import Pass
from stj.rows import Row, rows_to_table
from stj.stages.runner import run_stages
from stj.storage.artifacts import Artifact


def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, handlers: Mapping[str, Handler]) -> None:
    """Each row is committed alone. A row that says STOP interrupts the first pass that meets it."""

    def run_pass(spec: Pass, artifact: Artifact, config: EngineConfig, on_row: Callable[[Row], None]) -> None:
        engine = ScriptedEngine(handlers[spec.model.path])
        done = {record["id"] for record in artifact.records(["id"])}
        for row in spec.read():
            if row.id in done:
                continue
            judged = asyncio.run(run_stages(row, spec.stages[row.task], engine.generate))
            if any("STOP" in turn.content for turn in row.turns) and not (tmp_path / "stopped").exists():
                (tmp_path / "stopped").touch()
                raise KeyboardInterrupt
            artifact.write_part(f"part-{len(artifact.parts())}", rows_to_table([judged]))
            if not judged.error:
                on_row(judged)
        artifact.finish()

    monkeypatch.setattr(file_pass, "run_pass", run_pass)
    monkeypatch.setattr(session, "ray_session", lambda *_: nullcontext())
    monkeypatch.chdir(tmp_path)
