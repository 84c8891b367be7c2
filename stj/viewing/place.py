"""From the words of a command line to the sources that they name."""

from collections.abc import Sequence

from stj.errors import ConfigError
from stj.pair_fields import OWN_FIELDS, PairFields
from stj.storage.folder import Folder
from stj.viewing.results import read_results
from stj.viewing.sources import Source, sources_at


def sources_of(place: str, pairs: str | None, fields: PairFields = OWN_FIELDS) -> Sequence[Source]:
    """The sources in a directory, or in a file of results with the pairs behind it, whose fields may have other names.

    Raises ConfigError if the place does not exist or `pairs` are given for a directory, SourceError for a file that holds no
    results, and NoArtifact for a directory without rows.
    """
    folder = Folder.at(place)
    if folder.local and not folder.local.exists():
        raise ConfigError(f"{place}: no such file or directory; give a run, an evaluation, or a file of results of `stj judge`")
    if folder.local and folder.local.is_file():
        return read_results(folder.local, pairs, fields)
    if pairs:
        raise ConfigError(f"--pairs {pairs}: only a file of results needs its pairs; the rows in {place} hold theirs")
    return sources_at(folder)
