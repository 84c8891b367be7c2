"""The file of labels: what a line holds, who may fill it at once, and what is left of a label whose writer died."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from stj.annotating import labels as labels_module
from stj.annotating.blind import BlindPair, read_blind_pairs
from stj.annotating.labels import LabelCounts, LabelledElsewhere
from stj.errors import SourceError, StjError
from stj.sources.files import read_files
from stj.sources.pairs import fields_to_read, given_pairs
from tests.annotating.conftest import DIALOGUE, label_file, lines_of, open_pair, write_pairs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", [open_pair(0), open_pair(1, instruction=DIALOGUE, subset="x"), open_pair(2)])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "labels.jsonl"


def blind(pairs: Path) -> list[BlindPair]:
    return list(read_blind_pairs(str(pairs), 0).pairs)


def test_a_label_is_one_line_with_exactly_these_fields(pairs: Path, out: Path) -> None:
    first, second, _ = blind(pairs)
    labels = label_file(pairs, out)
    labels.put("Ada", first, "A", None)
    labels.put("Ada", second, "unsure", None)
    names = ["id", "instruction", "response_a", "response_b", "annotator", "label"]
    assert [list(line) for line in lines_of(out)] == [names, [*names[:4], "subset", *names[4:]]]
    assert lines_of(out)[1] == {**open_pair(1), "instruction": DIALOGUE, "subset": "x", "annotator": "Ada", "label": "unsure"}
    assert out.read_bytes().endswith(b"}\n")


def test_hostile_texts_stay_one_line_and_themselves(tmp_path: Path, out: Path) -> None:
    hostile = "a\nb\r\u2028\u0085\u202e</script>\x1b[2J😀"
    pairs = write_pairs(tmp_path / "p.jsonl", [open_pair(0, response_a=hostile)])
    label_file(pairs, out).put("Zoë", blind(pairs)[0], "B", None)
    text = out.read_text(encoding="utf-8")
    assert len(text.splitlines()) == 1
    assert not set("\u2028\u0085\u202e\x1b") & set(text)
    assert "Zoë" in text
    assert json.loads(text)["response_a"] == hostile
    assert label_file(pairs, out).label("Zoë", blind(pairs)[0].key) == "B"


def test_labels_of_one_annotator_are_a_source_of_labelled_pairs(pairs: Path, out: Path) -> None:
    labels = label_file(pairs, out)
    for pair, label in zip(blind(pairs), ("A", "B", "A"), strict=True):
        labels.put("Ada", pair, label, None)  # type: ignore[arg-type]
    read = list(given_pairs(read_files([out], fields_to_read()), labelled=True))
    before = list(given_pairs(read_files([pairs], fields_to_read())))
    assert [pair.winner for pair in read] == ["A", "B", "A"]
    texts = [[(pair.id, pair.subset, pair.turns, pair.first, pair.second) for pair in source] for source in (read, before)]
    assert texts[0] == texts[1]


def test_a_changed_label_is_a_new_line_and_the_last_one_counts(pairs: Path, out: Path) -> None:
    pair = blind(pairs)[0]
    labels = label_file(pairs, out)
    labels.put("Ada", pair, "A", None)
    labels.put("Ada", pair, "tie", "A")
    labels.put("Bo", pair, "B", None)
    assert [(line["annotator"], line["label"]) for line in lines_of(out)] == [("Ada", "A"), ("Ada", "tie"), ("Bo", "B")]
    for source in (labels, label_file(pairs, out)):
        assert (source.label("Ada", pair.key), source.label("Bo", pair.key), source.label("Cy", pair.key)) == ("tie", "B", None)
    assert labels.close() == LabelCounts({"Ada": 1, "Bo": 1}, 1)


def test_the_same_label_again_adds_no_line(pairs: Path, out: Path) -> None:
    """As a browser sends it whose answer was lost, or a second tab."""
    pair = blind(pairs)[0]
    servers = label_file(pairs, out), label_file(pairs, out)
    for labels in servers:
        labels.put("Ada", pair, "A", None)
    assert len(lines_of(out)) == 1


def test_another_label_for_a_pair_that_another_server_took_is_refused(pairs: Path, out: Path) -> None:
    pair = blind(pairs)[0]
    one, other = label_file(pairs, out), label_file(pairs, out)
    one.put("Ada", pair, "A", None)
    with pytest.raises(LabelledElsewhere):
        other.put("Ada", pair, "B", None)
    other.put("Ada", pair, "B", "A")
    with pytest.raises(LabelledElsewhere):
        one.put("Ada", pair, "tie", "A")
    assert [line["label"] for line in lines_of(out)] == ["A", "B"]


def test_nothing_is_written_after_the_end(pairs: Path, out: Path) -> None:
    labels = label_file(pairs, out)
    labels.close()
    with pytest.raises(StjError, match="this server is ending"):
        labels.put("Ada", blind(pairs)[0], "A", None)
    assert out.read_bytes() == b""


@pytest.mark.slow
def test_several_processes_fill_one_file(tmp_path: Path, out: Path) -> None:
    """Each as soon as it can; no line is torn, lost or doubled."""
    pairs = write_pairs(tmp_path / "pairs.jsonl", [open_pair(n, response_a="long " * 2000) for n in range(10)])
    program = (
        "import sys; from pathlib import Path; from tests.annotating.conftest import *\n"
        "pairs, out, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]\n"
        "labels = label_file(pairs, out); print('ready', flush=True); sys.stdin.readline()\n"
        "for pair in read_blind_pairs(str(pairs), 0).pairs: labels.put(name, pair, 'A', None)"
    )
    people = ["Ada", "Bo", "Cy"]
    words = [[sys.executable, "-c", program, str(pairs), str(out), name] for name in [*people, "Ada"]]
    running = [subprocess.Popen(word, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for word in words]
    for process in running:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate()
        assert process.returncode == 0
    lines = [(line["annotator"], line["id"]) for line in lines_of(out)]
    assert sorted(lines) == sorted((name, f"p{n}") for name in people for n in range(10))


def test_a_torn_last_line_is_moved_and_named(pairs: Path, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second, _ = blind(pairs)
    labels = label_file(pairs, out)
    labels.put("Ada", first, "A", None)
    whole = out.read_bytes()
    torn = whole[:-20]
    with out.open("ab") as file:  # as a server leaves it that is killed while it writes
        file.write(torn)
    labels.put("Ada", second, "B", None)
    assert out.read_bytes().startswith(whole)
    assert [line["label"] for line in lines_of(out)] == ["A", "B"]
    assert Path(f"{out}.torn").read_bytes() == torn + b"\n"
    [message] = [record.getMessage() for record in caplog.records]
    assert message == f"{out}: its last line was torn: its {len(torn)} bytes are in {out}.torn now; label that pair again"
    assert label_file(pairs, out).close() == LabelCounts({"Ada": 2}, 2)


def test_a_whole_last_line_without_its_end_counts(pairs: Path, out: Path) -> None:
    first, second, _ = blind(pairs)
    label_file(pairs, out).put("Ada", first, "A", None)
    out.write_bytes(out.read_bytes().rstrip(b"\n"))  # as some editors leave it
    label_file(pairs, out).put("Ada", second, "B", None)
    assert [line["label"] for line in lines_of(out)] == ["A", "B"]
    assert not Path(f"{out}.torn").exists()


def test_a_file_that_an_editor_replaced_is_read_anew(pairs: Path, out: Path, tmp_path: Path) -> None:
    """Also if all it holds has the same size as before, with a line added."""
    first, second, third = blind(pairs)
    labels = label_file(pairs, out)
    labels.put("Ada", first, "A", None)
    edited = tmp_path / "edited"
    edited.write_bytes(out.read_bytes().replace(b'"A"}', b'"B"}') + out.read_bytes().replace(b"Ada", b"Bob"))
    edited.rename(out)
    labels.put("Ada", third, "A", None)
    assert [labels.label("Ada", pair.key) for pair in (first, second, third)] == ["B", None, "A"]
    assert labels.label("Bob", first.key) == "A"
    assert [line["id"] for line in lines_of(out)] == ["p0", "p0", "p2"]


@pytest.mark.parametrize("name", ["Al", "Alexander"])
def test_a_file_that_was_edited_in_place_is_read_anew(pairs: Path, out: Path, name: str) -> None:
    """Its lines have other lengths, so that what was read ends amid a line, or behind the end."""
    first, second, _ = blind(pairs)
    labels = label_file(pairs, out)
    labels.put("Ada", first, "A", None)
    with out.open("r+b") as file:
        text = file.read().replace(b"Ada", name.encode())
        file.seek(0)
        file.truncate()
        file.write(text)
    labels.put(name, second, "B", None)
    assert [labels.label(who, first.key) for who in ("Ada", name)] == [None, "A"]
    assert [line["annotator"] for line in lines_of(out)] == [name, name]


def test_a_file_that_is_replaced_before_its_lock_is_taken_gets_no_label(
    pairs: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = label_file(pairs, out)
    take = fcntl.flock

    def replace_once(file: BinaryIO, how: int) -> None:
        if (tmp_path / "edited").exists():
            (tmp_path / "edited").rename(out)
        take(file, how)

    (tmp_path / "edited").touch()
    monkeypatch.setattr(fcntl, "flock", replace_once)
    labels.put("Ada", blind(pairs)[0], "A", None)
    assert len(lines_of(out)) == 1


def test_a_lock_that_is_never_given_up_is_one_line(pairs: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = label_file(pairs, out)
    monkeypatch.setattr(labels_module, "_PATIENCE", 0.05)
    with out.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StjError, match="another program holds its lock"):
            labels.put("Ada", blind(pairs)[0], "A", None)
    labels.put("Ada", blind(pairs)[0], "A", None)
    assert len(lines_of(out)) == 1


@pytest.mark.slow
def test_a_full_disk_leaves_whole_lines(pairs: Path, out: Path) -> None:
    """A limit on the size of files fails as a full disk does: after a part of the line."""
    label_file(pairs, out).put("Ada", blind(pairs)[0], "A", None)
    before = out.read_bytes()
    program = (
        "import resource, signal, sys; from pathlib import Path; from tests.annotating.conftest import *\n"
        "from stj.errors import StorageFailed\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "pairs, out = map(Path, sys.argv[1:]); size = out.stat().st_size + 30\n"
        "labels = label_file(pairs, out); resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "try: labels.put('Ada', read_blind_pairs(str(pairs), 0).pairs[1], 'A', None)\n"
        "except StorageFailed as error: print(labels.label('Ada', 'x/p1'), error)"
    )
    words = [sys.executable, "-c", program, str(pairs), str(out)]
    printed = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed.startswith(f"None {out}: cannot write: File too large")
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"response_b": "c 0"}, "line 1: the pair with id 'p0' has other texts there than in PAIRS; give the pairs that"),
        ({"instruction": "?"}, "line 1: the pair with id 'p0' has other texts there than in PAIRS; give the pairs that"),
        ({"response_a": "b 0", "response_b": "a 0"}, "the responses in the other order; give the seed=N"),
        ({"label": "C"}, "line 1: no line of `stj annotate`: field 'label' is 'C'; it must be A, B, tie or unsure"),
        ({"label": ["A"]}, "field 'label' is \\['A'\\]; it must be A, B, tie or unsure"),
        ({"annotator": 3}, "line 1: field 'annotator' is int 3; it must be a string"),
        ({"id": None}, "line 1: field 'id' is NoneType None"),
    ],
)
def test_a_line_that_cannot_count_is_refused(pairs: Path, out: Path, change: dict[str, object], message: str) -> None:
    write_pairs(out, [{**open_pair(0), "annotator": "Ada", "label": "A", **change}])
    with pytest.raises(SourceError, match=message):
        label_file(pairs, out)


@pytest.mark.parametrize("line", [b"{}", b"[]", b"{\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_another_kind_of_file_is_refused(pairs: Path, out: Path, line: bytes) -> None:
    out.write_bytes(line + b"\n")
    with pytest.raises(SourceError, match=r"labels\.jsonl, line 1: no line of `stj annotate`"):
        label_file(pairs, out)
    assert out.read_bytes() == line + b"\n"


def test_labels_of_other_pairs_and_blank_lines_may_stand_there(pairs: Path, out: Path) -> None:
    write_pairs(out, [{**open_pair(99), "annotator": "Ada", "label": "A"}])
    out.write_bytes(b"\n" + out.read_bytes())
    assert label_file(pairs, out).close() == LabelCounts({"Ada": 1}, 1)


def test_a_pipe_is_refused(pairs: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(StjError, match="it is no file but a pipe or a device"):
        label_file(pairs, tmp_path / "pipe.jsonl")
