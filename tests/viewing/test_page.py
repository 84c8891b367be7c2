"""The page of one file, and the verb."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from subprocess import PIPE

import pytest

from stj.cli import main
from stj.rows import rows_to_table
from stj.viewing import page as page_module
from stj.viewing.details import marked
from stj.viewing.index import Index
from stj.viewing.page import one_file
from stj.viewing.place import sources_of
from stj.viewing.sources import TableSource
from tests.viewing.conftest import HOSTILE, judged, pair_row, write_rows


def data_of(text: str) -> dict[str, object]:
    data: dict[str, object] = json.loads(re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)[0])
    return data


def test_one_file_holds_its_rows_as_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["view", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().err == f"7 of 7 rows: {out}\n"
    text = out.read_text(encoding="utf-8")
    assert text.count("<script") == 2
    assert HOSTILE not in text
    data = data_of(text)
    assert json.dumps(data["rows"]).count("onerror=") == 3
    assert "connect-src 'none'" in text


def test_a_directory_is_no_page(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(run), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"stj: --out {tmp_path}: a directory; name a file\n"


def test_one_file_has_a_limit_and_prefers_judged_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "ONE_FILE_ROWS", 2)
    monkeypatch.setattr(page_module, "ONE_FILE_TEXT", 10)
    rows = [pair_row("1"), pair_row("2", judged("A"), chosen="0123456789abc"), pair_row("3"), pair_row("4", judged("B"))]
    data = data_of(one_file("x", Index(sources_of(str(write_rows(tmp_path, rows)), None))))
    assert [title["id"] for title in data["titles"]] == ["heldout/2", "heldout/4"]  # type: ignore[attr-defined]
    assert (data["index"]["rows"], data["index"]["of"]) == (2, 4)  # type: ignore[index]
    assert data["rows"][0]["answers"][0]["text"] == "01234567… (+3 characters) …bc"  # type: ignore[index]


def test_a_judgment_that_is_cut_keeps_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "ONE_FILE_TEXT", 100)
    rows = [pair_row("1", judged("A", text="x" * 1000))]
    data = data_of(one_file("x", Index([TableSource(rows_to_table(rows), "judge")])))
    parts = data["rows"][0]["judges"][0]["judgments"][0]["parts"]  # type: ignore[index]
    assert parts[-1] == {"text": "[[A]]", "mark": True}
    assert len(parts[0]["text"]) < 130


@pytest.mark.parametrize(
    ("text", "verdict", "marks"),
    [
        ("A [[B]] and again [[B]]", "B", ["[[B]]", "[[B]]"]),
        ("so [[A>>B]].", "A", ["[[A>>B]]"]),
        ("[RESULT] A", "A", ["[RESULT] A"]),
        ("Output (a) is better.", "A", ["Output (a) is better"]),
        ("so \\boxed{B}", "B", ["\\boxed{B}"]),
        ("I give it 3 of 5, so 7", "7", ["7"]),
        ("[[A]] or [[B]]", None, ["[[A]]", "[[B]]"]),
        ("no verdict here", None, []),
        ("", None, []),
    ],
)
def test_verdicts_are_marked_and_no_text_is_lost(text: str, verdict: str | None, marks: list[str]) -> None:
    parts = marked(text, verdict)
    assert "".join(part["text"] for part in parts) == text
    assert [part["text"] for part in parts if part["mark"]] == marks


def test_the_verb_serves_until_it_is_stopped(run: Path) -> None:
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        f"from stj.cli import main; sys.exit(main(['view', {str(run)!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
            with urllib.request.urlopen(f"{url}index.json", timeout=600) as answer:
                assert json.load(answer)["rows"] == 7
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=600)
        finally:
            process.kill()  # A server that does not end must not keep the tests from ending.
    assert (process.returncode, errors) == (0, "7 rows; end with Ctrl+C\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere"], "nowhere: no such file or directory"),
        (["{run}", "--port", "99999"], "is no port"),
        (["{run}", "--out", "/nowhere/page.html"], "the directory /nowhere does not exist"),
        (["{run}", "--pairs", "x.jsonl"], "only a file of results needs its pairs"),
    ],
)
def test_a_wrong_word_is_one_line(run: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", *(word.format(run=run) for word in words)]) in (1, 2)
    assert line in " ".join(capsys.readouterr().err.split())


def test_a_link_to_itself_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.jsonl").symlink_to("r.jsonl")
    assert main(["view", str(tmp_path / "r.jsonl"), "--out", str(tmp_path / "page.html")]) in (1, 2)
    assert str(tmp_path / "r.jsonl") in capsys.readouterr().err
