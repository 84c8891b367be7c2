"""The file of labels, which several servers fill at once: one line a label, whose last one by an annotator counts.

    id, instruction, response_a, response_b, subset (if there is one), annotator, label (A, B, tie or unsure)

Every read and every write holds the file's lock, and a write first reads what others have added. A label is on the disk before
its annotator hears so. A server that is killed can leave a torn last line, of a label that nobody was told was kept: the next
one moves it to FILE.torn and says so.
"""

import fcntl
import json
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, cast, get_args

from stj.annotating.blind import BlindPair, key_of
from stj.errors import SourceError, StjError
from stj.sources.dialogue import optional_text, text_of
from stj.sources.ids import id_of
from stj.storage.folder import explain_write_failure, refuse_pipe, sync_directory
from stj.text import json_line, visible_line

log = logging.getLogger(__name__)

PersonLabel = Literal["A", "B", "tie", "unsure"]
"""What a person says of a pair, in the order of the file of labels."""
_TEXTS = ("instruction", "response_a", "response_b")
_PATIENCE = 10.0  # seconds that a write waits for the lock; others hold it for the milliseconds of one label
_POLL = 0.02  # seconds between two tries to take it


class LabelledElsewhere(StjError):
    """The annotator has labelled this pair in another tab, with another label."""


class LabelCounts(NamedTuple):
    """What a file of labels holds."""

    by_annotator: Mapping[str, int]
    """Number of pairs that each annotator labelled."""
    pairs: int
    """Number of pairs with a label by anybody."""


class LabelFile:
    """The labels in a file, as far as it was read. Threads may share it."""

    def __init__(self, path: Path, pairs: Mapping[str, BlindPair]) -> None:
        self.path = path
        self._pairs = pairs
        self._turn = threading.Lock()
        self._closed = False
        self._forget()

    def read(self) -> None:
        """Reads what was added to the file, which is made if it is not there.

        Raises SourceError if a line is no label, or is of a pair with other texts.
        """
        with self._locked():
            pass

    def of(self, annotator: str) -> Mapping[str, PersonLabel]:
        """The last label of each pair that an annotator has labelled, as far as the file was read."""
        return self._labels.get(annotator, {})

    def label(self, annotator: str, key: str) -> PersonLabel | None:
        """The last label that an annotator gave to a pair, as far as the file was read."""
        return self.of(annotator).get(key)

    def put(self, annotator: str, pair: BlindPair, label: PersonLabel, before: PersonLabel | None) -> None:
        """Appends a label, unless the file has it already; `before` is the one that the annotator had when they gave it.

        Raises LabelledElsewhere if the annotator has given another label since then.
        """
        with self._locked() as file:
            now = self.label(annotator, pair.key)
            if now == label:  # The answer to the first request was lost, or another tab said the same.
                return
            if now != before:
                raise LabelledElsewhere("you have labelled this pair in another tab or on another server")
            line = json_line({**pair.record, "annotator": annotator, "label": label})
            _append(file, line)
            self._lines += 1
            self._end += len(line)
            self._labels[annotator][pair.key] = label

    def close(self) -> "LabelCounts":
        """Ends writing, once a label that is being written is on the disk."""
        with self._locked():
            self._closed = True
            by_annotator = {annotator: len(labels) for annotator, labels in sorted(self._labels.items())}
            return LabelCounts(by_annotator, len({key for labels in self._labels.values() for key in labels}))

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file, which nobody else writes meanwhile, read to its end."""
        with self._turn, explain_write_failure(str(self.path)), _opened_alone(self.path) as file:
            if self._closed:
                raise StjError(f"{self.path}: this server is ending; nothing more is written")
            self._catch_up(file)
            yield file

    def _forget(self) -> None:
        self._labels: dict[str, dict[str, PersonLabel]] = defaultdict(dict)
        self._inode, self._end, self._lines = 0, 0, 0

    def _catch_up(self, file: BinaryIO) -> None:
        """Reads the lines that were added, or all if the file is another one or was edited."""
        if not self._continues(file):
            self._forget()
            self._inode = os.fstat(file.fileno()).st_ino
        file.seek(self._end)
        for line in file:
            if not line.endswith(b"\n"):
                self._mend(file, line)
                return
            self._take(line)

    def _continues(self, file: BinaryIO) -> bool:
        """Whether the file is the one that was read, with lines added at most."""
        if self._end == 0 or os.fstat(file.fileno()).st_ino != self._inode:
            return False
        file.seek(self._end - 1)
        return file.read(1) == b"\n"  # nothing, if the file is shorter now

    def _mend(self, file: BinaryIO, last: bytes) -> None:
        """Ends a last line that was left without its end: a whole one counts, a torn one is moved to FILE.torn."""
        if _is_whole(last):
            _append(file, b"\n")
            self._take(last + b"\n")
            return
        torn = Path(f"{self.path}.torn")
        with open(torn, "ab") as rest:
            _append(rest, last + b"\n")
        os.ftruncate(file.fileno(), self._end)
        os.fsync(file.fileno())
        told = f"{self.path}: its last line was torn: its {len(last):,} bytes are in {torn} now; label that pair again"
        log.warning("%s", visible_line(told))

    def _take(self, line: bytes) -> None:
        """Reads one line, which is then behind us."""
        where = f"{self.path}, line {self._lines + 1}"
        if line.strip():
            record = _label_record(line, where)
            key = key_of(optional_text(record.get("subset"), "subset", where) or None, id_of(record["id"], "id", where))
            if key in self._pairs:
                _check_texts(record, self._pairs[key], where)
            self._labels[record["annotator"]][key] = record["label"]
        self._lines += 1
        self._end += len(line)


def _label_record(line: bytes, where: str) -> Mapping[str, Any]:
    """The record of a line. Raises SourceError if it is not one that `stj annotate` writes."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _no_label(where, f"not JSON ({error})") from None
    if not isinstance(record, dict):
        raise _no_label(where, f"a JSON {type(record).__name__}")
    if missing := [name for name in ("id", *_TEXTS, "annotator", "label") if name not in record]:
        raise _no_label(where, f"no field '{missing[0]}'")
    text_of(record["annotator"], "annotator", where)
    if record["label"] not in get_args(PersonLabel):
        raise _no_label(where, f"field 'label' is {record['label']!r:.60}; it must be A, B, tie or unsure")
    return record


