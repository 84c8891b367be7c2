"""`stj score` as a program sees it: fast, light, one JSON object, one line for an error."""

import io
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from stj.cli import main
from stj.evals.benchmarks import rewardbench
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.benchmarks.scoring import score_recorded
from stj.verdict import PARSERS

SUBSETS = rewardbench.SUBSETS


def recorded(file: Path, count: int) -> Path:
    """Judgments of a judge that is right in both orders of every second pair, and says A in the others."""
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            text = f"Assistant A and B compared at length. {'x' * 400} " + "[[{}]]"
            record = {
                "id": number,
                "subset": SUBSETS[number % len(SUBSETS)],
                "judgment_ab": text.format("A"),
                "judgment_ba": text.format("B" if number % 2 else "A"),
                "chosen": "long enough",
                "rejected": "short",
            }
            lines.write(json.dumps(record) + "\n")
    return file


@pytest.mark.slow
def test_ten_thousand_judgments_in_seconds_without_ray_torch_or_vllm(tmp_path: Path) -> None:
    """By all parsers, in a fresh process. With imports about 230 units, 2 s on a core of 2024."""
    file = recorded(tmp_path / "judged.jsonl", 10_000)
    code = (
        "import sys\n"
        "from tests.cpu_time import units\n"
        "def score():\n"
        "    from stj.cli import main\n"
        f"    assert main(['score', {str(file)!r}, '--benchmark', 'rewardbench', '--json']) == 0\n"
        "taken = units(score)\n"
        "heavy = {'ray', 'torch', 'vllm', 'datasets', 'transformers'} & set(sys.modules)\n"
        "print(f'{taken:.0f} {sorted(heavy)}', file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    taken, heavy = ran.stderr.split(" ", 1)
    assert heavy.strip() == "[]"
    assert float(taken) < 600
    scores = json.loads(ran.stdout)
    assert scores["strict"]["judged"] == 10_000
    overall = scores["strict"]["groups"]["overall"]
    assert overall["by_order"] == pytest.approx([1.0, 0.5], abs=0.01)
    assert overall["accuracy"] == pytest.approx(0.75, abs=0.01)
    assert (overall["longest"], overall["shortest"], overall["always_a"]) == pytest.approx((1.0, 0.0, 0.5))
    assert scores["strict"] == scores["paper"]


def peak(file: Path) -> int:
    tracemalloc.start()
    score_recorded(str(file), benchmark_ref("rewardbench"), "strict")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.long
def test_memory_grows_with_the_ids_alone(tmp_path: Path) -> None:
    """A row is 1,000 bytes of text; memory keeps the digest of its id, about 100 bytes."""
    peak(recorded(tmp_path / "warm.jsonl", 100))
    small, large = (peak(recorded(tmp_path / f"{count}.jsonl", count)) for count in (1_000, 11_000))
    assert (large - small) / 10_000 < 150


def test_the_table_and_the_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = recorded(tmp_path / "judged.jsonl", 46)
    assert main(["score", str(file), "--benchmark", "rewardbench", "--parser", "paper"]) == 0
    table = capsys.readouterr().out
    assert "rewardbench, paper parser" in table
    assert "strict" not in table
    for name in ("overall", "Chat Hard", "micro", "math-prm"):
        assert name in table
    assert main(["score", str(file), "--benchmark", "nobench"]) == 2
    assert main(["score", str(tmp_path / "none.jsonl"), "--benchmark", "rewardbench"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_terminal_gets_a_table_of_its_width_and_json_stays_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    words = ["score", str(recorded(tmp_path / "judged.jsonl", 46)), "--benchmark", "rewardbench", "--parser", "paper"]
    for extra in ([], ["--json"]):
        monkeypatch.setattr(sys, "stdout", Terminal())
        assert main([*words, *extra]) == 0
        text = sys.stdout.getvalue()  # type: ignore[attr-defined]
        if extra:
            assert json.loads(text)["paper"]["judged"] == 46
        else:
            plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
            assert plain != text
            assert max(map(len, plain.splitlines())) <= 80
            assert "rewardbench, paper parser" in plain
            assert "unjudged: 0" in plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hep-go": None}, "the accuracy of hep-go is None"),
        ({"hep-go": 94.5}, "the accuracy of hep-go is 94.5; it must be a share from 0 to 1 (percent / 100)"),
        ({"hep-go": "0.9"}, "the accuracy of hep-go is '0.9'"),
    ],
)
def test_a_published_table_with_a_wrong_value_is_one_line(
    change: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "table.json"
    table = dict.fromkeys(SUBSETS, 0.5) | {"model": "m"}
    file.write_text(json.dumps(table))
    assert main(["score", str(file), "--benchmark", "rewardbench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"]["overall"]["accuracy"] == 0.5
    file.write_text(json.dumps(table | change))
    assert main(["score", str(file), "--benchmark", "rewardbench"]) == 2
    assert message in capsys.readouterr().err
    del table["hep-go"]
    file.write_text(json.dumps(table))
    assert main(["score", str(file), "--benchmark", "rewardbench"]) == 2
    assert "no accuracy of hep-go" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "text"), [("table.json", "[{}]"), ("table.jsonl", "{}\n")])
def test_a_published_table_may_be_in_a_list_or_on_a_line(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_text(text.replace("{}", json.dumps(dict.fromkeys(SUBSETS, 0.5))))
    assert main(["score", str(file), "--benchmark", "rewardbench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"]["overall"]["accuracy"] == 0.5


@pytest.mark.parametrize("text", ["[" * 100_000, f'{{"hep-go": {"9" * 5_000}}}'])
def test_a_table_that_python_cannot_hold_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.json").write_text(text)
    assert main(["score", str(tmp_path / "table.json"), "--benchmark", "rewardbench"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "JSON that Python cannot hold" in line


def test_a_place_without_meaning_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = recorded(tmp_path / "judged.jsonl", 46)
    assert main(["score", str(file), "--benchmark", f"rewardbench:{file}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("FILE itself holds what is right; give --benchmark rewardbench")


def test_all_four_orders_are_shown_and_control_characters_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "judged.jsonl"
    texts = {"A": "[[A]]", "B": "[[B]]", "C": "[[A]]", "D": "[[D]]"}
    file.write_text(json.dumps({"id": "1", "subset": "Math", "judgments": texts}))
    assert main(["score", str(file), "--benchmark", "rewardbench2", "--parser", "strict"]) == 0
    table = capsys.readouterr().out
    assert "as A   as B  as C   as D" in " ".join(table.splitlines()[2].split("orders [95%]"))
    assert "100.0  100.0   0.0  100.0" in table
    file.write_text(json.dumps({"winner": "A", "subset": "\x1b[31mred\n", "judgment_ab": "[[A]]", "judgment_ba": "[[B]]"}))
    assert main(["score", str(file), "--benchmark", "pairs", "--parser", "strict"]) == 0
    assert "\\x1b[31mred\\n" in capsys.readouterr().out


def grade(question: int, turn: int, text: str | None, score: float, model: str = "m") -> dict[str, object]:
    return {"question_id": question, "model": model, "turn": turn, "judgment": text, "score": score}


def test_grades_of_single_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One grade differs from the stored score. One judgment has no grade: FastChat stores -1."""
    rows = [
        grade(81, 1, "<think>A [[5]]?</think>Rating: [[8]]", 8),
        grade(81, 2, "Rating: [[6]]", 6.0),
        grade(111, 1, "Rating: [[9]]", 4),
        grade(111, 2, None, -1),
    ]
    file = tmp_path / "gpt-4_single.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["score", str(file), "--benchmark", "mtbench", "--json"]) == 0
    strict = json.loads(capsys.readouterr().out)["strict"]
    assert (strict["judged"], strict["unparsed"], strict["as_stored"]) == (4, 0.25, 0.75)
    means = {name: (mean["mean"], mean["grades"]) for name, mean in strict["groups"].items()}
    assert means == {"m": (23 / 3, 3), "m, turn 1": (8.5, 2), "m, turn 2": (6, 1), "m, writing": (7, 2), "m, math": (9, 1)}
    assert main(["score", str(file), "--benchmark", "mtbench", "--parser", "paper"]) == 0
    assert "grades, paper parser: 4 judgments, 25.0% without one, 75.0% read as stored" in capsys.readouterr().out
    assert main(["score", str(file), "--benchmark", f"mtbench:{file}"]) == 2
    for bad, message in (
        (rows[0], "which an earlier row has too"),
        (grade(7, 1, "", 1), "it must be one of 81 to 160"),
        (grade(82, 1, "", float("nan")), "field 'score' is float nan"),
        ({**grade(82, 1, "", 1), "judgment": 3}, "field 'judgment' is int 3"),
    ):
        file.write_text("".join(json.dumps(row) + "\n" for row in (rows[0], bad)))
        capsys.readouterr()
        assert main(["score", str(file), "--benchmark", "mtbench"]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line


def test_a_file_is_scored_by_each_parser_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Official rules read each first judgment as A. The second one says its verdict before its reasons."""
    texts = [
        ("[[A]]", "[[B]]"),
        ("So [[A]]", "So [[B]]"),
        ("It is [[A]], for it is right.", "[[B]] it is."),
        ("Not [[B]] but [[A]].", "Not [[A]] but [[B]]."),
    ]
    rows = [{"winner": "A", "judgment_ab": ab, "judgment_ba": ba} for ab, ba in texts]
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["score", str(file), "--benchmark", "pairs", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    overall = {parser: record[parser]["groups"]["overall"] for parser in PARSERS}
    unparsed = {parser: scores["unparsed"] for parser, scores in overall.items()}
    assert unparsed == {"strict": 1 / 2, "distinct": 1 / 4, "paper": 0}
    assert [overall[parser]["accuracy"] for parser in PARSERS] == [1 / 2, 3 / 4, 7 / 8]
    for parser in PARSERS:
        assert main(["score", str(file), "--benchmark", "pairs", "--parser", parser]) == 0
        printed = capsys.readouterr().out
        assert [name for name in PARSERS if f"pairs, {name} parser" in printed] == [parser]


def test_the_help_documents_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--help"]) == 0
    text = capsys.readouterr().out
    for field in ("judgment_ab", "g1_judgment", "model_1", "winner", "ratings", "results", "rewardbench2", "pairs:FILE"):
        assert field in text
