"""Contradictions and cycles in recorded judgments, as `stj score` counts them."""

import json
from pathlib import Path

import pytest

from stj.cli import main

AGAINST = "So Assistant B is better. [[A]]"


def scored(path: Path, rows: list[dict[str, object]], benchmark: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["score", str(path), "--benchmark", benchmark, "--json"]) == 0
    record: dict[str, object] = json.loads(capsys.readouterr().out)
    return record


def test_planted_contradictions_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = {"judgment_ab": "So Assistant A is better. [[A]]", "judgment_ba": "Hm. [[B]]", "winner": "A"}
    rows = [{**right, "id": str(number), **({"judgment_ab": AGAINST} if number == 3 else {})} for number in range(5)]
    record = scored(tmp_path / "r.jsonl", rows, "pairs", capsys)
    assert record["contradictions"] == {"stated": 5, "count": 1, "rows": ["3"]}
    assert main(["score", str(tmp_path / "r.jsonl"), "--benchmark", "pairs"]) == 0
    assert "1 of 5 judgments that end with a preference have another verdict, as in 3" in capsys.readouterr().out


def test_a_cycle_among_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes = tmp_path / "human.jsonl"
    models = [("a", "b"), ("b", "c"), ("c", "a")]
    human = [
        {"question_id": 81, "model_a": a, "model_b": b, "winner": "model_a", "judge": "expert_1", "turn": 1} for a, b in models
    ]
    votes.write_text("".join(json.dumps(vote) + "\n" for vote in human))
    texts = {"g1_judgment": "[[A]]", "g2_judgment": "[[B]]"}
    rows: list[dict[str, object]] = [{"question_id": 81, "model_1": a, "model_2": b, "turn": 1, **texts} for a, b in models]
    cycles = scored(tmp_path / "r.jsonl", rows, f"mtbench:{votes}", capsys)["cycles"]
    assert isinstance(cycles, dict)
    assert (cycles["triples"], cycles["count"]) == (1, 1)
    assert sorted(cycles["rows"][0]) == ["81/1/a/b", "81/1/b/c", "81/1/c/a"]
