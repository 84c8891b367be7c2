"""The verb: from its words to its end."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from subprocess import PIPE

import pytest

from stj.annotating.annotate import count_lines, labels_path
from stj.annotating.labels import LabelCounts
from stj.cli import main
from stj.errors import ConfigError
from tests.annotating.conftest import lines_of, open_pair, write_pairs


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", [*(open_pair(n) for n in range(3)), open_pair(3, response_b="a 3")])


def label(url: str, number: int, name: str = "Ada") -> None:
    """Labels one pair as the page does."""
    address, _, token = url.partition("#")
    body = json.dumps({"name": name, "number": number, "choice": "1", "before": None}).encode()
    headers = {"Content-Type": "application/json", "X-Stj-Token": token}
    with urllib.request.urlopen(urllib.request.Request(f"{address}label.json", body, headers), timeout=600) as answer:
        assert answer.status == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "first"), [(signal.SIGINT, 0, ""), (signal.SIGTERM, 143, "stj: stopped by SIGTERM\n")]
)
def test_the_verb_serves_until_it_is_stopped(pairs: Path, tmp_path: Path, number: int, code: int, first: str) -> None:
    out = tmp_path / "labels.jsonl"
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        f"from stj.cli import main; sys.exit(main(['annotate', {str(pairs)!r}, {f'out={out}'!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#[\w-]{22}", url)
            label(url, 1)
            label(url, 2)
            label(url, 3, "Bo")
            process.send_signal(number)
            _, errors = process.communicate(timeout=600)
        finally:
            process.kill()  # A server that does not end must not keep the tests from ending.
    assert process.returncode == code
    labelled = len({line["id"] for line in lines_of(out)})
    assert errors == (
        f"3 pairs to label (1 same_text: skipped), into {out}; end with Ctrl+C\n{first}"
        f"{out}: 3 labels of {labelled} pairs, of 3 to label: Ada 2, Bo 1\n"
        f"the same command continues; next: stj agree {out}\n"
    )


def test_without_a_label_there_is_nothing_to_count(tmp_path: Path) -> None:
    assert list(count_lines(LabelCounts({}, 0), 7, tmp_path)) == [f"{tmp_path}: no label yet; the same command continues"]


def test_agreement_needs_a_second_annotator(tmp_path: Path) -> None:
    [counts, following] = count_lines(LabelCounts({"Ada": 1200}, 1200), 1300, tmp_path / "l.jsonl")
    assert counts == f"{tmp_path}/l.jsonl: 1,200 labels of 1,200 pairs, of 1,300 to label: Ada 1,200"
    assert following.endswith(f"next: another annotator into the same file, then stj agree {tmp_path}/l.jsonl")


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.JSONL", "pairs.csv", "pairs.parquet", "pairs.jsonl.gz"])
def test_the_labels_lie_in_the_working_directory_by_the_name_of_the_pairs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).touch()
    monkeypatch.chdir(tmp_path)
    assert labels_path(f"data/{name}", None) == Path("pairs.labels.jsonl")


def test_the_labels_of_a_directory_have_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "part").mkdir(parents=True)
    write_pairs(tmp_path / "data" / "pairs.jsonl", [open_pair(0)])
    monkeypatch.chdir(tmp_path)
    assert labels_path("data", None) == Path("data.labels.jsonl")
    monkeypatch.chdir(tmp_path / "data")
    for out in (None, "part/labels.jsonl"):
        with pytest.raises(ConfigError, match=r"the pairs are read from \.; name a file beside it by out=FILE\.jsonl"):
            labels_path(".", out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["{pairs}", "out=labels.csv"], 2, "out=labels.csv: name a .jsonl file, so that the labels are a source"),
        (["{pairs}", "out=/nowhere/l.jsonl"], 2, "out=/nowhere/l.jsonl: the directory /nowhere does not exist"),
        (["{pairs}", "out={pairs}"], 2, "the pairs are read from {pairs}; name a file beside it by out=FILE.jsonl"),
        (["{pairs}", "out=/proc/labels.jsonl"], 1, "/proc/labels.jsonl: cannot write: No such file or directory"),
        (["{pairs}", "out=/dev/full.jsonl/x.jsonl"], 2, "the directory /dev/full.jsonl does not exist"),
        (["{pairs}", "name=a\tb"], 2, "name='a\\tb': give 1 to 60 printable characters"),
        (["{pairs}", "name=" + "x" * 61], 2, "give 1 to 60 printable characters"),
        (["{pairs}", "limit=0"], 2, "limit=0: must be above 0"),
        (["{pairs}", "limt=3"], 2, "did you mean 'limit'?"),
        (["{pairs}", "--port", "99999"], 2, "is no port"),
        (["nowhere.jsonl"], 2, "PAIRS=nowhere.jsonl: no such file or directory"),
        (["/dev/null"], 2, "PAIRS=/dev/null: neither a file nor a directory"),
    ],
)
def test_a_wrong_word_is_one_line(
    pairs: Path, words: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pairs.parent)
    assert main(["annotate", *(word.format(pairs=pairs) for word in words)]) == code
    [printed] = capsys.readouterr().err.splitlines()
    assert line.format(pairs=pairs) in printed


def test_a_file_of_labels_of_other_pairs_is_one_line(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_pairs(tmp_path / "l.jsonl", [{**open_pair(0, response_b="c"), "annotator": "Ada", "label": "A"}])
    assert main(["annotate", str(pairs), f"out={out}"]) == 2
    [printed] = capsys.readouterr().err.splitlines()
    assert "line 1: the pair with id 'p0' has other texts there than in PAIRS" in printed
