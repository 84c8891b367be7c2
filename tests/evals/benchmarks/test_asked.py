"""Null means "not asked", and the same rows give the same scores as JSONL, CSV and Parquet."""

import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stj.errors import SourceError
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.benchmarks.scoring import BenchmarkScores, score_recorded

Record = dict[str, Any]
PAIR_TEXTS = st.none() | st.sampled_from(["", "so [[A]]", "so [[B]]", "hm"])
CSV_TEXTS = st.none() | st.sampled_from(["so [[A]]", "so [[B]]", "hm"])


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Record]:
    """Records in which each field is there, null or absent."""
    return st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in fields.items()})


GAMES = optional(
    judgment=optional(judge_model=st.just("m"), response=st.sampled_from(["[[A>B]]", "[[B>A]]", ""])),
    decision=st.sampled_from(["A>B", "B>A"]),
)
COMPLETIONS = optional(completion=st.sampled_from(["Output (a)", "Output (b)", "hm"]))
ROWS: dict[str, st.SearchStrategy[Record]] = {
    "pairs": optional(judgment_ab=PAIR_TEXTS, judgment_ba=PAIR_TEXTS).map(lambda row: {"winner": "A", **row}),
    "rewardbench": optional(judgment_ab=PAIR_TEXTS, judgment_ba=PAIR_TEXTS, id=st.uuids().map(str)).map(
        lambda row: {"subset": "math-prm", "chosen": "yes", "rejected": "no", **row}
    ),
    "judgebench": st.lists(st.none() | GAMES, min_size=1, max_size=2).map(
        lambda games: {"source": "livecodebench", "label": "A>B", "judgments": games}
    ),
    "llmbar": optional(**{"swap = False": COMPLETIONS, "swap = True": COMPLETIONS}).map(
        lambda result: {"label": 1, "subset": "Natural", "results": [result]}
    ),
    "rewardbench2": optional(**dict.fromkeys("ABCD", st.sampled_from(["[[A]]", "[[D]]", "hm"]))).map(
        lambda places: {"subset": "Math", "judgments": places}
    ),
    "mtbench": optional(g1_judgment=PAIR_TEXTS, g2_judgment=PAIR_TEXTS).map(
        lambda row: {"model_1": "a", "model_2": "b", "turn": 1, **row}
    ),
}


GAME = {"judgment": {"judge_model": "m", "response": "[[A>B]]"}, "decision": "A>B"}
WHOLE: dict[str, list[Record]] = {
    "judgebench": [{"source": "livecodebench", "label": "A>B", "judgments": [GAME, GAME]}],
    "llmbar": [
        {"label": 1, "subset": "Natural", "results": [{f"swap = {s}": {"completion": "Output (a)"} for s in (True, False)}]}
    ],
    "rewardbench2": [{"subset": "Math", "judgments": dict.fromkeys("ABCD", "[[A]]")}],
}
"""A row with every member, without which Parquet cannot hold objects."""


def as_jsonl(file: Path, rows: Sequence[Record]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_parquet(file: Path, rows: Sequence[Record]) -> None:
    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), file)


