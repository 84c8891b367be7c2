"""Where something lies, as a user writes it: what can be said of a path or URI without asking a disk or a store."""

import os
import re
from pathlib import Path

from stj.errors import ConfigError

_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
"""Schemes of the URIs that Arrow reads."""
_WITHOUT_BUCKET = ("file", "hdfs", "viewfs")
"""Schemes that may name no host: the machine itself, or the file system that Hadoop is set to."""
_WRITE = "write a directory, s3://BUCKET/PATH or gs://BUCKET/PATH"
_URI = re.compile(r"([A-Za-z][\w+.-]*)://([^/?]*)")
_ONE_SLASH = re.compile(r"([A-Za-z][\w+.-]+):(/(?!/).*)")


def cache_root() -> Path:
    """Where this machine keeps what `stj` has fetched, and what it knows of files: STJ_CACHE, or ~/.cache/stj."""
    return Path(os.environ.get("STJ_CACHE") or "~/.cache/stj").expanduser().absolute()


def is_uri(location: str) -> bool:
    """Whether a location is meant as a URI; one that starts as paths do, with `/`, `.` or `~`, is a path whatever it holds."""
    return "://" in location and not location.startswith(("/", ".", "~"))


def check_location(location: str) -> None:
    """Raises ConfigError for a URI that Arrow does not read, that names no bucket, or that has lost a slash."""
    if lost := _ONE_SLASH.fullmatch(location):
        raise ConfigError(f"{location}: {_two_slashes(*lost.groups())}")
    if not is_uri(location):
        return
    uri = _URI.match(location)
    if uri is None or uri[1] not in _SCHEMES:
        raise ConfigError(f"{location}: not a path or URI that stj can use: {_WRITE}")
    if uri[1] not in _WITHOUT_BUCKET and not uri[2]:
        raise ConfigError(f"{location}: names no bucket: give {uri[1]}://BUCKET/PATH")


def _two_slashes(scheme: str, path: str) -> str:
    """What to write in place of a URI with one slash."""
    if scheme in _WITHOUT_BUCKET:
        plain = f", or the path {path}" if scheme == "file" else ""
        return f"a URI without a host has three slashes: write {scheme}://{path}{plain}"
    if scheme in _SCHEMES:
        return f"a URI has two slashes: write {scheme}:/{path}"
    return f"a URI has two slashes: {_WRITE}; ./{scheme}:{path} is a directory of that name"
