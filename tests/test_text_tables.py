"""Tables for a reader: aligned plain text, and the same cells on a terminal of any width."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from stj.text import Column, Part, Table, line_of, parts_that_fit, show

TABLE = Table(
    title="a run",
    columns=[
        Column("", "judge"),
        Column("mean accuracy", "[95% interval]", "held-out pairs, %"),
        Column("winner", "first"),
        Column("instr.", "in", "training data"),
    ],
    rows=[["M_0", "62.5 [60.1, 64.9]", "70.0", "1,000"], ["M_1", "[bold]", "–", "–"]],
)
PLAIN = """\
       held-out pairs, %          training data
a run      mean accuracy  winner  instr.
judge     [95% interval]   first      in
----------------------------------------
M_0    62.5 [60.1, 64.9]    70.0   1,000
M_1               [bold]       –       –"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def a_plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


def test_plain_columns_are_aligned_under_their_groups() -> None:
    assert str(TABLE) == PLAIN


@given(st.lists(st.lists(st.text("0123456789,.[]-", min_size=1, max_size=30), min_size=9, max_size=9), min_size=1, max_size=4))
def test_plain_text_is_at_most_80_columns_wide_and_holds_every_cell(rows: list[list[str]]) -> None:
    columns = [Column(f"upper {place}", "lower", "a group" if place in (3, 6) else "") for place in range(9)]
    lines = str(Table(title="a run", columns=columns, rows=rows)).splitlines()
    assert max(map(len, lines)) <= 80
    cells = " ".join(lines).split()
    assert all(cells.count(cell) >= sum(row.count(cell) for row in rows) for row in rows for cell in row)


def test_a_name_of_any_length_leaves_room_for_the_numbers() -> None:
    [*_, row] = str(Table(columns=TABLE.columns, rows=[["start " + "x" * 500 + " end", "62.5", "70.0", "1"]])).splitlines()
    assert len(row) <= 80
    assert row.startswith("start x")
    assert "… " not in row
    assert "x end" in row


NAMES = ["color", "색깔", "логика", "論理" * 40, "cafe\u0301", "שלום", "ไทย"]


def test_names_of_all_scripts_leave_the_columns_aligned() -> None:
    [_, _, rule, *rows] = str(
        Table(columns=TABLE.columns[:1] + TABLE.columns[2:3], rows=[[n, "70.0"] for n in NAMES])
    ).splitlines()
    assert {cell_len(row) for row in (rule, *rows)} == {cell_len(rule)}
    assert cell_len(rule) <= 80
    assert "…論" in rows[3]


def test_a_live_line_counts_the_cells_of_a_terminal() -> None:
    parts = [Part("論理" * 10), Part("left", priority=1)]
    assert line_of(parts_that_fit(parts, 46)) == "論理" * 10
    assert line_of(parts_that_fit(parts, 47)) == "論理" * 10 + " | left"


WIDE = Table(
    columns=[
        Column("", "judge"),
        Column("accuracy", "[95%]", "one group"),
        Column("no", "verdict", priority=1),
        Column("", "greedy", priority=2),
        Column("always", "A", "another", priority=2),
        Column("", "longest", priority=1),
    ],
    rows=[["M_0", "62.5 [60.1, 64.9]", "0.0", "61.0", "50.0", "51.0"]],
    note="a note",
)


def test_a_narrow_terminal_leaves_out_what_matters_least_and_says_so() -> None:
    assert WIDE.fitted(80) is WIDE
    fitted = WIDE.fitted(34)
    assert [column.name for column in fitted.columns] == ["judge", "accuracy [95%]", "no verdict", "always A", "longest"]
    assert fitted.rows == [["M_0", "62.5 [60.1, 64.9]", "0.0", "50.0", "51.0"]]
    assert fitted.note == "left out for want of room: greedy (--wide shows all)\na note"
    narrow = WIDE.fitted(24)
    assert [column.name for column in narrow.columns] == ["judge", "accuracy [95%]", "always A", "longest"]
    assert [column.group for column in narrow.columns] == ["", "one group", "another", ""]


def test_the_group_of_a_column_that_is_left_out_goes_to_the_next() -> None:
    table = Table(
        columns=[Column("", "x"), Column("", "first one", "group", priority=1), Column("", "b")], rows=[["1", "2", "3"]]
    )
    assert table.fitted(9).columns[1:] == [Column("", "b", "group")]


