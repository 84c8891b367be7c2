"""What can be said of a path or URI from its text alone."""

import os
from pathlib import Path

import pytest

from stj.errors import ConfigError
from stj.storage.folder import Folder
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
        "./http://x",
        "../http://x",
        "~/a://b",
        "/mnt/a://b",
    ],
)
def test_paths_and_uris_that_arrow_reads_are_taken(location: str) -> None:
    check_location(location)


def test_what_starts_as_a_path_is_a_path_whatever_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for location in (f"{tmp_path}/http://x", "./http://x"):
        folder = Folder.at(location)
        assert folder.local
        (folder / "a").write("b", b"1")
        assert Folder.at(folder.uri).uri == folder.uri == os.path.join(tmp_path, "http:", "x")
    assert (tmp_path / "http:" / "x" / "a" / "b").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("s3:/bucket/a", "s3:/bucket/a: a URI has two slashes: write s3://bucket/a$"),
        ("runs:/x", "a URI has two slashes: .*; ./runs:/x is a directory of that name$"),
        ("file:/a/b", "a URI without a host has three slashes: write file:///a/b, or the path /a/b$"),
        ("hdfs:/a/b", "three slashes: write hdfs:///a/b$"),
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