def as_csv(file: Path, rows: Sequence[Record]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def scores(file: Path, benchmark: str) -> BenchmarkScores | str:
    """The scores, or that the file is refused."""
    try:
        return score_recorded(str(file), benchmark_ref(benchmark), "distinct")
    except SourceError:
        return "refused"


def same(writers: dict[str, Callable[[Path, Sequence[Record]], None]], rows: Sequence[Record], benchmark: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for suffix, write in writers.items():
            file = Path(folder) / f"rows{suffix}"
            write(file, rows)
            results.append(scores(file, benchmark))
    assert all(result == results[0] for result in results), results


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ROWS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_jsonl_and_parquet_give_the_same_scores(benchmark: str, data: st.DataObject) -> None:
    """Parquet fills the members that other rows have with null."""
    rows = data.draw(st.lists(ROWS[benchmark], min_size=1, max_size=5))
    numbered = [{**row, **({"question_id": 81 + place} if benchmark == "mtbench" else {})} for place, row in enumerate(rows)]
    same({".jsonl": as_jsonl, ".parquet": as_parquet}, [*WHOLE.get(benchmark, []), *numbered], benchmark)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(optional(judgment_ab=CSV_TEXTS, judgment_ba=CSV_TEXTS, id=st.uuids().map(str)), min_size=1, max_size=5))
def test_an_empty_cell_of_csv_is_null(rows: list[Record]) -> None:
    labelled = [{"winner": "B", "subset": None, **row} for row in rows]
    same({".jsonl": as_jsonl, ".parquet": as_parquet, ".csv": as_csv}, labelled, "pairs")


def test_rows_that_were_not_asked_are_counted_by_reason(tmp_path: Path) -> None:
    """An empty text was asked: it has no verdict. A null rating leaves its row unjudged."""
    rows = [{"judgment_ab": "[[A]]"}, {"judgment_ab": ""}, {"judgment_ab": None, "judgment_ba": []}, {}]
    as_jsonl(tmp_path / "rows.jsonl", [{"winner": "A", **row} for row in rows])
    read = score_recorded(str(tmp_path / "rows.jsonl"), benchmark_ref("pairs"), "strict")
    assert (read.judged, read.unjudged, read.groups["overall"].accuracy) == (2, {"not asked": 2}, 0.5)
    ratings = [{"subset": "Math", "ratings": rated} for rated in ([9, 1], [9, None], [None, None])]
    as_jsonl(tmp_path / "ratings.jsonl", ratings)
    read = score_recorded(str(tmp_path / "ratings.jsonl"), benchmark_ref("rewardbench2"), "strict")
    assert (read.judged, read.unjudged) == (1, {"not all rated": 1, "not asked": 1})


@pytest.mark.parametrize("row", [{}, {"judgment_ab": None}, {"judgement_ab": "[[A]]"}])
def test_a_file_in_which_nothing_was_asked_is_refused(row: Record, tmp_path: Path) -> None:
    as_jsonl(tmp_path / "rows.jsonl", [{"winner": "A", **row}] * 3)
    with pytest.raises(SourceError, match=r"rows\.jsonl, line 1: no judgment"):
        score_recorded(str(tmp_path / "rows.jsonl"), benchmark_ref("pairs"), "strict")


def as_csv_with_json(file: Path, rows: Sequence[Record]) -> None:
    cells = [
        {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in row.items()} for row in rows
    ]
    as_csv(file, cells)


VOTES = st.none() | st.lists(st.none() | st.sampled_from(["so [[A]]", "so [[B]]", "hm"]), max_size=3)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.fixed_dictionaries({"judgment_ab": VOTES, "judgment_ba": VOTES}), min_size=1, max_size=4))
def test_a_csv_cell_holds_votes_as_json(rows: list[Record]) -> None:
    given_rows = [{"label": "A", "judge": ["m", f"prompt {number}"], **row} for number, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for suffix, write in ((".jsonl", as_jsonl), (".csv", as_csv_with_json)):
            file = Path(folder) / f"rows{suffix}"
            write(file, given_rows)
            try:
                scores = score_recorded(str(file), benchmark_ref("pairs"), "distinct")
                results.append((scores.judged, scores.unjudged, scores.groups))
            except SourceError as error:
                results.append(str(error).partition(": ")[2])
    assert results[0] == results[1]


@pytest.mark.parametrize("cell", ["['[[A]]', '[[A]]', '[[B]]']", "['[[A]]' '[[B]]']", "[None, '[[A]]']"])
def test_a_list_as_python_prints_it_is_no_text(cell: str, tmp_path: Path) -> None:
    as_csv(tmp_path / "rows.csv", [{"label": "A", "judgment_ab": cell}])
    with pytest.raises(SourceError, match=r"line 2: field 'judgment_ab' is a list as Python prints it.*as JSON"):
        score_recorded(str(tmp_path / "rows.csv"), benchmark_ref("pairs"), "strict")


@pytest.mark.parametrize("text", ["[[A]]", "[1] is wrong. [[A]]", "['x'] is wrong, so [[A]].", "[[A]] [", "[A] or [[A]]"])
def test_a_text_in_brackets_is_a_text(text: str, tmp_path: Path) -> None:
    as_csv(tmp_path / "rows.csv", [{"label": "A", "judgment_ab": text}])
    assert score_recorded(str(tmp_path / "rows.csv"), benchmark_ref("pairs"), "distinct").groups["overall"].accuracy == 1.0
