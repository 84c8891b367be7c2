"""`stj compare` on files of recorded judgments and of results: no score is zero in silence."""

import json
from pathlib import Path
from typing import Any

import pytest

from stj.cli import main

TEXTS: dict[str, tuple[str, str]] = {
    "figure8": ("[[A]]", "[[B]]"),
    "prometheus": ("ok [RESULT] A", "ok [RESULT] B"),
    "arena": ("[[A>>B]]", "[[B>A]]"),
}


def write(file: Path, first: str, second: str, **fields: Any) -> str:
    rows = [{"id": str(number), "label": "A", "judgment_ab": first, "judgment_ba": second, **fields} for number in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def results(file: Path, *votes: dict[str, Any]) -> str:
    rows = [{"id": str(number), "winner": "A", "prompt": "figure8", "votes": votes} for number in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def vote(shown_first: str, text: str, **verdict: Any) -> dict[str, Any]:
    return {"shown_first": shown_first, "text": text, **verdict}


@pytest.mark.parametrize("form", TEXTS)
def test_each_file_is_read_in_its_own_format(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = write(tmp_path / "right.jsonl", *TEXTS[form])
    half = write(tmp_path / "half.jsonl", TEXTS["figure8"][0], TEXTS["figure8"][0])
    assert main(["compare", right, half, "--json"]) == 0
    [compared] = json.loads(capsys.readouterr().out)
    assert (compared["accuracy_a"], compared["accuracy_b"], compared["only_a"]) == (1.0, 0.5, 6)


def test_unread_judgments_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, unread = write(tmp_path / "right.jsonl", *TEXTS["figure8"]), write(tmp_path / "unread.jsonl", "hm", "hm")
    assert main(["compare", right, unread]) == 2
    assert "unread.jsonl: distinct: 12 of 12 judgments hold no verdict" in capsys.readouterr().err
    mixed = tmp_path / "mixed.jsonl"
    write(mixed, *TEXTS["prometheus"])
    mixed.write_text(mixed.read_text().replace("[RESULT] A", "[[A]]", 1))
    assert main(["compare", right, str(mixed)]) == 2
    error = capsys.readouterr().err
    assert "11 of the 11 looked at seem to be in the format prometheus, [RESULT] A or [RESULT] B" in error
    assert "--format" not in error, "only `stj score` has that option"
    silent = results(tmp_path / "silent.jsonl", vote("A", "hm", verdict=None), vote("B", "hm", verdict=None))
    assert main(["compare", right, silent]) == 2
    assert "silent.jsonl: 12 of 12 orders have no verdict" in capsys.readouterr().err


def test_runs_without_a_common_example_are_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write(tmp_path / "a.jsonl", *TEXTS["figure8"]), write(tmp_path / "b.jsonl", *TEXTS["figure8"], subset="x")
    assert main(["compare", first, second]) == 2
    assert "have no judged pairs in common" in capsys.readouterr().err


@pytest.mark.parametrize("verdict", [{}, {"verdict": "C"}, {"verdict": 1}])
def test_a_vote_needs_its_verdict(verdict: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = results(tmp_path / "right.jsonl", vote("A", "[[A]]", verdict="A"))
    assert main(["compare", right, results(tmp_path / "bad.jsonl", vote("A", "[[A]]", **verdict))]) == 2
    assert "bad.jsonl, line 1: field 'votes[].verdict' is" in capsys.readouterr().err


def test_a_tie_stays_a_tie_in_the_other_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tied = results(tmp_path / "tied.jsonl", vote("B", "[[C]]", verdict="tie"))
    right = results(tmp_path / "right.jsonl", vote("B", "[[B]]", verdict="A"))
    assert main(["compare", tied, right, "--json"]) == 0
    [compared] = json.loads(capsys.readouterr().out)
    assert (compared["accuracy_a"], compared["accuracy_b"]) == (0.0, 1.0)