def _no_label(where: str, why: str) -> SourceError:
    return SourceError(f"{where}: no line of `stj annotate`: {why}; mend the line, or name another file by out=FILE.jsonl")


def _check_texts(record: Mapping[str, Any], pair: BlindPair, where: str) -> None:
    """Raises SourceError if a label is of other texts than the pair of this id has: it would pass for a label of these."""
    known = pair.record
    if all(record[name] == known[name] for name in _TEXTS):
        return
    swapped = (record["response_a"], record["response_b"]) == (pair.response_b, pair.response_a)
    remedy = "give the seed=N that it was begun with" if swapped else "give the pairs that it was begun with"
    raise SourceError(
        f"{where}: the pair with id '{pair.id[:60]}' has other texts there than in PAIRS"
        f"{', the responses in the other order' if swapped else ''}; {remedy}, or name another file by out=FILE.jsonl"
    )


def _is_whole(line: bytes) -> bool:
    """Whether a line is whole but for its end, as an editor may leave it."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


@contextmanager
def _opened_alone(path: Path) -> Iterator[BinaryIO]:
    """The file for reading and appending, with its lock, which the system releases if this process dies."""
    deadline = time.monotonic() + _PATIENCE
    refuse_pipe(path)
    while True:
        is_new = not path.exists()
        with cast(BinaryIO, open(path, "a+b")) as file:
            if _take_lock(file) and _is_at(file, path):
                if is_new:
                    sync_directory(path.absolute().parent)
                yield file
                return
        if time.monotonic() > deadline:
            raise StjError(f"{path}: another program holds its lock since {_PATIENCE:.0f} seconds; end it, then try again")
        time.sleep(_POLL)


def _take_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the file is still the one at the path: an editor may have put another one there meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _append(file: BinaryIO, data: bytes) -> None:
    """Writes to the end, down to the disk. What a full disk took of it is removed again."""
    end = os.fstat(file.fileno()).st_size
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            os.ftruncate(file.fileno(), end)
        raise
