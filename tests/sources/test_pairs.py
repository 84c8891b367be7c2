"""One reader of pairs: what `stj judge`, `stj eval pairs:FILE` and held-out pairs take."""

from typing import Any

import pytest

from stj.errors import SourceError
from stj.sources.pairs import HUMAN_TIE, NO_WINNER, GivenPair, given_pairs

TURNS = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Sure?"}]


def read(*records: dict[str, Any], **options: bool) -> list[GivenPair]:
    return list(given_pairs(((f"pairs.jsonl, line {n}", record) for n, record in enumerate(records, start=1)), **options))


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
        ({"prompt": "?", "response_a": "x", "response_b": "y", "winner": "tie"}, "ties are not allowed"),
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
    ],
)
def test_people_may_decide_for_neither_response(record: dict[str, Any], winner: str | None, undecided: str | None) -> None:
    [pair] = read({"instruction": "?", "response_a": "x", "response_b": "y", **record}, labelled=True)
    assert (pair.winner, pair.undecided) == (winner, undecided)


def test_labels_that_are_not_aggregated_are_no_winner() -> None:
    row = {"instruction": "?", "response_a": "x", "response_b": "y", "annotators": {"anna": "A"}}
    with pytest.raises(SourceError, match="no field 'winner' or 'label'"):
        read(row, labelled=True)


def test_an_id_is_unique_in_its_subset() -> None:
    row = {"prompt": "?", "chosen": "x", "rejected": "y", "id": "1"}
    assert len(read(row, {**row, "subset": "math"}, {**row, "subset": "数学"})) == 3
    for twice in ([row, {**row, "subset": "all"}], [row, row]):
        with pytest.raises(SourceError, match="line 2: field 'id' is '1', which an earlier row has too"):
            read(*twice)
    with pytest.raises(SourceError, match="which an earlier row has too"):
        read(row, {**row, "subset": "math"}, in_subsets=False)


def test_labelled_pairs_need_a_winner() -> None:
    row = {"prompt": "?", "response_a": "x", "response_b": "y"}
    with pytest.raises(SourceError, match="no field 'winner'"):
        read(row, labelled=True)
    assert [pair.ranked for pair in read({**row, "label": 2}, labelled=True)] == [("y", "x")]
    assert [pair.winner for pair in read({**row, "response_b": "x"}, labelled=True)] == [None]
