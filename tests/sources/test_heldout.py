"""Held-out pairs: their rows, their ids, their errors."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from stj.config import HeldoutConfig
from stj.errors import SourceError
from stj.rows import HELDOUT, Pair, row_from_dict, rows_to_table
from stj.sources.heldout import heldout_identity, read_pairs


def write(tmp_path: Path, *records: dict[str, Any]) -> HeldoutConfig:
    path = tmp_path / "heldout.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return HeldoutConfig(path=str(path))


def pair(**values: Any) -> dict[str, Any]:
    return {"instruction": "2+2?", "chosen": "4", "rejected": "5", **values}


def test_a_pair_is_a_row_with_both_answers(tmp_path: Path) -> None:
    [row] = read_pairs(write(tmp_path, pair(id="q1", subset="math")))
    assert (row.id, row.task, row.position) == ("heldout/q1", HELDOUT, 0)
    assert row.pair == Pair(method="given", chosen="4", rejected="5")
    assert row.instruction == "2+2?"
    assert row_from_dict(rows_to_table([row]).to_pylist()[0]) == row


def test_pairs_without_ids_are_numbered(tmp_path: Path) -> None:
    rows = read_pairs(write(tmp_path, pair(), pair(id=None), pair()))
    assert [row.id for row in rows] == ["heldout/row-00000000", "heldout/row-00000001", "heldout/row-00000002"]


def test_a_dialogue_keeps_its_history(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "2+2?"}]
    [row] = read_pairs(write(tmp_path, pair(instruction=turns)))
    assert row.instruction == "User: hi\n\nAssistant: yes?\n\nUser: 2+2?"


def test_csv_is_read_too(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "instruction", "chosen", "rejected"], ["x", "2+2?", "4", "5"]])
    [row] = read_pairs(HeldoutConfig(path=str(tmp_path / "a.csv")))
    assert row.id == "heldout/x"


def test_the_limit_keeps_the_first_pairs(tmp_path: Path) -> None:
    config = write(tmp_path, pair(id="a"), pair(id="b"))
    assert [row.id for row in read_pairs(HeldoutConfig(path=config.path, limit=1))] == ["heldout/a"]


def test_pairs_that_cannot_be_judged_are_tombstones(tmp_path: Path) -> None:
    rows = read_pairs(write(tmp_path, pair(chosen="5"), pair(instruction=" "), pair(instruction=None)))
    assert [row.dropped for row in rows] == ["same_answers", "empty_turn", "no_user_turn"]


def test_no_file_is_no_pairs() -> None:
    assert list(read_pairs(HeldoutConfig())) == []
    assert heldout_identity(HeldoutConfig()) is None


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "heldout.path="),
        ([{"instruction": "x", "chosen": "a"}], "no field 'rejected'; the fields there are 'instruction', 'chosen'"),
        ([pair(chosen=None)], "field 'chosen' is NoneType None; it must be a string"),
        ([pair(id="a"), pair(id="a")], "which an earlier row has too"),
        ([pair(id=[1])], "field 'id' is list [1]"),
    ],
)
def test_one_clear_line_for_each_bad_file(tmp_path: Path, records: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        list(read_pairs(write(tmp_path, *records)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"heldout\.path=.*no such file"):
        read_pairs(HeldoutConfig(path=str(tmp_path / "none.jsonl")))


def test_the_identity_follows_the_content(tmp_path: Path) -> None:
    first = heldout_identity(write(tmp_path, pair()))
    assert heldout_identity(write(tmp_path, pair(chosen="four"))) != first
