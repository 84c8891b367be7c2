"""One command, from the places that a user names to the counts at its end."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stj.annotating.blind import read_blind_pairs, reasons
from stj.annotating.labels import LabelCounts, LabelFile
from stj.annotating.server import AnnotateServer
from stj.annotating.session import Session, annotator_name
from stj.errors import ConfigError
from stj.sources.directory import files_at
from stj.sources.files import kind_of
from stj.text import show
from stj.use_config import AnnotateConfig


def annotate(location: str, config: AnnotateConfig, host: str, port: int) -> None:
    """Serves the pairs at a place until it is stopped; then counts what the file of labels holds.

    Raises ConfigError if a name, the file, the host or the port cannot be used, and SourceError as the readers do.
    """
    name = None if config.name is None else annotator_name(config.name)
    out = labels_path(location, config.out)
    blind = read_blind_pairs(location, config.seed, config.limit, config.fields)
    labels = LabelFile(out, {pair.key: pair for pair in blind.pairs})
    labels.read()
    session = Session(blind.pairs, labels, config.seed)
    with AnnotateServer(session, name, port, host) as server, _counted(labels, len(blind.pairs)):
        print(server.url, flush=True)
        if not server.is_local:
            _say("everyone with this address can read the pairs and label them; nothing is encrypted on the way")
        skipped = f" ({reasons(blind.skipped)}: skipped)" if blind.skipped else ""
        _say(f"{len(blind.pairs):,} pairs to label{skipped}, into {out}; end with Ctrl+C")
        with suppress(KeyboardInterrupt):  # Ctrl+C is how it ends, not a failure.
            server.serve_forever()


def labels_path(location: str, out: str | None) -> Path:
    """The file of the labels. Raises ConfigError if it cannot be one, or if the pairs are read from it."""
    files = files_at(location, "PAIRS")
    path = Path(out if out is not None else f"{_stem(files.root)}.labels.jsonl").expanduser()
    if kind_of(path) != ".jsonl":
        raise ConfigError(f"out={path}: name a .jsonl file, so that the labels are a source for other commands")
    if path.is_dir() or not path.absolute().parent.is_dir():
        wrong = "a directory; name a file" if path.is_dir() else f"the directory {path.absolute().parent} does not exist"
        raise ConfigError(f"out={path}: {wrong}")
    if path.resolve().is_relative_to(files.root.resolve()):
        raise ConfigError(f"out={path}: the pairs are read from {location}; name a file beside it by out=FILE.jsonl")
    return path


def count_lines(counts: LabelCounts, pairs: int, out: Path) -> Iterator[str]:
    """What a file of labels holds, and what to do with it."""
    if not counts.by_annotator:
        yield f"{out}: no label yet; the same command continues"
        return
    total = sum(counts.by_annotator.values())
    people = ", ".join(f"{name} {number:,}" for name, number in counts.by_annotator.items())
    yield f"{out}: {total:,} labels of {counts.pairs:,} pairs, of {pairs:,} to label: {people}"
    other = "" if len(counts.by_annotator) > 1 else "another annotator into the same file, then "
    yield f"the same command continues; next: {other}stj agree {out}"


@contextmanager
def _counted(labels: LabelFile, pairs: int) -> Iterator[None]:
    """Counts the labels at the end, however it comes."""
    try:
        yield
    finally:
        for line in count_lines(labels.close(), pairs, labels.path):
            _say(line)


def _stem(root: Path) -> str:
    kind = kind_of(root) if root.is_file() else None
    return root.resolve().name.removesuffix(root.name[-len(kind) :] if kind else "") or "pairs"


def _say(line: str) -> None:
    show(line, sys.stderr)
