"""The rows of an artifact for a script or a notebook, as the dataclasses that stj writes: `stj.load_rows`."""

from collections.abc import Iterator
from pathlib import Path

from stj.errors import NoArtifact
from stj.rows import EXAMPLE_SCHEMA, ROW_SCHEMA, Example, Row, example_from_dict, row_from_dict
from stj.storage.artifacts import Artifact, read_artifact
from stj.storage.folder import Folder

_KINDS = (
    ({"id", "task", "turns"}, ROW_SCHEMA.names, row_from_dict),
    ({"id", "messages"}, EXAMPLE_SCHEMA.names, example_from_dict),
)
"""What tells rows from examples, the columns that are read, and the reader."""


def load_rows(path: str | Path) -> Iterator[Row | Example]:
    """The rows of an artifact, one after the other: a Row of a pass, or an Example that a judge is trained on.

    `path` is an artifact's directory or URI, such as runs/mini/iteration_2/judged. One that is not finished gives the rows
    committed so far. One batch of rows is in memory at a time. Each file is compared with its SHA-256 when it is opened.

    Raises NoArtifact if there is none or if it holds other things, such as a model. Raises ArtifactError if it is damaged, at
    once or when the damaged file is reached.
    """
    artifact = read_artifact(Folder.at(path))
    if parts := artifact.parts():
        return _typed(artifact, parts)
    if artifact.state()[0] == "done" and "model" in artifact.manifest():
        raise NoArtifact(
            f"{artifact.folder.uri}: holds a model, and no rows; name a directory of rows, such as judged or examples"
        )
    return iter(())


def _typed(artifact: Artifact, parts: list[str]) -> Iterator[Row | Example]:
    with artifact.opened(parts[0]) as file:
        columns = set(file.schema_arrow.names)
    for needed, known, read in _KINDS:
        if needed <= columns:
            # Part by part: files of one artifact may differ in columns if a newer stj has resumed it.
            return (read(record) for part in parts for record in artifact.records(_of(artifact, part, known), [part]))
    raise NoArtifact(f"{artifact.folder.uri}: holds neither rows nor examples; its columns are {', '.join(sorted(columns))}")


def _of(artifact: Artifact, part: str, known: list[str]) -> list[str]:
    with artifact.opened(part) as file:
        return [name for name in file.schema_arrow.names if name in known]
