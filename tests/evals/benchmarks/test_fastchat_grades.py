"""Grades of single answers: null means "not asked", alike in JSONL and CSV."""

import json
from pathlib import Path
from typing import Any

import pytest

from stj.errors import SourceError
from stj.evals.benchmarks.fastchat_grades import read_grades

ROW: dict[str, Any] = {"question_id": 81, "model": "m", "turn": 1, "score": 9, "judgment": "[[9]]"}
HEADER = "question_id,model,turn,score,judgment,judge"


def test_a_grade_that_was_not_asked_for_is_not_judged(tmp_path: Path) -> None:
    jsonl, table = tmp_path / "grades.jsonl", tmp_path / "grades.csv"
    rows = [ROW | {"judge": ["gpt-4", "single-v1"]}, {**ROW, "turn": 2, "score": None, "judgment": None, "judge": None}]
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table.write_text(f'{HEADER}\n81,m,1,9,[[9]],"[""gpt-4"", ""single-v1""]"\n81,m,2,,,\n')
    from_jsonl, from_csv = (read_grades(str(file), "strict") for file in (jsonl, table))
    assert from_jsonl == from_csv
    assert (from_jsonl.judged, from_jsonl.unjudged, from_jsonl.unparsed) == (1, 1, 0.0)


def test_the_prompts_of_one_judge_are_one_judge_in_csv(tmp_path: Path) -> None:
    file = tmp_path / "grades.csv"
    judges = ['"[""gpt-4"", ""single-v1""]"', '"[""gpt-4"", ""single-v1-multi-turn""]"']
    file.write_text("\n".join([HEADER, *(f"81,m,{turn},9,[[9]],{judge}" for turn, judge in enumerate(judges, start=1))]))
    assert read_grades(str(file), "strict").judged == 2


def test_a_file_without_any_grade_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "grades.jsonl"
    file.write_text(json.dumps({**ROW, "judgment": None, "score": None}))
    with pytest.raises(SourceError, match="no grade was asked for"):
        read_grades(str(file), "strict")
