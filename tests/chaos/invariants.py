"""What must hold at the end of a run, whatever struck it. Each check returns what it found wrong, one line each."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stj.rows import TRAINING, Row, row_from_dict
from stj.storage.artifacts import MANIFEST, read_artifact
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.train.job import CHECKPOINTS, METRICS
from stj.train.metrics import read_metrics
from stj.verdict import PAIR, parse
from tests.chaos.plan import PASSES, TRAININGS

if TYPE_CHECKING:
    from torch import Tensor

EXAMPLES = ("iteration_1/examples", "iteration_2/examples")
_JUDGED = dict(zip(EXAMPLES, PASSES, strict=False))
_SPEED = ("tokens_per_s", "mfu")
_SHOWN = 3  # Ids that a line names.


def violations(run: Path, calm: Path, source: Sequence[str]) -> list[str]:
    """All that is wrong with a finished run.

    `calm` is a run of the same settings that nothing disturbed, and `source` has the ids of the rows that go in.
    """
    wrong = rows_lost_or_doubled(run, source)
    wrong += [line for place in PASSES for line in other_texts(run, calm, place)]
    wrong += [line for place in EXAMPLES for line in unsound_examples(run, place)]
    wrong += [line for place in EXAMPLES for line in other_examples(run, calm, place)]
    wrong += [line for place in TRAININGS for line in unsound_model(run, place)]
    wrong += [line for place in TRAININGS for line in other_model(run, calm, place)]
    return wrong + other_report(run, calm)


def rows_lost_or_doubled(run: Path, source: Sequence[str]) -> list[str]:
    """Each row of the source once in the first pass, each of its pairs once in the second, held-out pairs once in all."""
    wrong = []
    pairs, heldout = set[str](), None
    for place in PASSES:
        rows = list(_rows(run, place))
        training = [row.id for row in rows if row.task == TRAINING]
        others = [row.id for row in rows if row.task != TRAINING]
        heldout = heldout or set(others)
        expected = {PASSES[0]: set(source), PASSES[1]: pairs, PASSES[2]: set[str]()}[place]
        pairs = pairs or {row.id for row in rows if row.task == TRAINING and row.pair is not None}
        wrong += _difference(place, training, expected) + _difference(f"{place}, held-out", others, heldout)
        wrong += [f"{place}: row {row.id} failed: {row.error}" for row in rows if row.error]
        counted = _manifest(run, place)["rows"]
        if counted != len(rows):
            wrong.append(f"{place}: the manifest counts {counted} rows, and there are {len(rows)}")
    return wrong


def _difference(place: str, ids: Sequence[str], expected: Iterable[str]) -> list[str]:
    counts, wanted = Counter(ids), set(expected)
    kinds = {
        "lost": wanted - counts.keys(),
        "more than once": {row_id for row_id, count in counts.items() if count > 1},
        "from nowhere": counts.keys() - wanted,
    }
    return [f"{place}: {len(found)} rows {kind}: {_some(found)}" for kind, found in kinds.items() if found]


def other_texts(run: Path, calm: Path, place: str) -> list[str]:
    """Rows whose answers or judgments are not those of the undisturbed run: what a model says follows from the row alone."""
    texts, expected = ({row.id: _said(row) for row in _rows(root, place)} for root in (run, calm))
    other = {row_id for row_id in texts.keys() & expected.keys() if texts[row_id] != expected[row_id]}
    return [f"{place}: {len(other)} rows with other texts than undisturbed: {_some(other)}"] if other else []


def _said(row: Row) -> tuple[Any, ...]:
    judgments = tuple((judgment.purpose, judgment.index, judgment.text, judgment.winner) for judgment in row.judgments)
    return row.category, row.pair, row.dropped, row.kept, judgments


def unsound_examples(run: Path, place: str) -> list[str]:
    """Each id once, as many labels A as B, and each example a judgment of the pass before it that is right."""
    examples = list(read_artifact(Folder.at(run / place)).records())
    wrong = _difference(place, [example["id"] for example in examples], {example["id"] for example in examples})
    labels = Counter(example["winner"] for example in examples)
    if not examples or labels["A"] != labels["B"]:
        wrong.append(f"{place}: {labels['A']} labels A and {labels['B']} labels B")
    committed = {row.id: {(j.text, j.winner) for j in row.judgments} for row in _rows(run, _JUDGED[place])}
    for example in examples:
        if (example["completion"], example["winner"]) not in committed.get(example["id"], ()):
            wrong.append(f"{place}: example {example['id']} is no committed judgment of its row")
        elif parse(example["completion"], PAIR, "distinct") != example["winner"]:
            wrong.append(f"{place}: example {example['id']} has label {example['winner']}, and its text says otherwise")
    return wrong


def other_examples(run: Path, calm: Path, place: str) -> list[str]:
    """Whether a training set is not, record by record, that of the undisturbed run."""
    records, expected = (list(read_artifact(Folder.at(root / place)).records()) for root in (run, calm))
    if records == expected:
        return []
    other = {record["id"] for record in [*records, *expected] if record not in records or record not in expected}
    return [f"{place}: not the undisturbed run's training set, order or content: {_some(other)}"]


def unsound_model(run: Path, place: str) -> list[str]:
    """Files that do not match their digests, a model that does not load, and steps that are missing."""
    manifest, folder, wrong = _manifest(run, place), run / place, []
    for name, digest in manifest["model"]["files"].items():
        if not (folder / name).exists() or FileDigest.of_file(folder / name) != FileDigest(**digest):
            wrong.append(f"{place}: {name} does not match its digest")
    steps = [step.step for step in read_metrics((folder.parent / METRICS).read_text())]
    if steps != list(range(1, manifest["planned_steps"] + 1)) or manifest["steps"] != manifest["planned_steps"]:
        wrong.append(f"{place}: {manifest['planned_steps']} steps planned, {manifest['steps']} made, metrics of {steps}")
    if (folder.parent / CHECKPOINTS).exists():
        wrong.append(f"{place}: its checkpoints were left behind")
    return wrong or _does_not_load(folder, place)


def _does_not_load(folder: Path, place: str) -> list[str]:
    import torch  # Seconds, which whatever imports this module would pay.
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a library raises for a broken model
        return [f"{place}: does not load: {str(error).splitlines()[0]}"]
    finite = all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
    return [] if finite else [f"{place}: has weights that are not finite"]


def other_model(run: Path, calm: Path, place: str) -> list[str]:
    """Whether losses or weights are not, to the last bit, those of the undisturbed run: training resumes exactly."""
    import torch

    wrong = []
    losses, expected = (_metrics(root, place) for root in (run, calm))
    if losses != expected:
        wrong.append(f"{place}: other metrics than undisturbed, first at step {_first_difference(losses, expected)}")
    weights, others = (_weights(root / place) for root in (run, calm))
    if weights.keys() != others.keys() or not all(torch.equal(weights[name], others[name]) for name in weights):
        wrong.append(f"{place}: other weights than undisturbed")
    return wrong


def other_report(run: Path, calm: Path) -> list[str]:
    """Whether a judge's accuracy, or a count of examples, is not that of the undisturbed run."""
    facts, expected = (_facts(root) for root in (run, calm))
    return [] if facts == expected else [f"report.json: {facts}, and undisturbed {expected}"]


def _facts(run: Path) -> list[Any]:
    iterations = json.loads((run / "report.json").read_text())["iterations"]
    return [(i["judge"], i.get("examples"), (i.get("heldout") or {}).get("accuracy")) for i in iterations]


def _rows(run: Path, place: str) -> Iterator[Row]:
    return map(row_from_dict, read_artifact(Folder.at(run / place)).records())


def _manifest(run: Path, place: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((run / place / MANIFEST).read_text())
    return manifest


def _metrics(run: Path, place: str) -> list[dict[str, Any]]:
    lines = map(json.loads, ((run / place).parent / METRICS).read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in _SPEED} for line in lines]


def _first_difference(these: Sequence[Any], others: Sequence[Any]) -> int:
    same = (this == other for this, other in zip(these, others, strict=False))
    return next((number for number, equal in enumerate(same, 1) if not equal), min(len(these), len(others)) + 1)


def _weights(folder: Path) -> "dict[str, Tensor]":
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def _some(ids: Iterable[str]) -> str:
    ids = sorted(ids)
    return ", ".join(ids[:_SHOWN]) + (" and more" if len(ids) > _SHOWN else "")
