"""`stj show --where, --offset, --columns`: the rows of an artifact that answer a question."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.errors import ConfigError
from stj.loop.row_selection import RowSelection
from stj.rows import OPEN, TIED, Pair, rows_to_table
from stj.storage.artifacts import Artifact
from tests.loop.test_show import artifact, row, said

KNOWN = Pair(method="given", chosen="nine", rejected="eight")


@pytest.fixture
def judged(tmp_path: Path) -> Artifact:
    rows = [
        row("right", pair=KNOWN, judgments=(said("A", "A"), said("B", "B"))),
        row("wrong", pair=KNOWN, judgments=(said("B", "A"), said("A", "B"))),
        row("flipped", pair=KNOWN, judgments=(said("A", "A"), said("A", "B"))),
        row("silent", pair=KNOWN, judgments=(said(None, "A"), said(None, "B"))),
        row("open", pair=Pair(method=OPEN, chosen="x", rejected="y"), judgments=(said("B", "A"), said("B", "B"))),
        row("tie", pair=Pair(method=TIED, chosen="x", rejected="y"), judgments=(said("B", "A"), said("A", "B"))),
        row("out").drop("toxic"),
        row("same").drop("pair_identical"),
    ]
    return artifact(tmp_path, rows_to_table(rows))


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (None, ["right", "wrong", "flipped", "silent", "open", "tie", "out", "same"]),
        ("wrong", ["wrong", "silent"]),
        ("flipped", ["flipped", "open"]),
        ("dropped", ["out", "same"]),
        ("dropped=toxic", ["out"]),
        ("dropped=", ["out", "same"]),
        ("id=flipped", ["flipped"]),
        ("id=nobody", []),
    ],
)
def test_the_rows_that_a_condition_names(where: str | None, names: list[str], judged: Artifact) -> None:
    assert [record["id"] for record in RowSelection(where=where, limit=99).records(judged)] == names


@pytest.mark.parametrize("where", ["", "wrng", "wrong=1", "id", "id=", "Dropped"])
def test_another_condition_is_refused_with_those_there_are(where: str, judged: Artifact) -> None:
    with pytest.raises(ConfigError, match="no condition; give wrong, flipped, dropped, dropped=REASON or id=ID"):
        list(RowSelection(where=where).records(judged))


@pytest.mark.parametrize("words", [("--where", "wrng"), ("--columns", "id,pair.wrng")])
def test_a_wrong_question_shows_nothing(words: tuple[str, str], judged: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", judged.folder.uri, *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "wrng" in printed.err


def test_offset_limit_and_columns_on_the_command_line(judged: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["show", judged.folder.uri, "--offset", "1", "--limit", "2", "--columns", "id, pair.chosen"]
    assert main([*words, "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"id": "wrong", "pair.chosen": "nine"},
        {"id": "flipped", "pair.chosen": "nine"},
    ]
    assert main(words) == 0
    assert "2 of 8 rows\n" in (out := capsys.readouterr().out)
    assert "id: wrong\npair.chosen: nine\n" in out
    assert main(["show", judged.folder.uri, "--where", "dropped", "--columns", "id,pair.chosen", "--json"]) == 0
    assert '{"id": "out", "pair.chosen": null}' in capsys.readouterr().out
    assert main(["show", judged.folder.uri, "--columns", "pair.best"]) == 2
    assert "--columns pair.best: no field 'best'; the fields there are method, chosen, rejected" in capsys.readouterr().err


@given(offset=st.integers(0, 9), limit=st.integers(0, 9))
def test_pages_make_the_whole(offset: int, limit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = artifact(tmp_path_factory.mktemp("rows"), rows_to_table([row(str(number)) for number in range(7)]))
    names = [record["id"] for record in RowSelection(offset=offset, limit=limit).records(made)]
    assert names == [str(number) for number in range(7)][offset : offset + limit]
