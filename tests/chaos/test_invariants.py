"""Each check finds what is planted: a lost row, a doubled one, a flipped label, a missing step, a changed byte."""

import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stj.rows import HELDOUT, Example, Row
from stj.storage.artifacts import MANIFEST, read_artifact
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.storage.sealed import write_sealed
from tests.chaos.conftest import SOURCE, STEPS, example, judged, write_examples, write_metrics, write_rows
from tests.chaos.invariants import violations
from tests.chaos.plan import PASSES
from tests.conftest import make_row

ROWS = [judged(position) for position in range(len(SOURCE))]
HELD = make_row(0, id="heldout/0", task=HELDOUT)
LEARNED = [example(row) for row in ROWS[:4]]
MODEL = "iteration_2/model"


@pytest.mark.slow
def test_a_run_without_a_fault_has_no_violation(run: Path, made: Path) -> None:
    assert violations(run, made, SOURCE) == []


def rows(place: str, members: list[Row], counted: int | None = None) -> Callable[[Path], None]:
    return lambda run: write_rows(run / place, members, counted)


def examples(members: list[Example]) -> Callable[[Path], None]:
    return lambda run: write_examples(run / "iteration_1/examples", members)


def other_text() -> Row:
    judgment = replace(ROWS[3].judgments[0], text="Surely. [[B]]")
    return replace(ROWS[3], judgments=(judgment,))


def change_manifest(run: Path, place: str, **facts: object) -> None:
    folder = Folder.at(run / place)
    write_sealed(folder, MANIFEST, read_artifact(folder).manifest() | facts)


def change_byte(run: Path) -> None:
    file = run / MODEL / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[random.Random(0).randrange(len(content) // 2, len(content))] ^= 1
    file.write_bytes(content)


def change_report(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    report["iterations"][2]["heldout"]["accuracy"] = 0.25
    (run / "report.json").write_text(json.dumps(report))


PLANTED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a lost row": (rows("pairs", [*ROWS[1:], HELD]), "pairs: 1 rows lost: row-0"),
    "a doubled row": (rows("pairs", [*ROWS, ROWS[2], HELD]), "pairs: 1 rows more than once: row-2"),
    "a row from nowhere": (rows("pairs", [*ROWS, judged(9), HELD]), "pairs: 1 rows from nowhere: row-9"),
    "a pair that was not judged": (rows(PASSES[1], [*ROWS[:5], HELD]), "iteration_2/judged: 1 rows lost: row-5"),
    "a held-out pair lost": (rows(PASSES[2], []), "heldout_2, held-out: 1 rows lost: heldout/0"),
    "a row that failed": (rows("pairs", [*ROWS[:5], replace(ROWS[5], error="died"), HELD]), "pairs: row row-5 failed: died"),
    "a wrong count": (rows("pairs", [*ROWS, HELD], 6), "pairs: the manifest counts 6 rows, and there are 7"),
    "another text": (
        rows("pairs", [*ROWS[:3], other_text(), *ROWS[4:], HELD]),
        "pairs: 1 rows with other texts than undisturbed: row-3",
    ),
    "a flipped label": (
        examples([*LEARNED[:3], replace(LEARNED[3], winner="A")]),
        "iteration_1/examples: example row-3 is no committed judgment of its row",
    ),
    "labels out of balance": (examples(LEARNED[:3]), "iteration_1/examples: 2 labels A and 1 labels B"),
    "a doubled example": (examples([*LEARNED, LEARNED[0]]), "iteration_1/examples: 1 rows more than once: row-0"),
    "examples in another order": (
        examples(LEARNED[::-1]),
        "iteration_1/examples: not the undisturbed run's training set, order or content",
    ),
    "a missing step": (
        lambda run: write_metrics(run / MODEL, [1, 2, 4]),
        f"{MODEL}: {STEPS} steps planned, {STEPS} made, metrics of [1, 2, 4]",
    ),
    "a step made twice": (lambda run: write_metrics(run / MODEL, [1, 2, 3, 3, 4]), "metrics of [1, 2, 3, 3, 4]"),
    "too few steps": (lambda run: change_manifest(run, MODEL, steps=3), f"{MODEL}: {STEPS} steps planned, 3 made"),
    "another loss": (
        lambda run: write_metrics(run / MODEL, range(1, STEPS + 1), loss=0.5),
        f"{MODEL}: other metrics than undisturbed, first at step 1",
    ),
    "a changed byte of the weights": (change_byte, f"{MODEL}: model.safetensors does not match its digest"),
    "weights that are gone": (
        lambda run: (run / MODEL / "model.safetensors").unlink(),
        f"{MODEL}: model.safetensors does not match its digest",
    ),
    "checkpoints left behind": (
        lambda run: (run / "iteration_2/checkpoints").mkdir(),
        f"{MODEL}: its checkpoints were left behind",
    ),
    "another accuracy": (change_report, "report.json: "),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if place % 4 else []) for place, name in enumerate(PLANTED)]
)
def test_what_is_planted_is_found(name: str, run: Path, made: Path) -> None:
    plant, line = PLANTED[name]
    plant(run)
    found = violations(run, made, SOURCE)
    assert any(line in violation for violation in found), found


@pytest.mark.slow
def test_a_model_that_matches_its_digests_and_is_not_the_undisturbed_one_is_found(run: Path, made: Path) -> None:
    change_byte(run)
    digest = asdict(FileDigest.of_file(run / MODEL / "model.safetensors"))
    manifest = json.loads((run / MODEL / "manifest.json").read_text())
    manifest["model"]["files"]["model.safetensors"] = digest
    change_manifest(run, MODEL, model=manifest["model"])
    assert violations(run, made, SOURCE) == [f"{MODEL}: other weights than undisturbed"]
