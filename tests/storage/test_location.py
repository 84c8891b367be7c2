"""What can be said of a path or URI from its text alone."""

import pytest

from stj.errors import ConfigError
from stj.storage.location import check_location


@pytest.mark.parametrize(
    "location",
    [
        "runs/paper",
        "/a/b",
        "s3://bucket",
        "gs://bucket/a?x=1",
        "file:///a",
        "hdfs:///a",
        "hdfs://host:8020/a",
        "a:b",
        "./s3:/b",
    ],
)
def test_paths_and_uris_that_arrow_reads_are_taken(location: str) -> None:
    check_location(location)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("s3:/bucket/a", "a URI has two slashes"),
        ("s3:///a", "names no bucket: give s3://BUCKET/PATH"),
        ("abfss://?x=1", "names no bucket"),
        ("S3://bucket/a", "not a path or URI"),
        ("s3a://bucket/a", "not a path or URI"),
        ("http://host/a", "not a path or URI"),
        ("://a", "not a path or URI"),
    ],
)
def test_others_are_refused_in_one_line(location: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        check_location(location)
    assert "\n" not in str(refused.value)