@given(st.integers(1, 120), st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_what_is_left_out_matters_no_more_than_what_stays(width: int, priorities: list[int]) -> None:
    columns = [Column("", "name"), *(Column("", f"column {n}", priority=p) for n, p in enumerate(priorities))]
    fitted = Table(columns=columns, rows=[["x", *map(str, priorities)]]).fitted(width)
    kept = [column.priority for column in fitted.columns[1:]]
    out = [column.priority for column in columns[1:] if column.lower not in {each.lower for each in fitted.columns}]
    assert all(priority > 0 for priority in out)
    assert max(kept, default=0) <= min(out, default=3)
    assert len(kept) + len(out) == len(priorities)
    widest = max((len(column.lower) for column in fitted.columns[1:]), default=0)
    assert not out or not any(kept) or 4 + (2 + widest) * len(kept) <= width + 4


def test_wide_shows_all_columns_on_a_terminal_and_a_pipe_always_does(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(
        columns=[Column("", "n"), *(Column("", f"column number {n}", priority=n) for n in range(9))], rows=[["x", *"012345678"]]
    )
    terminal, wide = Terminal(), Terminal()
    show(table, terminal)
    show(table, wide, wide=True)
    show(table)
    for text in (wide.getvalue(), capsys.readouterr().out):
        assert all(f"column number {n}" in text for n in range(9))
        assert "left out" not in text
    above, below = terminal.getvalue().split("left out for want of room: ")
    assert "column number 4" not in above
    assert "column number 4, " in below
    assert "(--wide shows all)" in " ".join(below.split())


def test_a_live_line_keeps_what_matters_most() -> None:
    parts = [Part("model: step 3/9"), Part("loss 0.5"), Part("lr 1e-6", 7), Part("(all)", 7, before=" "), Part("eta 2m")]
    assert line_of(parts) == "model: step 3/9 | loss 0.5 | lr 1e-6 (all) | eta 2m"
    assert line_of(parts_that_fit(parts, 46)) == "model: step 3/9 | loss 0.5 | lr 1e-6 | eta 2m"
    assert line_of(parts_that_fit(parts, 5)) == "model: step 3/9 | loss 0.5 | eta 2m"


def test_plain_lines_may_replace_the_columns() -> None:
    assert str(Table(columns=TABLE.columns, rows=TABLE.rows, plain=["M_0: 62.5", "M_1: –"])) == "M_0: 62.5\nM_1: –"


def test_a_pipe_gets_plain_text_and_a_terminal_a_table_of_each_group(capsys: pytest.CaptureFixture[str]) -> None:
    show(TABLE)
    show("a line [not markup]")
    assert capsys.readouterr().out == f"{PLAIN}\na line [not markup]\n"
    terminal = Terminal()
    show(TABLE, terminal)
    show("a line [not markup]", terminal)
    text = terminal.getvalue()
    assert "\x1b[36m" in text
    assert "a run, held-out pairs, %" in text
    assert "[bold]" in text
    assert text.count("M_0") == 2
    assert text.endswith("\na line [not markup]\n")


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    show(TABLE, terminal)
    assert "\x1b[3" not in terminal.getvalue()
    assert "62.5 [60.1, 64.9]" in terminal.getvalue()


@given(st.integers(26, 200), st.lists(st.lists(st.text("0123456789,.[]- ", max_size=16), min_size=9, max_size=9), max_size=4))
def test_every_cell_is_on_a_terminal_whole_and_no_line_is_too_wide(width: int, rows: list[list[str]]) -> None:
    names = [f"row {number}" for number in range(len(rows))]
    table = Table(
        columns=[Column("", "name"), *(Column("upper", f"lower {place}") for place in range(9))],
        rows=[[name, *cells] for name, cells in zip(names, rows, strict=True)],
    )
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    for name, cells in zip(names, rows, strict=True):
        shown = " ".join(line for line in lines if line.startswith(name)).split()
        assert all(word in shown for cell in cells for word in cell.split())


def test_a_name_that_is_too_long_for_the_terminal_folds() -> None:
    table = Table(columns=[Column("", ""), Column("", "n")], rows=[["x" * 50, "123"]])
    console = Console(width=30, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(table)
    assert "123" in capture.get()
    assert capture.get().count("x") == 50


def test_a_table_costs_no_import_of_rich_until_it_is_shown_on_a_terminal() -> None:
    import subprocess
    import sys

    code = "import sys, stj.text; print('rich' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert ran.stdout == "False\n"


@pytest.mark.parametrize("place", ["title", "note", "plain", "cell", "head", "group", "line"])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_text_of_a_table_or_a_line_is_obeyed(place: str, terminal: bool) -> None:
    hostile = "a\x1b]8;;x\x07\u202eb\ud800[bold]:smile:"
    shown = "a\\x1b]8;;x\\x07\\u202eb\\ud800[bold]:smile:"
    column = Column(*(hostile if place == part else "x" for part in ("head", "lower", "group")))
    table = Table(
        title=hostile if place == "title" else "",
        columns=[Column("", "judge"), column],
        rows=[["M", hostile if place == "cell" else "y"]],
        plain=[hostile] if place == "plain" else (),
        note=hostile if place == "note" else "",
    )
    stream = Terminal() if terminal else io.StringIO()
    show(hostile if place == "line" else table, stream)
    assert not set("\x07\u202e\ud800") & set(stream.getvalue())
    assert shown in stream.getvalue() or (terminal and place == "plain")
