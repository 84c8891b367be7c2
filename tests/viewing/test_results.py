"""Files of results that `stj judge` wrote."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from stj.cli import main
from stj.errors import SourceError
from stj.rows import OPEN, Judgment, Pair
from stj.stages.vote import votes_of
from stj.viewing import results as results_module
from stj.viewing.columns import UNKNOWN_DIFFERENCE
from stj.viewing.details import row_details
from stj.viewing.index import Index
from stj.viewing.place import sources_of
from tests.viewing.conftest import judged

PAIRS = [
    {"id": "1", "instruction": "Which?", "response_a": "one", "response_b": "three", "winner": "B"},
    {"id": "2", "instruction": "What?", "response_a": "x", "response_b": "y"},
]


def result(row_id: str, *votes: Mapping[str, object], model: str = "m", **values: object) -> dict[str, object]:
    return {"id": row_id, "model": model, "prompt": "figure8", "verdict": None, "error": None, "votes": votes, **values}


def vote(first: str, verdict: str | None, text: str = "So. [[A]]") -> dict[str, object]:
    return {"shown_first": first, "verdict": verdict, "text": text}


def written(path: Path, records: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_votes_become_judgments_of_the_better_answer(tmp_path: Path) -> None:
    records = [result("1", vote("A", "B"), vote("B", "A")), result("2", vote("A", "A"), vote("B", None)), result("3")]
    file, pairs = written(tmp_path / "results.jsonl", records), written(tmp_path / "pairs.jsonl", list(PAIRS))
    index = Index(sources_of(file, pairs))
    [(judge, first)] = index.judged(0)
    assert judge == "m figure8"
    assert first.pair == Pair(method="given", chosen="three", rejected="one")
    assert [(j.winner, j.verdict, j.correct) for j in first.judgments] == [("B", "B", True), ("A", "B", False)]
    [(_, second)] = index.judged(1)
    assert second.pair == Pair(method=OPEN, chosen="x", rejected="y")
    assert [(j.winner, j.verdict) for j in second.judgments] == [("A", "A"), ("B", None)]
    assert index.opinions[0].prefers.tolist() == [3, 1, 0]
    assert index.plain()["known"] == [1, 0, 0]


def test_it_is_the_inverse_of_votes(tmp_path: Path) -> None:
    """The verdicts that `stj judge` writes of judgments are read as the same judgments."""
    given: list[Judgment] = [judged(verdict, winner) for winner in ("A", "B") for verdict in ("A", "B", None)]  # type: ignore[arg-type]
    votes = [vote(each.shown_first, each.verdict, each.text) for each in votes_of(given)]
    [source] = sources_of(written(tmp_path / "r.jsonl", [result("1", *votes)]), None)
    assert [(j.winner, j.verdict) for j in source.row(0).judgments] == [(j.winner, j.verdict) for j in given]


def test_results_that_name_the_winner_are_right_or_wrong(tmp_path: Path) -> None:
    records = [result("1", vote("A", "B"), winner="B"), result("2", vote("A", "B"), winner="A"), result("3", vote("A", "B"))]
    index = Index(sources_of(written(tmp_path / "r.jsonl", records), None))
    assert index.plain()["known"] == [1, 1, 0]
    assert index.opinions[0].prefers.tolist() == [1, 2, 2]
    assert set(index.plain()["difference"]) == {UNKNOWN_DIFFERENCE}
    details = row_details("1", index.judged(0), 100)
    assert details["answers"] == []
    assert details["judges"][0]["judgments"][0]["verdict"] == "B: right"


def test_several_jurors_are_several_judges_of_the_same_rows(tmp_path: Path) -> None:
    records = [result("1", vote("A", verdict), model=model) for model, verdict in (("m", "A"), ("n", "B"))]
    index = Index(sources_of(written(tmp_path / "r.jsonl", records), None))
    assert index.rows == 1
    assert {each.judge: each.prefers[0] for each in index.opinions} == {"m figure8": 1, "n figure8": 2}


def test_the_fields_of_the_pairs_may_have_other_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = written(tmp_path / "p.jsonl", [{"Nr": "1", "Frage": "2 + 2?", "links": "4", "rechts": "5"}])
    results = written(tmp_path / "r.jsonl", [result("1", vote("A", "A"))])
    words = ["view", results, "--pairs", pairs, "fields.response_a=links", "fields.response_b=rechts", "fields.id=Nr"]
    assert main([*words, "fields.instruction=Frage", "--out", str(tmp_path / "page.html")]) == 0
    assert "2 + 2?" in (tmp_path / "page.html").read_text()
    capsys.readouterr()
    for wrong, message in (
        ([*words, "seed=3"], "seed=3: of settings"),
        (["view", results, "fields.id=Nr"], "fields.id=Nr: there is no --pairs FILE"),
    ):
        assert main(wrong) == 2
        assert capsys.readouterr().err.startswith(f"stj: {message}")


def test_a_failed_pair_has_its_error(tmp_path: Path) -> None:
    index = Index(sources_of(written(tmp_path / "r.jsonl", [result("1", error="it broke"), result("2", vote("A", "A"))]), None))
    assert index.plain()["facts"]["state"]["names"] == ["failed", "judged"]
    assert [row.error for _, row in index.judged(0)] == ["it broke"]


def test_a_line_may_be_longer_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "_BLOCK_BYTES", 1000)
    records = [result(str(number), vote("A", "A", "x" * (5000 if number == 5 else 9))) for number in range(9)]
    [source] = sources_of(written(tmp_path / "r.jsonl", records), None)
    assert [len(source.row(number).judgments[0].text) for number in (4, 5, 8)] == [9, 5000, 9]


@pytest.mark.parametrize("content", ["", "no JSON", '{"id": "1"}\n', '{"votes": []}\n', "[1, 2]\n", '{"id": 3, "votes": []}\n'])
def test_any_other_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.jsonl").write_text(content)
    with pytest.raises(SourceError, match=r"not a file of results that `stj judge` wrote"):
        sources_of(str(tmp_path / "r.jsonl"), None)


def test_pairs_of_another_file_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "r.jsonl", [result("9", vote("A", "A"))])
    with pytest.raises(SourceError, match="none of its ids"):
        sources_of(file, written(tmp_path / "pairs.jsonl", list(PAIRS)))


def test_pairs_that_a_file_lacks_are_shown_without_texts(tmp_path: Path) -> None:
    rows = [result(row_id, vote("A", "B"), winner="B") for row_id in ("1", "7")]
    [source] = sources_of(written(tmp_path / "r.jsonl", rows), written(tmp_path / "pairs.jsonl", list(PAIRS)))
    known, unknown = source.row(0), source.row(1)
    assert (known.instruction, known.pair and known.pair.chosen, known.judgments[0].correct) == ("Which?", "three", True)
    assert (unknown.turns, unknown.pair and unknown.pair.chosen, unknown.judgments[0].correct) == ((), "", True)
