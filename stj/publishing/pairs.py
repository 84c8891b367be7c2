"""`stj export RUN DEST --pairs`: the training pairs of a run with the judgments of each judge, as a data set of the hub.

    README.md                     the card, which names the splits
    data/M_0-00000.parquet ...    the pairs that M_0 judged, for iteration 1; M_1 for iteration 2, and so on

Held-out pairs and benchmarks stay out: who trained on them could not be measured by them any more. So do paths of the machine.
`datasets.load_dataset(DEST)` reads it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from stj import __version__
from stj.errors import ArtifactError
from stj.hub_log import quiet_hub
from stj.loop.run_folder import RunFolder, rows_of
from stj.publishing.card import render
from stj.publishing.destination import Filling, destination
from stj.publishing.policies import model_name, policies_of, public_name
from stj.rows import TRAINING, Row
from stj.storage.artifacts import Artifact
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, explain_write_failure
from stj.text import data_size

_CARD = "README.md"
_DATA = "data"
_ROWS_PER_FILE = 50_000
_ROWS_AT_ONCE = 500  # In memory: a row of fifteen long judgments takes about 100 kB.
_SYNTHETIC = "synthetic"

_JUDGMENT = pa.struct(
    [
        ("better_shown_as", pa.string()),
        ("verdict", pa.string()),
        ("right", pa.bool_()),
        ("kept", pa.bool_()),
        ("thought", pa.string()),
        ("text", pa.string()),
    ]
)
_GRADE = pa.struct(
    [("rubric", pa.string()), ("answer", pa.string()), ("score", pa.int16()), ("thought", pa.string()), ("text", pa.string())]
)
_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("turns", pa.list_(_TURN)),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("method", pa.string()),
        ("origin", pa.string()),
        ("labelled_by", pa.string()),
        ("policy", pa.string()),
        ("category", pa.string()),
        ("modified_instruction", pa.string()),
        ("attack", pa.string()),
        ("judgments", pa.list_(_JUDGMENT)),
        ("grades", pa.list_(_GRADE)),
        ("rescued", pa.string()),
        ("dropped", pa.string()),
    ]
)
"""The columns of the data set; docs/publishing.md says what they hold."""


@dataclass(kw_only=True)
class SplitCounts:
    """What a split holds."""

    judge: str
    pairs: int = 0
    judgments: int = 0
    kept: int = 0
    grades: int = 0
    origins: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Pairs by origin, and by who says which answer is better."""

    def add(self, row: Row) -> None:
        """Counts a row."""
        self.pairs += 1
        self.judgments += len(row.judgments)
        self.kept += row.kept is not None
        self.grades += len(row.grades)
        self.origins[_origin(row)] += 1


def export_pairs(word: str, dest: str) -> str:
    """Publishes the judged training pairs of a run with their card; returns what was published and where, in a line.

    Raises NoArtifact if there is no run, ArtifactError if it has judged nothing yet or a file is damaged, ConfigError if the
    place is taken, and StorageFailed if the disk is too small. Then nothing is published.
    """
    quiet_hub()
    run = RunFolder(Folder.at(word))
    passes = list(run.passes())
    if not passes:
        raise ArtifactError(f"{run.folder.uri}: no training pairs are judged yet; run its command until a pass is finished")
    place, policies = destination(dest, "dataset"), policies_of(run.config)
    place.require_room(sum(facts["size"] for _, artifact in passes for facts in artifact.manifest()["files"].values()))
    with place.filling() as filling:
        splits = [_write_split(artifact, f"M_{number - 1}", filling, policies) for number, artifact in passes]
        filling.write(_CARD, _card(run, splits, place.name))
        size = sum(digest.size for digest in filling.digests.values())
    pairs = ", ".join(f"{split.pairs:,} judged by {split.judge}" for split in splits)
    return f"{place.shown}: pairs of {run.folder.uri}: {pairs}; {data_size(size)}"


