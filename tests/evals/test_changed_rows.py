"""The rows that changed between two judges, named as `stj view` names them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.evals.changed_rows import ChangedRow, changed_lines, changed_rows
from stj.rows import Row, Turn
from stj.sources.ids import joined_id
from tests.evals.test_compare import evaluation


def row(name: str, task: str = "pairs") -> Row:
    return Row(
        id=f"{task}/{name}", task=task, position=0, turns=(Turn(role="user", content=f"  Which\nis {name}? " + "x" * 90),)
    )


def test_compare_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "pairs.jsonl"
    data.touch()
    run_a, run_b = evaluation(tmp_path / "a", "2211110022", data), evaluation(tmp_path / "b", "2122220022", data)
    assert main(["compare", run_a, run_b, "--rows", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5:] == [
        "pairs, right in A, not in B: 1 row",
        "  pairs/1  ?",
        "pairs, right in B, not in A: 4 rows; the first 2",
        "  pairs/2  ?",
        "  pairs/3  ?",
    ]
    assert main(["compare", run_a, run_b, "--json"]) == 0
    changed = json.loads(capsys.readouterr().out)[0]["changed"]
    assert [each["id"] for each in changed["only_b"]] == ["pairs/2", "pairs/3", "pairs/4", "pairs/5"]
    assert main(["compare", run_a, run_b, "--rows", "0"]) == 0
    assert "right in A, not in B" not in capsys.readouterr().out
    assert main(["compare", run_a, run_b, "--rows", "-1"]) == 2


def result(row_id: str, subset: str, *, right: bool) -> str:
    votes = [{"shown_first": first, "verdict": "A" if right else "B", "text": ""} for first in "AB"]
    return json.dumps({"id": row_id, "subset": subset, "winner": "A", "model": "M", "prompt": "figure8", "votes": votes}) + "\n"


def test_results_of_stj_judge_are_named_by_their_own_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [("1", "all"), ("a/1", "x/y"), ("2", "x/y")]
    for name, right in (("a", True), ("b", False)):
        (tmp_path / f"{name}.jsonl").write_text("".join(result(*each, right=right) for each in ids))
    assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--json"]) == 0
    changed = json.loads(capsys.readouterr().out)[0]["changed"]
    assert sorted(each["id"] for each in changed["only_a"]) == ["1", "2", "a/1"]


def test_an_id_with_slashes_is_not_taken_for_a_shorter_one() -> None:
    rows = [row("1"), row("y/1")]
    changed = changed_rows({"all/1": True, "all/y/1": False}, {"all/1": False, "all/y/1": True}, rows)
    assert [each.id for each in changed.only_a] == ["pairs/1"]
    assert [each.id for each in changed.only_b] == ["pairs/y/1"]
    assert changed.only_a[0].instruction == f"Which is 1? {'x' * 47}…"
    assert changed_rows({"all/2": True}, {"all/2": False}, rows).only_a == (ChangedRow(id="2", instruction=""),)


def test_an_attacked_pair_is_found_by_its_parts() -> None:
    """The parts of an attacked pair's id are escaped alike in its row and in its key."""
    parts = ("all", "50%", "padding", "AB"), ("a/b", "1/2", "padding", "AB")
    keys = [joined_id("padding", *each) for each in parts]
    changed = changed_rows(
        dict.fromkeys(keys, True), dict.fromkeys(keys, False), [row(joined_id(*each), "attacks") for each in parts]
    )
    assert {each.id for each in changed.only_a} == {"attacks/all/50%25/padding/AB", "attacks/a%2Fb/1%2F2/padding/AB"}


def test_a_hostile_instruction_stays_on_its_line() -> None:
    changed = changed_rows({"a/\x1b[2J": True}, {"a/\x1b[2J": False}, [row("\x1b[2J")])
    lines = list(changed_lines("pairs", changed, 5))
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


@given(st.dictionaries(st.text("ab", min_size=1, max_size=4), st.booleans()))
def test_every_change_is_listed_once(right: dict[str, bool]) -> None:
    other = {key: not value for key, value in right.items()}
    changed = changed_rows(right, other, [])
    assert {each.id for each in changed.only_a} == {key for key, value in right.items() if value}
    assert {each.id for each in changed.only_b} == {key for key, value in right.items() if not value}
