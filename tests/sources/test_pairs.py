"""One reader of pairs: what `stj judge`, `stj eval pairs:FILE` and held-out pairs take."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stj.errors import ConfigError, SourceError
from stj.pair_fields import OWN_FIELDS, PairFields, Ties
from stj.rows import TIED, TIED_HALF, Pair
from stj.sources.pairs import HUMAN_TIE, NO_WINNER, GivenPair, given_pairs, pair_records

TURNS = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Sure?"}]


def read(*records: dict[str, Any], fields: PairFields = OWN_FIELDS, labelled: bool = False) -> list[GivenPair]:
    located = ((f"pairs.jsonl, line {n}", record) for n, record in enumerate(records, start=1))
    return list(given_pairs(located, fields, labelled=labelled))


@pytest.mark.parametrize(
    ("record", "shown", "winner"),
    [
        ({"prompt": "?", "chosen": "x", "rejected": "y"}, ("x", "y"), "A"),
        ({"instruction": "?", "prompt": "other", "response_a": "x", "response_b": "y", "winner": "B"}, ("x", "y"), "B"),
        ({"prompt": TURNS, "response_a": "x", "response_b": "y", "chosen": "y", "rejected": "x"}, ("x", "y"), "B"),
        ({"instruction": "?", "response_a": "x", "response_b": "y"}, ("x", "y"), None),
        ({"instruction": "?", "response_a": "x", "response_b": "y", "chosen": None, "winner": ""}, ("x", "y"), None),
        ({"instruction": "?", "response_a": "x", "response_b": "x", "winner": "B"}, ("x", "x"), None),
        ({"instruction": "?", "response_a": "x", "response_b": "y", "winner": "model_2", "winner_ab": "A"}, ("x", "y"), None),
    ],
)
def test_a_pair_has_one_of_several_forms(record: dict[str, Any], shown: tuple[str, str], winner: str | None) -> None:
    [pair] = read(record)
    assert (pair.first, pair.second, pair.winner) == (*shown, winner)
    assert pair.turns[-1].content in ("?", "Sure?")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"response_a": "x", "response_b": "y"}, "line 1: no field 'instruction'"),
        ({"prompt": "?", "chosen": "x"}, "line 1: no field 'rejected'"),
        ({"prompt": "?", "response_a": "x", "chosen": "x", "rejected": "y"}, "line 1: no field 'response_b'"),
        ({"prompt": "?", "chosen": ["x"], "rejected": "y"}, "field 'chosen' is list ['x']"),
        ({"prompt": "?", "response_a": "x", "response_b": "y", "winner": "either"}, "field 'winner' is str 'either'"),
        ({"q": "?", "response_a": "x", "response_b": "y"}, "the fields there are 'q', 'response_a', 'response_b'"),
        ({"q": "?", "response_a": "x", "response_b": "y"}, "name that one: fields.instruction=FIELD"),
        ({"prompt": "?", "left": "x", "right": "y"}, "no field 'response_a'"),
        ({"prompt": "?", "response_a": "x", "response_b": "y", "chosen": "z", "rejected": "y"}, "which are not the texts of"),
    ],
)
def test_a_bad_pair_is_one_clear_line(record: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(record)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("record", "winner", "undecided"),
    [
        ({"winner": "B", "annotators": {"anna": "B"}}, "B", None),
        ({"winner": "tie", "annotators": {"anna": "tie"}}, None, HUMAN_TIE),
        ({"winner": None, "annotators": {}}, None, NO_WINNER),
        ({"winner": None, "label": "A", "annotators": {"anna": "B"}}, "A", None),
        ({"winner": "tie"}, None, HUMAN_TIE),
        ({"label": "A=B"}, None, HUMAN_TIE),
        ({"annotators": {"anna": "A", "ben": "tie", "cem": "a"}}, "A", None),
        ({"annotators": ["B", "unsure", ""]}, "B", None),
        ({"annotators": [("anna", "tie"), ("ben", "tie")]}, None, HUMAN_TIE),
        ({"annotators": {"anna": "A", "ben": "B", "cem": "tie"}}, None, NO_WINNER),
    ],
)
def test_people_may_decide_for_neither_response(record: dict[str, Any], winner: str | None, undecided: str | None) -> None:
    [pair] = read({"instruction": "?", "response_a": "x", "response_b": "y", **record}, labelled=True)
    assert (pair.winner, pair.undecided) == (winner, undecided)


def test_an_id_is_unique_in_its_subset() -> None:
    row = {"prompt": "?", "chosen": "x", "rejected": "y", "id": "1"}
    assert len(read(row, {**row, "subset": "math"}, {**row, "subset": "数学"})) == 3
    for twice in ([row, {**row, "subset": "all"}], [row, row]):
        with pytest.raises(SourceError, match="line 2: field 'id' is '1', which an earlier row has too"):
            read(*twice)
    with pytest.raises(SourceError, match="stj agree FILE"):
        read(*({**row, "annotator": name} for name in ("anna", "ben")))
    assert [pair.row_id for pair in read(row, {**row, "subset": "math"}, {**row, "subset": "a/b"})] == [
        "1",
        "math/1",
        "a%2Fb/1",
    ]


def test_labelled_pairs_need_a_winner() -> None:
    row = {"prompt": "?", "response_a": "x", "response_b": "y"}
    with pytest.raises(SourceError, match="no field 'winner'"):
        read(row, labelled=True)
    assert [pair.ranked for pair in read({**row, "label": 2}, labelled=True)] == [("y", "x")]
    assert [pair.winner for pair in read({**row, "response_b": "x"}, labelled=True)] == [None]


ODD = {"q": "2 + 2?", "left": "4", "right": "5", "better": "left", "nr": 7, "kind": "sums", "judge": "anna", "winner": "B"}
ODD_FIELDS = PairFields(instruction="q", response_a="left", response_b="right", winner="better", id="nr", subset="kind")


def test_fields_may_have_any_names() -> None:
    [pair] = read(ODD, fields=ODD_FIELDS, labelled=True)
    assert (pair.id, pair.subset, pair.turns[0].content) == ("7", "sums", "2 + 2?")
    assert (pair.ranked, pair.winner) == (("4", "5"), "A")


@pytest.mark.parametrize(
    ("value", "winner", "undecided"),
    [("right", "B", None), ("A", "A", None), (2, "B", None), ("Tie", None, HUMAN_TIE), (None, None, NO_WINNER)],
)
def test_a_named_winner_is_the_truth(value: object, winner: str | None, undecided: str | None) -> None:
    [pair] = read({**ODD, "better": value}, fields=ODD_FIELDS, labelled=True)
    assert (pair.winner, pair.undecided) == (winner, undecided)


@pytest.mark.parametrize(
    ("first", "second", "value", "winner"),
    [
        ("cand.left", "cand.right", "right", "B"),
        ("cand.left", "cand.right", "cand.right", "B"),
        ("answers.ours.text", "answers.theirs.text", "theirs", "B"),
        ("cand.left", "cand.right", "B", "B"),
        ("by.model_b", "by.model_a", "model_b", "A"),  # a field's own name goes before stj's words
        ("by.2", "by.1", 2, "A"),
    ],
)
def test_a_label_may_be_the_part_of_a_dotted_name_that_differs(first: str, second: str, value: object, winner: str) -> None:
    row = {"prompt": "?", first: "x", second: "y", "better": value}
    [pair] = read(row, fields=PairFields(response_a=first, response_b=second, winner="better"), labelled=True)
    assert pair.winner == winner


def test_a_dotted_name_gives_no_other_words() -> None:
    names = PairFields(response_a="one.text", response_b="two.other", winner="better")
    with pytest.raises(SourceError, match=r"for A[)], or one.text or two.other$"):
        read({"prompt": "?", "one.text": "x", "two.other": "y", "better": "one"}, fields=names)


def test_a_named_field_has_no_other_meaning() -> None:
    row = {"prompt": "not this", "text": "?", "chosen": "B", "winner": "x", "loser": "y"}
    [pair] = read(row, fields=PairFields(instruction="text", response_a="winner", response_b="loser", winner="chosen"))
    assert (pair.turns[0].content, pair.ranked) == ("?", ("y", "x"))
    [ranked] = read(row, fields=PairFields(chosen="loser", rejected="winner"), labelled=True)
    assert (ranked.ranked, ranked.winner, ranked.ranked_by_file) == (("y", "x"), "A", True)


@pytest.mark.parametrize(
    ("votes", "winner"), [("AAB", "A"), ("BAB", "B"), ("ATT", HUMAN_TIE), ("ABT", NO_WINNER), ("A--", "A")]
)
def test_three_annotators_decide_by_most(votes: str, winner: str) -> None:
    words = {"A": "a", "B": "model_b", "T": "tie", "-": ""}
    row = {"prompt": "?", "x": "1", "y": "2", **{f"rater{n}": words[vote] for n, vote in enumerate(votes)}}
    names = tuple(f"rater{n}" for n in range(3))
    [pair] = read(row, fields=PairFields(response_a="x", response_b="y", annotators=names), labelled=True)
    assert (pair.winner or pair.undecided) == winner


@pytest.mark.parametrize(("value", "winner"), [({"anna": "B", "ben": "y", "cem": "A"}, "B"), (["A", "tie", "tie"], HUMAN_TIE)])
def test_one_field_may_hold_the_labels_of_all_annotators(value: object, winner: str) -> None:
    row = {"prompt": "?", "x": "1", "y": "2", "Urteile": value}
    [pair] = read(row, fields=PairFields(response_a="x", response_b="y", annotators=("Urteile",)), labelled=True)
    assert (pair.winner or pair.undecided) == winner


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_a_dotted_name_names_a_member(tmp_path: Path, name: str) -> None:
    row = {"q": {"Frage Text": "?"}, "Antwort": {"links": "x", "rechts": "y"}, "a.b": "B"}
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / name)
    else:
        (tmp_path / name).write_text(json.dumps({**row, "a": {"b": "a field of this very name goes before"}}))
    names = PairFields(instruction="q.Frage Text", response_a="Antwort.links", response_b="Antwort.rechts", winner="a.b")
    [pair] = given_pairs(pair_records(str(tmp_path / name), "file", names), names, labelled=True)
    assert (pair.turns[0].content, pair.first, pair.second, pair.winner) == ("?", "x", "y", "B")
    wrong = PairFields(instruction="q.Frage")
    with pytest.raises(SourceError, match=r"no field 'q.Frage'; the fields there are .*did you mean 'q.Frage Text'"):
        list(pair_records(str(tmp_path / name), "file", wrong))


def test_objects_nested_without_end_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"a":' * 400 + "1" + "}" * 400)
    with pytest.raises(SourceError, match=r"no field 'a.b'; the fields there are 'a', 'a.a'"):
        list(pair_records(str(tmp_path / "p.jsonl"), "file", PairFields(instruction="a.b")))


def test_a_named_field_that_is_missing_is_said_with_those_that_are_there() -> None:
    with pytest.raises(SourceError, match=r"line 1: no field 'beter'; the fields there are 'q', 'left'.*did you mean 'better'"):
        read(ODD, fields=PairFields(response_a="left", response_b="right", winner="beter"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"response_a": "x"}, "name fields.response_a and fields.response_b together"),
        ({"rejected": "x"}, "name fields.chosen and fields.rejected together"),
        ({"response_a": "x", "response_b": "x"}, "'x' is named twice"),
        ({"response_a": "a", "response_b": "b", "chosen": "c", "rejected": "d"}, "not all four"),
        ({"chosen": "a", "rejected": "b", "winner": "w"}, "leave one out"),
        ({"winner": "w", "annotators": ("a",)}, "leave one out"),
        ({"id": ""}, "a name is empty"),
    ],
)
def test_names_that_contradict_each_other_are_refused(names: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PairFields(**names)


@pytest.mark.parametrize(
    ("ties", "method", "reason"), [("skip", "given", HUMAN_TIE), ("count", TIED, None), ("half", TIED_HALF, None)]
)
def test_what_a_tie_counts(ties: Ties, method: str, reason: str | None) -> None:
    row = {"prompt": "?", "response_a": "x", "response_b": "y", "winner": "tie"}
    pair, dropped = read(row, labelled=True)[0].judged(ties)
    assert (pair.method, pair.ranked, dropped) == (method, method == "given", reason)
    assert read({**row, "winner": "B"})[0].judged(ties) == (Pair(method="given", chosen="y", rejected="x"), None)
    assert read({**row, "response_b": "x"})[0].judged(ties)[1] == "same_answers"


@given(
    turn=st.one_of(st.text(min_size=1), st.just(TURNS)),
    texts=st.tuples(st.text(), st.text()),
    winner=st.sampled_from(["A", "B", "tie", None]),
    names=st.lists(st.text(min_size=1), min_size=6, max_size=6, unique=True),
)
def test_other_names_read_the_same_pair(turn: Any, texts: tuple[str, str], winner: str | None, names: list[str]) -> None:
    values = [turn, *texts, winner, 3, "part"]
    own = ("instruction", "response_a", "response_b", "winner", "id", "subset")
    assume(winner is not None and winner not in names)
    roles = dict(zip(own, names, strict=True))
    named = read(dict(zip(names, values, strict=True)), fields=PairFields(**roles))
    assert named == read(dict(zip(own, values, strict=True)))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_of_any_kind_has_any_names(tmp_path: Path, suffix: str) -> None:
    rows = [{**ODD, "nr": str(n), "junk": "x" * n} for n in range(3)]
    file = tmp_path / f"odd.{suffix}"
    table = pa.Table.from_pylist(rows)
    if suffix == "parquet":
        pq.write_table(table, file)
    elif suffix == "csv":
        pa_csv.write_csv(table, file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = list(given_pairs(pair_records(str(file), "FILE", ODD_FIELDS), ODD_FIELDS, labelled=True))
    assert [(pair.id, pair.subset, pair.ranked) for pair in pairs] == [(str(n), "sums", ("4", "5")) for n in range(3)]
    with pytest.raises(SourceError, match="no field 'missing'; the fields there are 'q', 'left'"):
        list(pair_records(str(file), "FILE", PairFields(id="missing")))


def test_a_field_that_is_named_for_one_part_is_no_other_part() -> None:
    row = {"subset": "2 + 2?", "id": "4", "chosen": "5", "winner": "A"}
    [pair] = read(row, fields=PairFields(instruction="subset", response_a="id", response_b="chosen"), labelled=True)
    assert (pair.id, pair.subset, pair.ranked, pair.ranked_by_file) == ("row-00000000", None, ("4", "5"), False)
