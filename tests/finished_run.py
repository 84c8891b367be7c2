"""Runs whose every phase is done, made by the run's own code except for what engines and ranks do: the rows of passes are
written as engines would, and the trained models are copies of the seed."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from stj.config_loader import load
from stj.loop.benchmarks import BenchmarkPhase
from stj.loop.kinds import ExamplesPhase, PassPhase, TrainingPhase
from stj.loop.phases import Run
from stj.loop.status import write_run_config
from stj.loop.summary import RunSummary
from stj.mini import __file__ as mini
from stj.rows import HELDOUT, TRAINING, Category, Judgment, Pair, Row, Turn, rows_to_table
from stj.storage.digest import FileDigest
from stj.verdict import Label

MINI = Path(__file__).parents[1] / "conf" / "mini.yaml"
SEED_MODEL = Path(mini).parent / "seed_model"
_PAIRS = 12
_HELDOUT = 20
_FIRST_HELDOUT = 0
_LABELS: tuple[Label, Label] = ("A", "B")


def finished_run(root: Path, *overrides: str, until: str | None = None, worse_from: int = 99) -> Run:
    """A run whose phases are done, or those before the one named `until`.

    M_k is right on more held-out pairs than M_{k-1}; from M_`worse_from` on, a judge is right on none in both orders.
    """
    run = Run(load([MINI], [f"run_root={root}", "iterations=2", *overrides]))
    write_run_config(run)
    for phase in run.phases:
        if phase.name == until:
            break
        if not phase.artifact.begin():
            continue
        if isinstance(phase, PassPhase):
            _write_pass(phase, worse_from)
        elif isinstance(phase, BenchmarkPhase):
            rows = [_judged(row, right=index % 3 > 0) for index, row in enumerate(phase.ref.rows(None))]
            phase.artifact.write_part("part", rows_to_table(rows))
            phase.artifact.finish(dropped={}, failed=0)
            phase.write_scores()
        elif isinstance(phase, ExamplesPhase):
            phase.run()
        elif isinstance(phase, TrainingPhase):
            write_model(phase)
    summary = RunSummary.of(run)
    summary.write(run.folder)
    return run


def write_model(phase: TrainingPhase) -> None:
    """A model as a training leaves it: the files of the seed, and their digests."""
    place = phase.artifact.folder.local
    assert place
    files = {}
    for file in SEED_MODEL.iterdir():
        if file.name != "recipe.json":
            shutil.copy(file, place)
            files[file.name] = asdict(FileDigest.of_file(file))
    model = {"path": str(place), "seed": phase.model.path, "files": files}
    facts = {"steps": 7, "planned_steps": 7, "epochs": 1, "supervised_tokens": 99, "loss_first": 2.0, "loss_last": 1.0}
    phase.artifact.finish(model=model, examples=phase.examples.artifact.manifest()["rows"], **facts)


def heldout_id(number: int) -> str:
    return f"{HELDOUT}/{number}"


def _write_pass(phase: PassPhase, worse_from: int) -> None:
    rows: list[Row] = []
    for number in range(_PAIRS):
        row = _row(f"row-{number}", number, TRAINING)
        if "judge" in phase.parts:
            wrong, right = (_judgment(_LABELS[number % 2], right=kept, index=index) for index, kept in enumerate((False, True)))
            row = row if number == 3 else Row(**{**_fields(row), "judgments": (wrong, right), "kept": 1})
        rows.append(row)
    rows.append(Row(id="row-dropped", position=_PAIRS, turns=(Turn(role="user", content="Sing."),), dropped="category"))
    if "heldout" in phase.parts:
        for place in range(_HELDOUT):
            row = _row(heldout_id(place), _FIRST_HELDOUT + place, HELDOUT)
            rows.append(_judged(row, right=phase.judge < worse_from and place % 6 <= phase.judge))
    phase.artifact.write_part("part", rows_to_table(rows))
    made = sum(row.pair is not None and row.task == TRAINING for row in rows)
    phase.artifact.finish(dropped={"category": 1}, failed=0, pairs=made, output_tokens=9)


def _row(name: str, number: int, task: str) -> Row:
    turn = Turn(role="user", content=f"How many sheep are left of {number}, {task}?")
    category = Category(name="Mathematical reasoning", complexity=3, length="a")
    pair = Pair(method="modified_instruction", chosen=f"{number} are.", rejected="None | at all.")
    return Row(id=name, position=number, task=task, turns=(turn,), category=category, pair=pair)


def _judged(row: Row, *, right: bool) -> Row:
    """The row judged in both orders, right in both or only with the better answer shown as A."""
    labels = [(label, right or label == "A") for label in _LABELS]
    return Row(
        **{
            **_fields(row),
            "judgments": tuple(_judgment(label, right=is_right, index=0, purpose="sampled") for label, is_right in labels),
        }
    )


def _judgment(winner: Label, *, right: bool, index: int, purpose: str = "training") -> Judgment:
    verdict = winner if right else "B" if winner == "A" else "A"
    return Judgment(
        purpose=purpose,  # type: ignore[arg-type]
        winner=winner,
        index=index,
        text=f"I have read both. [[{verdict}]]",
        verdict=verdict,
        finish_reason="stop",
        output_tokens=7,
    )


def _fields(row: Row) -> dict[str, object]:
    return dict(vars(row))


def write_pairs_file(path: Path, count: int = 6) -> str:
    """A benchmark of pairs, as a word of `benchmarks`."""
    records = ({"instruction": f"Say {n}.", "chosen": str(n), "rejected": "no"} for n in range(count))
    path.write_text("\n".join(map(json.dumps, records)))
    return f"pairs:{path}"
