"""The hub: which locations name a data set there, and errors when it does not answer. No test reaches the network."""

from collections.abc import Iterator
from typing import Any

import datasets
import pytest

from stj.config import SourceConfig
from stj.errors import SourceError
from stj.sources import read_rows, source_identity
from stj.sources.hub import is_hub_dataset

RECORDS = [
    {"conversation_hash": "a", "conversation": [{"role": "user", "content": "x", "country": "?"}], "toxic": None, "state": "?"},
    {"conversation_hash": "b", "conversation": [{"role": "user", "content": "y", "country": "?"}], "toxic": True, "state": "?"},
]


def serve(monkeypatch: pytest.MonkeyPatch, stream: Any) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    def load_dataset(path: str, **options: Any) -> Any:
        asked.append({"path": path, **options})
        if isinstance(stream, Exception):
            raise stream
        return stream

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize(
    ("location", "hub"),
    [
        ("allenai/WildChat-1M", True),
        ("data/pool.jsonl", False),
        ("pool.csv", False),
        ("/data/pool", False),
        ("stj/sources", False),
        ("../data", False),
        ("package://mini/data/instructions.jsonl", False),
    ],
)
def test_which_locations_name_a_data_set_on_the_hub(location: str, hub: bool) -> None:
    assert is_hub_dataset(location) is hub


def test_a_data_set_streams_from_its_revision_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, datasets.Dataset.from_list(RECORDS).to_iterable_dataset())
    rows = list(read_rows(SourceConfig(revision="abc123", split="train", config_name="en")))
    expected = {"path": "allenai/WildChat-1M", "name": "en", "revision": "abc123", "split": "train", "streaming": True}
    assert asked == [expected]
    assert [(row.id, row.toxic) for row in rows] == [("a", None), ("b", True)]


def test_the_identity_is_the_name_and_the_revision() -> None:
    assert source_identity(SourceConfig(revision="abc123")) == "allenai/WildChat-1M@abc123/train"
    assert source_identity(SourceConfig()) == "allenai/WildChat-1M@main/train"


def test_a_field_that_the_data_set_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, datasets.Dataset.from_list([{"prompt": "x"}]).to_iterable_dataset())
    with pytest.raises(SourceError, match="no field 'conversation_hash'; the fields there are 'prompt'"):
        read_rows(SourceConfig())


def test_a_record_that_lacks_a_field_is_a_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"instruction": "x"}, {"instructions": "y"}, {"instruction": "z"}]
    serve(monkeypatch, datasets.IterableDataset.from_generator(lambda: iter(records)))
    rows = list(read_rows(SourceConfig(path="a/b", kind="instructions")))
    assert [(row.position, row.dropped) for row in rows] == [(0, None), (1, "no_field"), (2, None)]
    assert str(rows[1].detail).startswith(
        "a/b, split train, row 1: no field 'instruction'; the fields there are 'instructions'"
    )


@pytest.mark.parametrize(
    "refusal",
    [
        ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)\nsecond line"),
        datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
        ValueError("Bad split: dev. Available splits: ['train']"),
    ],
)
def test_a_hub_that_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, refusal: Exception) -> None:
    serve(monkeypatch, refusal)
    with pytest.raises(SourceError) as caught:
        read_rows(SourceConfig(path="a/b"))
    assert str(refusal).splitlines()[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_that_ends_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        column_names = None

        def __iter__(self) -> Iterator[dict[str, Any]]:
            yield RECORDS[0]
            raise ConnectionError("connection lost")

    serve(monkeypatch, Broken())
    rows = read_rows(SourceConfig())
    assert next(rows).id == "a"
    with pytest.raises(SourceError, match="connection lost"):
        next(rows)