def record_of(row: Row, policies: Mapping[str, str]) -> dict[str, Any]:
    """A training row as a record of the data set; `policies` are those of `policies_of`."""
    pair = row.pair
    assert pair is not None, f"row {row.id} has no pair"
    origin, labelled_by = _origin(row)
    return {
        "id": row.id,
        "turns": [{"role": turn.role, "content": turn.content} for turn in row.turns],
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "method": pair.method,
        "origin": origin,
        "labelled_by": labelled_by,
        "policy": policies.get(origin) or None,
        "category": row.category.name if row.category else None,
        "modified_instruction": pair.modified_instruction,
        "attack": pair.attack,
        "judgments": [
            {
                "better_shown_as": judgment.winner,
                "verdict": judgment.verdict,
                "right": judgment.correct,
                "kept": place == row.kept,
                "thought": judgment.thought,
                "text": judgment.text,
            }
            for place, judgment in enumerate(row.judgments)
        ],
        "grades": [
            {
                "rubric": grade.rubric,
                "answer": grade.answer,
                "score": grade.score,
                "thought": grade.thought,
                "text": grade.text,
            }
            for grade in row.grades
        ],
        "rescued": row.rescued.text if row.rescued else None,
        "dropped": row.dropped,
    }


def _origin(row: Row) -> tuple[str, str]:
    return (row.origin.source, row.origin.labelled_by) if row.origin else (_SYNTHETIC, "construction")


def _write_split(artifact: Artifact, judge: str, filling: Filling, policies: Mapping[str, str]) -> SplitCounts:
    """Writes the pairs that a judge judged, a few hundred in memory at a time."""
    counts = SplitCounts(judge=judge)
    rows = (row for row in rows_of(artifact) if row.task == TRAINING and row.pair is not None)
    number = 0
    while (first := next(rows, None)) is not None:
        name = f"{_DATA}/{judge}-{number:05d}.parquet"
        _write_file(filling, name, chain([first], islice(rows, _ROWS_PER_FILE - 1)), counts, policies)
        number += 1
    return counts


def _write_file(filling: Filling, name: str, rows: Iterator[Row], counts: SplitCounts, policies: Mapping[str, str]) -> None:
    path = filling.directory / name
    with explain_write_failure(str(filling.directory)):
        path.parent.mkdir(exist_ok=True)
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            while batch := list(islice(rows, _ROWS_AT_ONCE)):
                for row in batch:
                    counts.add(row)
                writer.write_table(pa.Table.from_pylist([record_of(row, policies) for row in batch], schema=SCHEMA))
        filling.sync(name)
        filling.digests[name] = FileDigest.of_file(path)


def _card(run: RunFolder, splits: list[SplitCounts], name: str) -> bytes:
    source, models = run.config.get("source", {}), run.config.get("models", {})
    metadata = {
        "license": "unknown",
        "tags": ["llm-judge", "preferences", "stj", "synthetic"],
        "size_categories": [_size_category(sum(split.pairs for split in splits))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split.judge, "path": f"{_DATA}/{split.judge}-*.parquet"} for split in splits],
            }
        ],
    }
    return render(
        "pairs_card.md.jinja",
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True),
        title=name.rpartition("/")[2],
        name=name,
        version=__version__,
        splits=splits,
        origins=_all_origins(splits),
        policies=policies_of(run.config),
        source=public_name(source.get("path")),
        generator=model_name(models.get("generator")),
        first_judge=model_name(models.get("first_judge")),
        judge=run.config.get("judge", {}),
    )


def _all_origins(splits: list[SplitCounts]) -> list[tuple[str, str, list[int]]]:
    """Each origin, who labelled it, and its pairs in each split."""
    names = sorted({origin for split in splits for origin in split.origins})
    return [(name, by, [split.origins[name, by] for split in splits]) for name, by in names]


def _size_category(pairs: int) -> str:
    """The hub's word for a number of rows."""
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((word for bound, word in bounds if pairs < bound), "1M<n<10M")
