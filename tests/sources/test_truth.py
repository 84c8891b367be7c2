"""Which response is better: fields of truth, and a judge's word that is none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import SourceError
from stj.sources.truth import JUDGE_FIELDS, better_response, required_better

WHERE = "pairs.jsonl, line 7"
BOTH = {"response_a": "x", "response_b": "y"}


@pytest.mark.parametrize(
    ("values", "better"),
    [
        ({"winner": "B"}, "B"),
        ({"winner": "B", "label": "A>B"}, "A"),
        ({"winner": "model_b", "chosen": "x", "rejected": "y"}, "A"),
        ({**BOTH, "chosen": "y", "rejected": "x", "winner": "A"}, "B"),
        ({"output_1": "x", "output_2": "y", "chosen": "y"}, "B"),
        ({**BOTH, "chosen": "y", "rejected": "x", "label": 2}, "B"),
        ({"label": 1.0}, "A"),  # as pandas writes a whole number if another row has none
        ({"winner": "B", "winner_ab": "B", "winner_ba": "A"}, None),
        ({"winner": "model_1", "g1_winner": "model_1"}, None),
        ({"winner": "B", "judge_id": "gpt-4"}, None),
        ({"winner": "B", "judge": ["gpt-4", "pair-v2"], "label": "A"}, "A"),
        ({"winner": "B", "annotator": "", "judge": None}, "B"),  # an empty cell of CSV names nobody
        ({"winner": "B", "judge": "ab12", "votes": []}, "B"),  # `stj judge` copies the winner of the pairs' file
        ({"winner": None, "label": None, "chosen": None}, None),
        ({"winner": "", "label": "", "chosen": "", "rejected": ""}, None),
        ({"response_a": "x", "response_b": "x", "chosen": "x", "rejected": "x", "winner": "B"}, "A"),
        ({"response_a": "x", "response_b": "x", "chosen": "x", "rejected": "x", "label": "B"}, "B"),
    ],
)
def test_label_and_chosen_win_over_a_winner(values: dict[str, Any], better: str | None) -> None:
    assert better_response(values, WHERE) == better


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"chosen": "x", "rejected": "y", "label": "B>A"}, ["'chosen' is 'x'", "'label' is 'B>A'", "contradict each other"]),
        ({**BOTH, "chosen": "y", "rejected": "x", "label": "A"}, ["'chosen' is 'y'", "'label' is 'A'"]),
        ({**BOTH, "chosen": "z", "rejected": "y"}, ["'chosen' and 'rejected' are 'z' and 'y'", "'response_a'"]),
        ({**BOTH, "chosen": "x", "rejected": "z"}, ["are 'x' and 'z'"]),
        ({"label": "tie"}, ["'label' is 'tie'", "ties are not allowed"]),
        ({"label": True}, ["'label' is bool True"]),
        ({"label": "math"}, ["'label' is str 'math'"]),
        ({"chosen": "a\x1b\n" * 99, "label": "B"}, ["'chosen' is 'a\\x1b"]),
    ],
)
def test_contradictions_are_refused_with_fields_and_values(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SourceError) as caught:
        better_response(values, WHERE)
    message = str(caught.value)
    assert message.startswith(WHERE)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert len(message) < 400


def test_a_judges_own_winner_is_named_as_such() -> None:
    with pytest.raises(SourceError, match="'winner' stands beside 'g1_winner', so it is the judge's word"):
        required_better({"winner": "model_1", "g1_winner": "model_1", "g2_winner": "tie"}, WHERE)
    for name in JUDGE_FIELDS:
        with pytest.raises(
            SourceError, match=rf"^{WHERE}: .*'winner' stands beside '{name}', .*; give what is right as 'label'"
        ):
            required_better({"winner": "A", name: "gpt-4"}, WHERE)
    with pytest.raises(SourceError, match="no field 'winner'"):
        required_better({"id": 1}, WHERE)


@given(st.sampled_from(["A", "B"]), st.text(min_size=1), st.text(min_size=1), st.none() | st.sampled_from(["A", "B", "tie"]))
def test_exchanging_the_responses_exchanges_the_better_one(better: str, good: str, bad: str, winner: str | None) -> None:
    first, second = (good, bad) if better == "A" else (bad, good)
    row = {"response_a": first, "response_b": second, "chosen": good, "rejected": bad, "winner": winner}
    assert better_response(row, WHERE) == ("A" if good == bad else better)
