"""Verdicts that contradict the last sentence of their judgment."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.evals.contradictions import Contradictions, contradicted, contradiction, last_sentence, preferred
from stj.verdict import FIVE_WAY, PAIR_OR_TIE, Verdict, parse
from tests.cpu_time import units
from tests.viewing.conftest import judged, pair_row

DATA = os.environ.get("STJ_TEST_DATA")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("So Assistant B is better. [[A]]", "B"),
        ("... so Assistant B is better. [[A]]", "B"),
        ("Assistant A's response is more helpful than Assistant B's.\n\n[[B]]", "A"),
        ("My final verdict is: Assistant A is significantly better: [[B>A]]", "A"),
        ("Therefore, the better response is from Assistant B.\n\n**Final verdict:** [[A]]", "B"),
        ("While Assistant A is accurate, **Response B** provides the better answer overall.\n[[A]]", "B"),
        ("Output (b) is better. Output (a) is better.", "A"),
        ("Hence B is better.\nVerdict: [[A]]", "B"),
        ("Assistant B clearly outperforms Assistant A. [[A]]", "B"),
        ("I prefer Response A. [RESULT] B", "A"),
        ("[[A]] The winner is Assistant B.", "B"),
        ("Response C is the best. [[D]]", "C"),
    ],
)
def test_a_plain_statement_is_read(text: str, label: str) -> None:
    assert preferred(last_sentence(text)) == label
    assert contradicted(text, label) is None
    assert contradicted(text, "A" if label != "A" else "B") == last_sentence(text)


@pytest.mark.parametrize(
    "text",
    [
        "Assistant B is not better. [[A]]",
        "Assistant A and Assistant B are equally good. [[A]]",
        "Both responses are good. [[A]]",
        "Assistant B might be better. [[A]]",
        "However, Assistant B is better organised if you like lists. [[A]]",
        "Assistant B is more verbose. [[A]]",
        "Assistant B is better in style, Assistant A in content. [[A]]",
        "It is the better answer. [[A]]",
        "It isn't clear that Response B is better. [[A]]",
        "[[A]]",
        "",
        "Assistant B is better. But the rubric asks for facts. [[A]]",
    ],
)
def test_any_other_sentence_says_nothing(text: str) -> None:
    assert contradicted(text, "A") is None


def test_only_verdicts_are_counted_and_rows_are_named() -> None:
    against = judged("A", text="So Assistant B is better.")
    rows = [
        pair_row("1", against, judged("B", "B")),
        pair_row("2", replace(against, verdict=None)),
        pair_row("3", against, against),
    ]
    counted = Contradictions.of([*rows, pair_row("4", judged("7", text="Assistant B is better.", purpose="rating"))])
    assert (counted.stated, counted.count, counted.rows) == (3, 3, ["heldout/1", "heldout/3"])
    assert contradiction(against) == "So Assistant B is better"


@given(st.text(), st.sampled_from(["A", "B", "tie", None]))
def test_any_text_has_an_answer(text: str, verdict: str | None) -> None:
    sentence = contradicted(text, verdict)
    assert sentence is None or verdict is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", [" ", "(", "so ", "! ", "a\n", "Assistant A is ", "better, ", "while ", "*", "[[A]] ", "very ly "]
)
def test_long_texts_take_little_time(unit: str) -> None:
    assert units(lambda: contradicted(unit * 100_000 + "x", "A")) < 20


def recorded() -> Iterator[tuple[str, Verdict | None]]:
    assert DATA
    for file in sorted(Path(DATA, "mtbench_judgments_a").glob("*pairwise*.jsonl")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            yield from ((record[name], parse(record[name], PAIR_OR_TIE, "distinct")) for name in ("judgment_ab", "judgment_ba"))
    for line in Path(DATA, "judgebench_a_judgments", "arena_hard_outputs.jsonl").read_text().splitlines():
        for game in json.loads(line)["judgments"]:
            if game:
                text = game["judgment"]["response"]
                yield text, parse(text, FIVE_WAY, "distinct")


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="STJ_TEST_DATA is not set")
def test_recorded_judgments() -> None:
    """A statement agrees with its verdict in all 949 of 1,950 judgments that make one: none was read wrongly."""
    judgments = [(text, verdict) for text, verdict in recorded() if verdict is not None]
    stated = [(preferred(last_sentence(text)), verdict) for text, verdict in judgments]
    assert len(judgments) == 1950
    assert sum(label is not None for label, _ in stated) >= 900
    assert [pair for pair in stated if pair[0] not in (None, pair[1])] == []
