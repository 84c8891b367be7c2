"""Files of pairs, and sessions over them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stj.annotating.blind import read_blind_pairs
from stj.annotating.labels import LabelFile
from stj.annotating.session import Session

DIALOGUE = [
    {"role": "user", "content": "How many legs has an ant?"},
    {"role": "assistant", "content": "Six."},
    {"role": "user", "content": "And two ants?"},
]


def open_pair(number: int, **fields: object) -> dict[str, object]:
    """A pair whose better response nobody knows."""
    return {
        "id": f"p{number}",
        "instruction": f"wonder {number}",
        "response_a": f"a {number}",
        "response_b": f"b {number}",
        **fields,
    }


def write_pairs(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """A .jsonl file of these rows."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def label_file(pairs: Path, out: Path, seed: int = 0) -> LabelFile:
    """The labels in a file, read as a server reads them at its start."""
    labels = LabelFile(out, {pair.key: pair for pair in read_blind_pairs(str(pairs), seed).pairs})
    labels.read()
    return labels


def session_of(pairs: Path, out: Path, seed: int = 0) -> Session:
    """A session over a file of pairs and a file of labels."""
    return Session(read_blind_pairs(str(pairs), seed).pairs, label_file(pairs, out, seed), seed)


def lines_of(out: Path) -> list[dict[str, Any]]:
    """The lines of a file of labels."""
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
