"""`stj show`: every kind of artifact, readable, with nothing in the data that can act on a terminal."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import ArtifactError, ConfigError
from stj.loop.row_selection import RowSelection
from stj.loop.show import show_rows
from stj.rows import (
    HELDOUT,
    OPEN,
    Category,
    Example,
    Grade,
    Judgment,
    Pair,
    Purpose,
    Row,
    Turn,
    examples_to_table,
    rows_to_table,
)
from stj.storage.artifacts import Artifact, read_artifact
from stj.storage.folder import Folder
from stj.text import visible
from stj.verdict import Label
from stj.viewing.details import row_details
from tests.conftest import on_terminal

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe \x9b31m \u2028 \u200b \U000e0041 ok\rgone"


def said(verdict: Label | None, winner: Label = "A", index: int = 0, purpose: Purpose = "training") -> Judgment:
    text = f"Assistant {verdict} it is."
    reason = "stop" if verdict else "length"
    return Judgment(
        purpose=purpose, winner=winner, index=index, text=text, verdict=verdict, finish_reason=reason, output_tokens=40
    )


def row(name: str = "r1", **values: object) -> Row:
    asked = (Turn(role="user", content="How many sheep\nare left?"),)
    return Row(id=name, position=7, turns=asked, **values)  # type: ignore[arg-type]


def artifact(path: Path, *tables: pa.Table, finished: bool = True) -> Artifact:
    made = Artifact(Folder.at(path), {"step": "judged", "model": {"path": "m"}})
    made.begin()
    for number, table in enumerate(tables):
        made.write_part(f"part-{number}", table)
    if finished:
        made.finish(parameters=12)
    return read_artifact(Folder.at(path))


def shown(made: Artifact, limit: int = 10) -> str:
    return "\n".join(map(str, show_rows(made, RowSelection(limit=limit))))


def test_a_judged_row_shows_its_whole_story(tmp_path: Path) -> None:
    judged = row(
        language="English",
        category=Category(name="Puzzles", complexity=3, length="a"),
        pair=Pair(method="modified_instruction", chosen="nine", rejected="eight", modified_instruction="How many goats?"),
        judgments=(said(None), said("B", index=1), said("A", index=2)),
        kept=2,
    )
    text = shown(artifact(tmp_path, rows_to_table([judged])))
    for fact in (
        "finished, 1 of 1 rows",
        "r1  position 7, training, English",
        "category Puzzles, complexity 3, length a",
        "    How many sheep\n    are left?",
        "modified instruction:\n    How many goats?",
        "chosen, the better answer:\n    nine",
        "rejected, the worse answer (modified_instruction):\n    eight",
        "judgment 0, training, chosen shown as A, no verdict, 40 tokens, ended by length:",
        "judgment 1, training, chosen shown as A, verdict B: wrong, 40 tokens:",
        "judgment 2, training, chosen shown as A, verdict A: right, 40 tokens, KEPT:",
    ):
        assert fact in text
    assert text.count("KEPT") == 1
    assert judged.pair is not None
    attacked = replace(judged, pair=replace(judged.pair, attack="verdict"))
    text = shown(artifact(tmp_path / "attacked", rows_to_table([attacked])))
    assert "rejected, the worse answer (modified_instruction, attacked: verdict):\n    eight" in text


def test_thoughts_are_shown_beside_what_follows_them(tmp_path: Path) -> None:
    judgment = replace(said("A"), thought="<think>\nA or B?\n</think>\n\n")
    text = shown(artifact(tmp_path / "rows", rows_to_table([row(judgments=(judgment, said("B", index=1)))])))
    assert "thought of judgment 0:\n    <think>\n    A or B?\n    </think>" in text
    assert text.index("A or B?") < text.index("Assistant A it is.")
    assert "thought of judgment 1" not in text
    messages = (Turn(role="user", content="?"),)
    example = Example(id="e", winner="A", messages=messages, completion="[[A]]", thought="A?</think>")
    text = shown(artifact(tmp_path / "examples", examples_to_table([example])))
    assert "thought, which is learned:\n    A?</think>\ncompletion, which is learned:\n    [[A]]" in text
    assert "rejected" not in text
    pair = replace(example, rejected="[[B]]", rejected_thought="B?</think>")
    text = shown(artifact(tmp_path / "pairs", examples_to_table([pair])))
    assert "rejected thought:\n    B?</think>\nrejected, the wrong judgment:\n    [[B]]" in text


def test_a_dropped_and_a_failed_row_say_why(tmp_path: Path) -> None:
    dropped = row("r1").drop("rejected_unparsed", "Sorry, no.")
    text = shown(artifact(tmp_path, rows_to_table([dropped, row("r2", error="engine: timed out")])))
    assert "DROPPED: rejected_unparsed\ndetail:\n    Sorry, no." in text
    assert "FAILED:\n    engine: timed out" in text


def test_heldout_rows_show_both_orders(tmp_path: Path) -> None:
    pair = Pair(method="given", chosen="nine", rejected="eight")
    judged = row(task=HELDOUT, pair=pair, judgments=(said("A", "A", purpose="sampled"), said("A", "B", purpose="greedy")))
    text = shown(artifact(tmp_path, rows_to_table([judged])))
    assert "judgment 0, sampled, chosen shown as A, verdict A: right" in text
    assert "judgment 0, greedy, chosen shown as B, verdict A: wrong" in text


def test_an_open_pair_is_shown_without_a_better_answer(tmp_path: Path) -> None:
    judged = row(pair=Pair(method=OPEN, chosen="nine", rejected="eight"), judgments=(said("B", winner="B"), said(None)))
    text = shown(artifact(tmp_path, rows_to_table([judged])))
    assert "response A:\n    nine\nresponse B:\n    eight" in text
    assert "judgment 0, training, response A shown as B, verdict B:" in text
    assert "judgment 0, training, response A shown as A, no verdict, ended by length:" in text
    assert "better" not in text
    assert "right" not in text


def graded(score: int | None, rubric: str = "truth") -> Grade:
    return Grade(
        rubric=rubric,
        answer="response",
        index=0,
        asked="",
        text=f"So it is {score}.",
        score=score,
        finish_reason="stop",
        output_tokens=4,
    )


def test_a_graded_response_shows_what_the_judge_saw_and_every_score(tmp_path: Path) -> None:
    made = row(response="nine", reference="9", context="All but nine died.", grades=(graded(3), graded(None, "style")))
    text = shown(artifact(tmp_path / "graded", rows_to_table([made])))
    for part in ("context:\n    All but nine died.", "reference:\n    9", "response:\n    nine"):
        assert part in text
    assert "grade 0, sampled, truth, score 3:\n    So it is 3." in text
    assert "grade 0, sampled, style, no score:\n    So it is None." in text
    details = row_details("r1", [("judge", made)], 100)
    assert (details["context"], details["answers"]) == ("All but nine died.", [{"title": "response", "text": "nine"}])
    assert [(given["verdict"], given["outcome"]) for given in details["judges"][0]["judgments"]] == [
        ("score 3", "given"),
        ("no score", "unread"),
    ]


def test_a_row_of_an_older_version_is_shown_as_a_row(tmp_path: Path) -> None:
    table = rows_to_table([row(judgments=(said("A"),))]).drop_columns(["grades", "rubrics", "context", "response"])
    assert "judgment 0, training, chosen shown as A, verdict A: right" in shown(artifact(tmp_path / "old", table))


def test_a_training_example(tmp_path: Path) -> None:
    prompt = (Turn(role="system", content="Judge."), Turn(role="user", content="[Question]"))
    table = examples_to_table([Example(id="e1", winner="B", messages=prompt, completion="So [[B]]")])
    text = shown(artifact(tmp_path, table))
    assert "e1  judgment, better answer shown as B\nsystem:\n    Judge.\nuser:\n    [Question]\n" in text
    assert "completion, which is learned:\n    So [[B]]" in text


def test_any_other_table(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"id": "h1", "score": 0.5, "pair": {"chosen": "two\nlines", "n": None}, "tags": ["a", "b"]}])
    text = shown(artifact(tmp_path, table))
    assert 'id: h1\nscore: 0.5\npair.chosen:\n    two\n    lines\npair.n: null\ntags: ["a", "b"]' in text


def test_a_model_shows_its_manifest(tmp_path: Path) -> None:
    text = shown(artifact(tmp_path))
    assert "finished\n" in text
    assert "key.model.path: m" in text
    assert "parameters: 12" in text


def test_an_unfinished_artifact_says_so_in_its_first_line(tmp_path: Path) -> None:
    text = shown(artifact(tmp_path / "some", rows_to_table([row()]), finished=False))
    assert text.splitlines()[0].endswith("NOT FINISHED, the rows committed so far")
    assert "r1  position 7" in text
    nothing = shown(artifact(tmp_path / "none", finished=False))
    assert nothing.splitlines()[0].endswith("NOT FINISHED, nothing committed yet")
    assert "step: judged" in nothing


def test_the_limit(tmp_path: Path) -> None:
    text = shown(artifact(tmp_path, rows_to_table([row("r1"), row("r2")]), rows_to_table([row("r3")])), limit=2)
    assert "2 of 3 rows" in text
    assert "r2" in text
    assert "r3" not in text


def test_a_selection_without_rows_says_so(tmp_path: Path) -> None:
    made = artifact(tmp_path / "rows", rows_to_table([row("r1"), replace(row("r2"), dropped="pair_identical")]))
    said = list(map(str, show_rows(made, RowSelection(where="dropped=pair_identcal"))))
    assert said[-1] == "no such row; dropped there: 1 pair_identical"
    assert list(map(str, show_rows(made, RowSelection(where="id=r3"))))[-1] == "no such row"
    with pytest.raises(ConfigError, match=r"--where wrong: .* holds no rows; leave it out"):
        list(show_rows(artifact(tmp_path / "model"), RowSelection(where="wrong")))


def test_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifact here"):
        shown(Artifact(Folder.at(tmp_path), {}))


def test_a_long_text_is_cut_and_wrapped(tmp_path: Path) -> None:
    text = shown(artifact(tmp_path, rows_to_table([row(pair=Pair(method="given", chosen="word " * 500, rejected="x" * 3000))])))
    assert "… (+1,300 characters)" in text
    assert "… (+1,800 characters)" in text
    assert max(map(len, text.splitlines()[1:])) <= 120


def test_hostile_text_is_shown_not_obeyed(tmp_path: Path) -> None:
    pair = Pair(method=HOSTILE, chosen=HOSTILE, rejected=HOSTILE)
    rows = rows_to_table([row(HOSTILE, language=HOSTILE, pair=pair).drop(HOSTILE, HOSTILE)])
    other = pa.Table.from_pylist([{HOSTILE: HOSTILE, "list": [HOSTILE]}])
    text = shown(artifact(tmp_path / "rows", rows)) + shown(artifact(tmp_path / "other", other))
    assert not set(text) & set("\x1b\x07\x9b\r\u202e\u2028\u200b\U000e0041")
    assert "\\x1b[2J\\x1b]0;owned\\x07" in text
    assert "\\u202egnp.exe" in text


MARKED_UP = "[red]x[/red] :smile: [link=http://x]y[/link] " + HOSTILE


def shown_on_terminal(path: Path, columns: int = 80, **environment: str) -> str:
    return on_terminal([sys.executable, "-m", "stj.cli", "show", str(path)], columns, **environment)


@pytest.mark.slow
def test_a_terminal_shows_titles_verdicts_and_tombstones_in_colour(tmp_path: Path) -> None:
    pair = Pair(method="given", chosen="nine", rejected="eight")
    judged = row(pair=pair, judgments=(said(None), said("B", index=1), said("A", index=2)), kept=2)
    artifact(tmp_path / "a", rows_to_table([judged, row("r2").drop("category"), row("r3", error="no")]))
    text = shown_on_terminal(tmp_path / "a")
    for styled in (
        "\x1b[1minstruction\x1b[0m:",
        "\x1b[1;33mno verdict",
        "\x1b[1;31mverdict B: wrong",
        "\x1b[1;32mverdict A: right",
        "\x1b[1;35m, KEPT",
        "\x1b[2m  position 7",
        "\x1b[1;33mDROPPED: category",
        "\x1b[1;31mFAILED",
    ):
        assert styled in text


@pytest.mark.slow
def test_a_terminal_without_colour_shows_what_a_pipe_shows(tmp_path: Path) -> None:
    made = artifact(tmp_path / "a", rows_to_table([row(pair=Pair(method="given", chosen=HOSTILE, rejected="8"))]))
    text = shown_on_terminal(tmp_path / "a", columns=200, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert plain.split() == shown(made).split()
    assert "\x1b" not in shown_on_terminal(tmp_path / "a", TERM="dumb")


@pytest.mark.slow
def test_a_terminal_obeys_nothing_in_the_data(tmp_path: Path) -> None:
    pair = Pair(method=MARKED_UP, chosen=MARKED_UP, rejected=MARKED_UP)
    judged = row(MARKED_UP, language=MARKED_UP, pair=pair, judgments=(said("A"),))
    artifact(tmp_path / "rows", rows_to_table([judged, row("r2").drop(MARKED_UP, MARKED_UP)]))
    artifact(tmp_path / "other", pa.Table.from_pylist([{MARKED_UP: MARKED_UP, "list": [MARKED_UP]}]))
    for name in ("rows", "other"):
        text = shown_on_terminal(tmp_path / name, columns=1000)
        ours = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert not set(ours) & set("\x1b\x07\x9b\r\u202e\u2028\u200b\U000e0041")
        assert ours.count("[red]x[/red] :smile: [link=http://x]y[/link] \\x1b[2J\\x1b]0;owned\\x07 \\u202egnp.exe") >= 2


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_texts_fit_the_width_of_the_terminal(columns: int, tmp_path: Path) -> None:
    artifact(tmp_path / "a", rows_to_table([row(pair=Pair(method="given", chosen="word " * 90, rejected="判" * 300))]))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown_on_terminal(tmp_path / "a", columns)).splitlines()
    texts = [line for line in lines if line.startswith("    ")]
    assert max(len(line.encode("gb18030")) for line in texts) <= columns  # in GB 18030 a wide character is two bytes
    assert sum(line.count("word") for line in texts) == 90
    assert sum(line.count("判") for line in texts) == 300


def test_data_cannot_pretend_to_be_a_line_of_ours(tmp_path: Path) -> None:
    forged = "r1\nDROPPED: by you"
    text = shown(artifact(tmp_path, rows_to_table([row(forged, language=forged, error=forged)])))
    assert not [line for line in text.splitlines() if line.startswith("DROPPED")]


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_text_can_be_printed(text: str) -> None:
    printed = visible(text)
    printed.encode()
    assert all(c.isprintable() or c in "\n\t\u200c\u200d" or ord(c) > 0x7F for c in printed)
    assert visible("täxt, 漢字, 👩\u200d🚀\n\tcode") == "täxt, 漢字, 👩\u200d🚀\n\tcode"
