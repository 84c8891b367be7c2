"""A finished run of a few rows, made by hand: for checks that must find what is planted in it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from stj.rows import HELDOUT, Example, Judgment, Pair, Row, Turn, examples_to_table, rows_to_table
from stj.storage.artifacts import MANIFEST, Artifact
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.storage.sealed import write_sealed
from stj.verdict import Label
from tests.chaos.invariants import EXAMPLES
from tests.chaos.plan import PASSES, TRAININGS
from tests.conftest import make_row

SEED_MODEL = Path(__file__).parents[2] / "stj" / "mini" / "seed_model"
SOURCE = [f"row-{position}" for position in range(6)]
STEPS = 4


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run; tests change copies of it."""
    root = tmp_path_factory.mktemp("chaos") / "run"
    rows = [judged(position) for position in range(len(SOURCE))]
    heldout = make_row(0, id="heldout/0", task=HELDOUT)
    for place, members in zip(PASSES, ([*rows, heldout], [*rows, heldout], [heldout]), strict=True):
        write_rows(root / place, members)
    for examples in EXAMPLES:
        write_examples(root / examples, [example(row) for row in rows[:4]])
    for place in TRAININGS:
        write_model(root / place)
    facts = [{"judge": f"M_{k}", "examples": 4, "heldout": {"accuracy": 0.5}} for k in range(3)]
    (root / "report.json").write_text(json.dumps({"iterations": facts}))
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def judged(position: int) -> Row:
    """A row with its pair, and a right judgment; labels alternate."""
    winner: Label = "B" if position % 2 else "A"
    text = f"Because {position}. [[{winner}]]"
    judgment = Judgment(
        purpose="training", winner=winner, index=0, text=text, verdict=winner, finish_reason="stop", output_tokens=5
    )
    return make_row(position, pair=Pair(method="bad", chosen="yes", rejected="no"), judgments=(judgment,), kept=0)


def example(row: Row) -> Example:
    """What a row teaches."""
    judgment = row.judgments[0]
    messages = (Turn(role="user", content=f"Judge {row.id}."),)
    return Example(id=row.id, winner=judgment.winner, messages=messages, completion=judgment.text)


def write_rows(place: Path, rows: list[Row], counted: int | None = None) -> None:
    """The artifact of a pass, anew; its manifest may count other rows than there are."""
    shutil.rmtree(place, ignore_errors=True)
    artifact = Artifact(Folder.at(place), {"step": "pass"})
    artifact.begin()
    artifact.write_part("part-0", rows_to_table(rows))
    artifact.finish()
    if counted is not None:
        write_sealed(artifact.folder, MANIFEST, artifact.manifest() | {"rows": counted})


def write_examples(place: Path, examples: list[Example]) -> None:
    """A training set, anew."""
    shutil.rmtree(place, ignore_errors=True)
    artifact = Artifact(Folder.at(place), {"step": "examples"})
    artifact.begin()
    artifact.write_part("examples-00000", examples_to_table(examples))
    artifact.finish()


def write_model(place: Path) -> None:
    """A model with its manifest, and the metrics of its training beside it."""
    shutil.copytree(SEED_MODEL, place)
    files = {file.name: asdict(FileDigest.of_file(file)) for file in place.iterdir()}
    artifact = Artifact(Folder.at(place), {"step": "model"})
    artifact.begin()
    artifact.finish(model={"files": files}, steps=STEPS, planned_steps=STEPS)
    write_metrics(place, range(1, STEPS + 1))


def write_metrics(place: Path, steps: range | list[int], loss: float = 1.0) -> None:
    """One line a step."""
    fields = {"epoch": 0, "loss": loss, "preferred": None, "lr": 0.1, "grad_norm": 1.0, "tokens_per_s": 9.0}
    lines = [json.dumps({"step": step, **fields}) for step in steps]
    (place.parent / "metrics.jsonl").write_text("\n".join(lines) + "\n")
