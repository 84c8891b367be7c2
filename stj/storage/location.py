"""Where something lies, as a user writes it: what can be said of a path or URI without asking a disk or a store."""

import re

from stj.errors import ConfigError

_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
"""Schemes of the URIs that Arrow reads."""
_WITHOUT_BUCKET = ("file", "hdfs", "viewfs")
"""Schemes that may name no host: the machine itself, or the file system that Hadoop is set to."""
_WRITE = "write a directory, s3://BUCKET/PATH or gs://BUCKET/PATH"
_URI = re.compile(r"([A-Za-z][\w+.-]*)://([^/?]*)")
_ONE_SLASH = re.compile(r"[A-Za-z][\w+.-]+:/(?!/)")


def check_location(location: str) -> None:
    """Raises ConfigError for a URI that Arrow does not read, that names no bucket, or that has lost a slash."""
    if _ONE_SLASH.match(location):
        raise ConfigError(f"{location}: a URI has two slashes: {_WRITE}")
    if "://" not in location:
        return
    uri = _URI.match(location)
    if uri is None or uri[1] not in _SCHEMES:
        raise ConfigError(f"{location}: not a path or URI that stj can use: {_WRITE}")
    if uri[1] not in _WITHOUT_BUCKET and not uri[2]:
        raise ConfigError(f"{location}: names no bucket: give {uri[1]}://BUCKET/PATH")
