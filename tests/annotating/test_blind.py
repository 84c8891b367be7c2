"""Nothing that an annotator could see depends on which response is better; chance alone places pairs and responses."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stj.annotating.blind import in_order, read_blind_pairs, shows_b_first
from stj.annotating.server import AnnotateServer
from stj.errors import SourceError
from stj.pair_fields import PairFields
from tests.annotating.conftest import DIALOGUE, label_file, open_pair, session_of, write_pairs

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
PAIRS = st.lists(st.lists(TEXTS, min_size=2, max_size=2, unique=True), min_size=1, max_size=4)


def seen_and_written(rows: Sequence[Mapping[str, object]]) -> tuple[list[str], str]:
    """All that the server sends to an annotator who labels every pair, and the file of labels."""
    with tempfile.TemporaryDirectory() as scratch:
        pairs, out = write_pairs(Path(scratch) / "pairs.jsonl", rows), Path(scratch) / "labels.jsonl"
        with AnnotateServer(session_of(pairs, out), None) as server:
            sent = [server.answers["/name.json"]({}), server.answers["/pair.json"]({"name": "Ada"})]
            for number in range(1, len(rows) + 1):
                body = {"name": "Ada", "number": number, "choice": "1", "before": None}
                sent += [server.answers["/pair.json"](body), server.answers["/label.json"](body)]
            sent += [server.answers["/pair.json"]({"name": "Ada", "number": number}) for number in range(1, len(rows) + 1)]
        return [json.dumps(answer) for answer in sent], out.read_text(encoding="utf-8")


@pytest.mark.slow
@given(PAIRS, st.integers(0, 15))
@example([["better", "a much longer and worse response"]], 1)
def test_chosen_and_rejected_leave_no_trace(texts: list[list[str]], swapped: int) -> None:
    """The same texts, with the truth the other way round in any of the pairs."""
    rows = [{"instruction": "ask", "chosen": first, "rejected": second} for first, second in texts]
    others = [
        {"instruction": "ask", "chosen": second, "rejected": first} if swapped >> place & 1 else row
        for place, ((first, second), row) in enumerate(zip(texts, rows, strict=True))
    ]
    assert seen_and_written(rows) == seen_and_written(others)


@pytest.mark.slow
@given(PAIRS, st.data())
def test_a_label_in_the_file_of_pairs_leaves_no_trace(texts: list[list[str]], data: st.DataObject) -> None:
    plain = [{"instruction": "ask", "response_a": first, "response_b": second} for first, second in texts]
    truths: list[dict[str, str]] = []
    for first, second in texts:
        known = [{"label": "A"}, {"label": "B"}, {"winner": "B", "judge": "gpt"}, {"chosen": first}, {"chosen": second}, {}]
        truths.append(data.draw(st.sampled_from(known)))
    labelled = [{**row, **truth} for row, truth in zip(plain, truths, strict=True)]
    assert seen_and_written(plain) == seen_and_written(labelled)


def test_neither_id_nor_subset_nor_writer_nor_label_of_others_is_sent(tmp_path: Path) -> None:
    secret = {"id": "secret-id", "subset": "secret-subset", "model_a": "secret-model", "winner": "model_a"}
    pairs = write_pairs(tmp_path / "secret-name.jsonl", [{**open_pair(0), **secret}, open_pair(1)])
    out = tmp_path / "labels.jsonl"
    labels = label_file(pairs, out)
    for pair in read_blind_pairs(str(pairs), 0).pairs:
        labels.put("secret-person", pair, "tie", None)
    session = session_of(pairs, out)
    sent = [session.shown("Ada"), session.shown("Ada", 1), session.shown("Ada", 2)]
    assert "secret" not in json.dumps(sent)
    assert [answer["choice"] for answer in sent] == [None] * 3
    assert {tuple(answer) for answer in sent} == {("number", "of", "labelled", "turns", "responses", "choice")}


def test_the_order_is_each_annotator_s_own_and_lasts(tmp_path: Path) -> None:
    pairs = read_blind_pairs(str(write_pairs(tmp_path / "p.jsonl", [open_pair(n) for n in range(200)])), 0).pairs
    orders = {name: [pair.id for pair in in_order(pairs, 0, name)] for name in ("Ada", "Bo")}
    assert orders["Ada"] == [pair.id for pair in in_order(list(reversed(pairs)), 0, "Ada")]
    assert sorted(orders["Ada"]) == sorted(orders["Bo"]) == sorted(pair.id for pair in pairs)
    assert len({*map(tuple, orders.values()), tuple(pair.id for pair in pairs)}) == 3
    assert [pair.id for pair in in_order(pairs, 1, "Ada")] != orders["Ada"]


def test_each_response_is_first_about_half_the_time(tmp_path: Path) -> None:
    rows = [{"instruction": "ask", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(400)]
    pairs = read_blind_pairs(str(write_pairs(tmp_path / "p.jsonl", rows)), 0).pairs
    sides = {name: [shows_b_first(pair, 0, name) for pair in pairs] for name in ("Ada", "Bo")}
    good_is_a = [pair.response_a.startswith("good") for pair in pairs]
    ada, bo = sides.values()
    good_is_first = [is_a != b_first for is_a, b_first in zip(good_is_a, ada, strict=True)]
    same = [one == other for one, other in zip(ada, bo, strict=True)]
    for draws in (ada, bo, good_is_a, good_is_first, same):
        assert 150 <= sum(draws) <= 250  # five standard deviations


def test_a_and_b_are_those_of_a_file_that_has_them(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "p.jsonl", [open_pair(n, label="B", chosen=f"b {n}") for n in range(20)])
    pairs = read_blind_pairs(str(path), 0).pairs
    assert {(pair.response_a[0], pair.response_b[0]) for pair in pairs} == {("a", "b")}


def test_records_are_as_the_reader_of_pairs_reads_them(tmp_path: Path) -> None:
    rows = [open_pair(0), open_pair(1, instruction=DIALOGUE, subset="x"), open_pair(1, subset="y")]
    [text, dialogue, other] = read_blind_pairs(str(write_pairs(tmp_path / "p.jsonl", rows)), 0).pairs
    assert text.record == rows[0]
    assert dialogue.record == rows[1]
    assert dialogue.key != other.key


def test_pairs_that_nobody_can_label_are_counted(tmp_path: Path) -> None:
    unusable = [open_pair(0, response_b="a 0"), open_pair(1, instruction=" "), open_pair(2, response_b="a 2")]
    path = write_pairs(tmp_path / "p.jsonl", [*unusable, *(open_pair(n) for n in range(3, 9))])
    blind = read_blind_pairs(str(path), 0, limit=2)
    assert [pair.id for pair in blind.pairs] == ["p3", "p4"]
    assert blind.skipped == {"same_text": 2, "empty_turn": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no pairs; each row has instruction, response_a and response_b, or chosen and rejected"),
        ([open_pair(0, response_b="a 0")], "no pair can be labelled: 1 same_text; give pairs of two different responses"),
        ([open_pair(0), open_pair(0)], "line 2: field 'id' is 'p0', which an earlier row has too"),
        ([{"question": "?"}], "line 1: no field 'instruction'"),
    ],
)
def test_a_file_without_pairs_is_refused(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_blind_pairs(str(write_pairs(tmp_path / "p.jsonl", rows)), 0)


def test_fields_may_have_other_names(tmp_path: Path) -> None:
    rows = [{"Frage": "ask", "besser": "good", "schlechter": "bad"}, {"Frage": "ask", "besser": "fine", "schlechter": "poor"}]
    names = PairFields(instruction="Frage", chosen="besser", rejected="schlechter")
    pairs = read_blind_pairs(str(write_pairs(tmp_path / "p.jsonl", rows)), 0, fields=names).pairs
    assert [{pair.response_a, pair.response_b} for pair in pairs] == [{"good", "bad"}, {"fine", "poor"}]
    assert pairs[0].turns[0].content == "ask"
