"""Names and texts of every alphabet: on any terminal, in metrics, as ids, and as words of the command line."""

import io
import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.cli.words import is_setting, split_settings
from stj.errors import SourceError
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.score import score_file
from stj.passes.metrics import PassMetrics, RunMetrics
from stj.passes.progress import Progress
from stj.sources.ids import joined_id
from stj.text import in_ascii, json_text
from stj.train.gauges import TrainingGauges
from stj.train.metrics import StepMetrics
from tests.sources.test_directory import ODD_NAMES

STJ = [sys.executable, "-m", "stj.cli"]
SCRIPTS = "größer 数学 \u05d0 e\u0301 👩\u200d🚀"
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.just("\ud800")
    | st.sampled_from([SCRIPTS, "\x9b31m", "\u202e", "\x7f"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def pair(**fields: Any) -> dict[str, Any]:
    """A row of recorded judgments of a pair."""
    return {"winner": "A", "judgment_ab": "[[A]]", "judgment_ba": "[[B]]", **fields}


def write(file: Path, *records: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp1252"])
@given(value=json_values)
def test_json_is_text_that_a_person_reads_and_a_terminal_only_shows(encoding: str, value: Any) -> None:
    for indent in (None, 1):
        text = json_text(value, io.TextIOWrapper(io.BytesIO(), encoding=encoding), indent=indent)
        assert json.loads(text) == value
        text.encode(encoding)
        assert not [c for c in text if unicodedata.category(c) in {"Cc", "Cs", "Co", "Zl", "Zp"} and c != "\n"]


def test_json_keeps_every_script_where_the_terminal_has_it() -> None:
    assert json_text([SCRIPTS], io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == f'["{SCRIPTS}"]'
    assert json_text(["größer 数"], io.TextIOWrapper(io.BytesIO(), encoding="latin-1")) == '["größer \\u6570"]'
    assert json_text(["👩"], io.TextIOWrapper(io.BytesIO(), encoding="ascii")) == r'["\ud83d\udc69"]'


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}], ids=str
)
def test_any_terminal_gets_a_table_or_json(tmp_path: Path, environment: dict[str, str]) -> None:
    file = write(tmp_path / "数据 é=1.JSONL", pair(id="größer/数", subset=SCRIPTS))
    for words in (["--parser", "strict"], ["--json"], ["--benchmark", "nonsense 数"]):
        command = [*STJ, "score", str(file), "--benchmark", "pairs", *words]
        done = subprocess.run(command, capture_output=True, check=False, env=os.environ | environment, cwd=tmp_path)
        assert b"Traceback" not in done.stderr
        assert done.returncode == (2 if "nonsense 数" in words else 0)
        if "--json" in words:
            encoding = environment.get("PYTHONIOENCODING", "utf-8")
            assert SCRIPTS in json.loads(done.stdout.decode(encoding))["strict"]["subsets"]


def test_a_python_without_utf8_says_so_in_one_line(tmp_path: Path) -> None:
    """Without UTF-8, Python can neither read such a word nor open such a file."""
    environment = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [*STJ, "score", "数据.jsonl", "--benchmark", "pairs"]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | environment, cwd=tmp_path)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_a_metric_takes_any_name(name: str) -> None:
    """Ray's own gauges, which refuse every label that is not ASCII."""
    PassMetrics(name, name).show(Progress(name=name, total=1, judged=Counter({name: 1})))
    with RunMetrics(name, 1).phase(name):
        step = StepMetrics(step=1, epoch=1, loss=1.0, preferred=None, lr=1.0, grad_norm=1.0, tokens_per_s=1.0)
        TrainingGauges(name).show(step, 0)
    assert in_ascii(name).isascii()


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_recorded_judgments_may_lie_under_any_name(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name / f"{name[:100]}.jsonl", pair(id="1"))
    for place in (file, file.parent):
        record, _ = score_file(str(place), benchmark_ref("pairs"), "strict")
        assert record["strict"]["judged"] == 1


@given(
    st.lists(st.text("ab/%2F", max_size=4), min_size=3, max_size=3),
    st.lists(st.text("ab/%2F", max_size=4), min_size=3, max_size=3),
)
def test_different_parts_give_different_ids(first: list[str], second: list[str]) -> None:
    assert (joined_id(*first) == joined_id(*second)) == (first == second)


def test_slashes_in_names_of_models_and_subsets_make_no_two_examples_one(tmp_path: Path) -> None:
    models = [("a/b", "c"), ("a", "b/c")]
    verdicts = {"turn": 1, "g1_judgment": "[[A]]", "g2_judgment": "[[B]]"}
    duel = write(tmp_path / "duel.jsonl", *({"question_id": 81, "model_1": a, "model_2": b, **verdicts} for a, b in models))
    subsets = write(tmp_path / "subset.jsonl", pair(subset="math", id="hard/1"), pair(subset="math/hard", id="1"))
    for file, benchmark in ((duel, "mtbench"), (subsets, "pairs")):
        record, _ = score_file(str(file), benchmark_ref(benchmark), "strict")
        assert record["strict"]["judged"] + record["strict"]["unjudged"] == 2
    with pytest.raises(SourceError, match="which an earlier row has too"):
        score_file(str(write(tmp_path / "twice.jsonl", *[pair(subset="a/b", id="c")] * 2)), benchmark_ref("pairs"), "strict")


def test_a_word_with_an_equals_sign_is_a_setting_unless_it_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "lr=1.yaml", {})
    files = ["conf/a=b.yaml", "./a=b.yaml", "lr=1.yaml", "a b=c/model", "/x/y=z", "my-run=1"]
    settings = ["train.lr=1", "run_root=x.yaml", "model=a=b", "train.place.market-type=on-demand"]
    assert split_settings([*settings, *files]) == split_settings([*files, *settings]) == (files, settings)
    assert not is_setting("数据.jsonl")
