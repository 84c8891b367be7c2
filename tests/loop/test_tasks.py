"""What a judged pair becomes in training: the three kinds, their shares, and what is learned against what."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import ExamplesConfig
from stj.config_loader import load
from stj.errors import ConfigError
from stj.loop.tasks import TaskMix, to_example
from stj.prompts import JUDGE_SYSTEM, prompt
from stj.rows import Example, Judgment, Kind, Pair, Row, example_from_dict, examples_to_table
from stj.verdict import PAIR, Label, parse
from tests.conftest import make_row

DJPO = ExamplesConfig(verdicts=0.15, deductions=0.15)


def judgment(winner: Label, verdict: Label) -> Judgment:
    text = f"A says one thing and B another. [[{verdict}]]"
    return Judgment(
        purpose="training", winner=winner, index=0, text=text, verdict=verdict, finish_reason="stop", output_tokens=9
    )


def made(kind: Kind, winner: Label = "B", said: Label | None = None, *, wrong: bool = True) -> Example:
    """An example of a pair whose better answer, "four", was shown under the label `winner`."""
    row: Row = make_row(pair=Pair(method="given", chosen="four {instruction}", rejected="five [[A]]"))
    against = judgment(winner, "A" if winner == "B" else "B") if wrong else None
    return to_example(row, judgment(winner, said or winner), against, kind)


def test_a_judgment_is_learned_in_the_prompt_that_was_judged() -> None:
    example = made("judgment")
    assert (example.winner, example.completion[-5:], example.rejected and example.rejected[-5:]) == ("B", "[[B]]", "[[A]]")
    assert example.messages[0].content == prompt(JUDGE_SYSTEM)
    assert "[The Start of Assistant B’s Answer]\nfour {instruction}\n" in example.messages[1].content


@pytest.mark.parametrize("winner", ["A", "B"])
def test_a_verdict_is_learned_without_its_reasons_from_the_same_comparison(winner: Label) -> None:
    example, asked = made("verdict", winner), made("judgment", winner)
    assert (parse(example.completion, PAIR, "strict"), example.completion) == (winner, f"[[{winner}]]")
    assert example.rejected is not None
    assert {parse(example.completion, PAIR, "strict"), parse(example.rejected or "", PAIR, "strict")} == {"A", "B"}
    assert example.messages[1] == asked.messages[1]
    assert example.messages[0].content != asked.messages[0].content


def test_the_control_learns_what_the_judge_said_and_not_what_is_right() -> None:
    assert made("verdict", "B", said="A", wrong=False).completion == "[[A]]"


@pytest.mark.parametrize("winner", ["A", "B"])
def test_a_deduction_goes_from_the_judgment_to_the_responses_and_never_shows_them(winner: Label) -> None:
    example = made("deduction", winner)
    shown = "\n".join(turn.content for turn in example.messages)
    assert "What is 2 + 2?" in shown
    assert "A says one thing and B another." in shown
    assert "four" not in shown
    assert "five" not in shown
    assert example.rejected is not None
    assert f"Assistant {winner}’s Answer]\nfour {{instruction}}\n" in example.completion
    assert f"Assistant {winner}’s Answer]\nfive [[A]]\n" in example.rejected
    assert sorted(example.completion) == sorted(example.rejected)  # no clue in length or words


@pytest.mark.parametrize("kind", ["judgment", "verdict", "deduction"])
def test_nothing_is_learned_against_where_the_judge_was_never_wrong(kind: Kind) -> None:
    example = made(kind, wrong=False)
    assert example.rejected is None
    assert example_from_dict(examples_to_table([example]).to_pylist()[0]) == example


@pytest.mark.slow
@given(
    st.integers(0, 90),
    st.integers(0, 90),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_shares_are_exact_and_labels_balanced_in_any_order(
    with_wrong: int, without: int, verdicts: float, deductions: float, seed: int, rng: random.Random
) -> None:
    """As many with A as with B, some with a wrong judgment and some without, as selection leaves them."""
    config = ExamplesConfig(verdicts=verdicts, deductions=deductions)
    compared = {f"{label}{i}" for label in "AB" for i in range(with_wrong)}
    rows = [(f"{label}{i}", label) for label in "AB" for i in range(with_wrong + without)]
    kinds = kinds_of(rows, compared, config, seed)
    for group in (compared, {row_id for row_id, _ in rows} - compared):
        found = {label: Counter(kinds.get(row_id, "judgment") for row_id in group if row_id[0] == label) for label in "AB"}
        assert found["A"] == found["B"]
        for kind, share in {"verdict": verdicts, "deduction": deductions, "judgment": 1 - verdicts - deductions}.items():
            assert abs(found["A"][kind] - share * len(group) / 2) <= 1
    rng.shuffle(rows)
    assert kinds_of(rows, compared, config, seed) == kinds


def kinds_of(rows: list[tuple[str, str]], compared: set[str], config: ExamplesConfig, seed: int) -> dict[str, Kind]:
    """The kind of each example, by id."""
    examples = [(row_id, label, row_id in compared) for row_id, label in rows]
    kinds = TaskMix(config, seed)
    kinds.share_out(examples)  # type: ignore[arg-type]
    return {row_id: kinds.of(row_id, label, with_wrong) for row_id, label, with_wrong in examples}  # type: ignore[arg-type]


def test_the_shares_of_djpo_and_another_seed() -> None:
    rows = [(f"row-{i}", "AB"[i % 2]) for i in range(400)]
    kinds = kinds_of(rows, set(), DJPO, 0)
    assert Counter(kinds.values()) == {"judgment": 280, "verdict": 60, "deduction": 60}
    assert kinds_of(rows, set(), DJPO, 1) != kinds
    assert set(kinds_of(rows, set(), ExamplesConfig(), 0).values()) == {"judgment"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("examples.verdicts=1.5", "must be a share between 0 and 1"),
        ("examples={verdicts: 0.6, deductions: 0.6}", "must be at most 1 together"),
    ],
)
def test_shares_that_cannot_be(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([], [override])
