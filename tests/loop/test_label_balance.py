"""Which judgments are learned: the first right one, the first wrong one, and as many labels A as B."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.loop.label_balance import LabelBalance, to_learn
from stj.rows import Judgment, Pair, Row
from stj.train_config import Objective
from tests.conftest import make_row


@given(st.lists(st.sampled_from("AB"), max_size=80), st.integers(0, 5), st.randoms(use_true_random=False))
def test_balance_is_equal_and_independent_of_order(labels: list[str], seed: int, rng: random.Random) -> None:
    kept = [(f"row-{i}", label) for i, label in enumerate(labels)]
    chosen = balance(kept, seed)
    counts = {label: sum(kept_label == label for row_id, kept_label in kept if row_id in chosen) for label in "AB"}
    assert counts["A"] == counts["B"] == min(labels.count("A"), labels.count("B"))
    rng.shuffle(kept)
    assert balance(kept, seed) == chosen


@given(st.lists(st.tuples(st.sampled_from("AB"), st.booleans()), max_size=80), st.integers(0, 5))
def test_what_is_compared_is_balanced_within_what_is_chosen(rows: list[tuple[str, bool]], seed: int) -> None:
    kept = [(f"row-{i}", label) for i, (label, _) in enumerate(rows)]
    compared = [(f"row-{i}", label) for i, (label, wrong) in enumerate(rows) if wrong]
    chosen = balance(kept, seed)
    inside = balance(compared, seed, within=kept)
    counts = {label: sum(row_id in inside for row_id, own in compared if own == label) for label in "AB"}
    assert inside <= chosen & {row_id for row_id, _ in compared}
    assert counts["A"] == counts["B"] == min(sum(i in chosen for i, own in compared if own == label) for label in "AB")


def balance(kept: list[tuple[str, str]], seed: int, within: list[tuple[str, str]] | None = None) -> set[str]:
    """Ids in the balanced share of these examples, within the share of others."""

    def draws(examples: list[tuple[str, str]]) -> LabelBalance:
        balance = LabelBalance(seed)
        for row_id, label in examples:
            balance.add(row_id, label)  # type: ignore[arg-type]
        return balance

    outer = draws(within or [])
    outer.settle()
    chosen = draws(kept)
    chosen.settle(None if within is None else outer)
    return {row_id for row_id, label in kept if chosen.has(row_id, label)}  # type: ignore[arg-type]


def judged(verdicts: str, kept: int | None = None) -> Row:
    """A row whose better answer was shown as B, with these verdicts in turn; "-" is none."""
    judgments = tuple(
        Judgment(
            purpose="training",
            winner="B",
            index=i,
            text=f"{i}: so {tag}",
            verdict=None if tag == "-" else tag,  # type: ignore[arg-type]
            finish_reason="stop",
            output_tokens=2,
        )
        for i, tag in enumerate(verdicts)
    )
    return make_row(pair=Pair(method="given", chosen="four", rejected="five"), judgments=judgments, kept=kept)


@pytest.mark.parametrize(
    ("verdicts", "kept", "objective", "texts"),
    [
        ("AB", 1, "sft", ["1: so B", None]),
        ("AA", None, "sft", None),
        ("A", 0, "sft", ["0: so A", None]),  # judge.keep=random
        ("-ABAB", 2, "dpo", ["2: so B", "1: so A"]),
        ("BBA", 0, "rpo", ["0: so B", "2: so A"]),
        ("B-", 0, "dpo", None),
        ("AA", None, "dpo", None),
        ("B", 0, "sft_then_dpo", ["0: so B", None]),
        ("BA", 0, "sft_then_dpo", ["0: so B", "1: so A"]),
    ],
)
def test_what_is_learned_is_the_first_right_judgment_and_the_first_wrong_one(
    verdicts: str, kept: int | None, objective: Objective, texts: list[str | None] | None
) -> None:
    found = to_learn(judged(verdicts, kept), objective)
    assert (found and [judgment and judgment.text for judgment in found]) == texts
