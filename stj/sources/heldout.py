"""Held-out pairs: an instruction, a better answer and a worse one, labelled by others."""

import itertools
from collections.abc import Iterable, Iterator

from stj.config import HeldoutConfig
from stj.rows import GIVEN, HELDOUT, Pair, Row
from stj.sources.dialogue import usable
from stj.sources.directory import files_at
from stj.sources.files import at_most, files_size, not_empty, read_files
from stj.sources.ids import HELDOUT_PREFIX
from stj.sources.pairs import PAIR_FIELDS, given_pairs
from stj.sources.records import Located


def read_pairs(config: HeldoutConfig, key: str = "heldout.path") -> Iterator[Row]:
    """The held-out pairs, one at a time, with ids that no training row has; none if no file is named.

    `key` is the setting that names the file, for errors.
    Raises SourceError: at once if the file is missing, later if a row cannot be read.
    """
    if config.path is None:
        return iter(())
    records = read_files(files_at(config.path, key).files, PAIR_FIELDS)
    empty = f"{key}={config.path}: holds no pairs; name a file with pairs, or set {key}=null"
    return not_empty(itertools.islice(_rows(records), config.limit), empty)


def heldout_identity(config: HeldoutConfig, key: str = "heldout.path") -> str | None:
    """Hash of the held-out file, for keys; None if no file is named. Raises SourceError if the file is missing."""
    return None if config.path is None else files_at(config.path, key).identity()


def heldout_size(config: HeldoutConfig, key: str = "heldout.path") -> int | None:
    """Approximate number of held-out pairs; None if no file is named. Raises SourceError if the file is missing."""
    return None if config.path is None else at_most(config.limit, files_size(files_at(config.path, key).files))


def _rows(records: Iterable[Located]) -> Iterator[Row]:
    """Rows of pairs; a pair with equal answers, or on which people did not decide, has no better one and is a tombstone.

    Raises SourceError if a value has the wrong type, or if an id is repeated.
    """
    for pair in given_pairs(records, labelled=True, in_subsets=False):
        chosen, rejected = pair.ranked
        row = Row(
            id=HELDOUT_PREFIX + pair.id,
            position=pair.position,
            task=HELDOUT,
            turns=pair.turns,
            pair=Pair(method=GIVEN, chosen=chosen, rejected=rejected),
        )
        without_better = "same_answers" if chosen == rejected else pair.undecided
        yield row.drop(without_better) if without_better else usable(row)
