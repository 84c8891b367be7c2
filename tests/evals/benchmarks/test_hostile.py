"""Any content of a file is read or raises SourceError: no other error escapes."""

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stj.errors import SourceError
from stj.evals.benchmarks import BENCHMARKS
from stj.evals.benchmarks.base import SourceRecord
from stj.evals.benchmarks.recorded import judged_records
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.benchmarks.scoring import score_judged
from stj.evals.score import score_file
from stj.rows import Row, rows_to_table
from stj.verdict import PARSERS, Parser
from tests.evals.benchmarks.test_loaders import GOOD

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 200)
    | st.sampled_from([10**400, "9" * 5_000, "nan", "ref:1", "tied:"])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["A", "tie", "Math"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from("ABCD"), inner, max_size=3)
    ),
    max_leaves=4,
)
TEXTS = {"judgment_ab": "[[A]]", "judgment_ba": "[[B]]", "winner": "A", "turn": 1, "question_id": 81, "subset": "math-prm"}
RECORDED: list[dict[str, Any]] = [
    {**TEXTS, "source": "livecodebench", "model_a": "a", "model_b": "b", "domain": "chat", "styles": [0, 1]},
    {"judgments": [{"judgment": {"response": "[[A>B]]"}}, None], "source": "livecodebench", "label": "A>B"},
    {"judgment_ba": "[[A>B]]", "source": "livecodebench", "label": "A>B", "response_model": "gpt-4o", "id": 1},
    {
        "results": [{f"swap = {s}": {"completion": ["Output (a)", "stop"]} for s in (True, False)}],
        "label": 1,
        "subset": "Natural",
    },
    {"judgments": {"A": "[[A]]"}, "subset": "Math", "id": 1},
    {"ratings": ["9", 2], "num_correct": 1, "subset": "Ties", "id": "ref:1"},
]
HOSTILE = settings(suppress_health_check=[HealthCheck.too_slow])


def source_record(record: dict[str, Any]) -> SourceRecord:
    return SourceRecord("file.jsonl, line 1", "file.jsonl", record)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
@HOSTILE
@given(data=st.data())
def test_any_value_in_a_benchmarks_record(name: str, data: st.DataObject) -> None:
    records = [dict(record) for record in GOOD[name]]
    for record in records:
        for field in data.draw(st.lists(st.sampled_from(sorted(record)), max_size=2)):
            record[field] = data.draw(VALUES)
    rows: list[Row] = []
    with contextlib.suppress(SourceError):
        rows = list(BENCHMARKS[name].rows(map(source_record, records)))
    rows_to_table(rows)


@HOSTILE
@given(data=st.data())
def test_any_value_in_a_row_of_grades(data: st.DataObject) -> None:
    record: dict[str, Any] = {"question_id": 81, "model": "m", "turn": 1, "judgment": "[[7]]", "score": 7}
    for field in data.draw(st.lists(st.sampled_from(sorted(record)), max_size=2)):
        record[field] = data.draw(VALUES)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(SourceError):
        file = Path(folder) / "grades.jsonl"
        file.write_text(json.dumps(record))
        score_file(str(file), benchmark_ref("mtbench"), None)


@pytest.mark.slow
@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("name", BENCHMARKS)
@HOSTILE
@given(data=st.data())
def test_any_value_in_a_recorded_row(name: str, parser: Parser, data: st.DataObject) -> None:
    record = dict(data.draw(st.sampled_from(RECORDED)))
    for field in data.draw(st.lists(st.sampled_from(sorted(record)), max_size=2)):
        record[field] = data.draw(VALUES)
    benchmark = BENCHMARKS[name]
    with contextlib.suppress(SourceError):
        score_judged(benchmark, parser, judged_records([source_record(record)], benchmark, parser), ())
