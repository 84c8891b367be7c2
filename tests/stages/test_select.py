"""Selection: the declared rule, the first k in input order whatever the order of arrival, and the balance of labels."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import Objective, SelectConfig
from stj.loop.label_balance import LabelBalance, to_learn
from stj.rows import Category, Judgment, Pair, Row, Turn
from stj.stages.select import SelectionLimit, apply_limit, reject_categorized, reject_unasked
from tests.conftest import make_row

REASONING = Category(name="Mathematical reasoning", complexity=5, length="b")


@pytest.mark.parametrize(
    ("fields", "rule", "reason"),
    [
        ({}, {}, None),
        ({"toxic": True}, {}, "toxic"),
        ({"toxic": True}, {"toxic": True}, None),
        ({"redacted": True}, {}, "redacted"),
        ({"language": "German"}, {"languages": ("English",)}, "language"),
        ({"language": None}, {"languages": ("English",)}, "language"),
        ({"language": "English"}, {"languages": ("English",)}, None),
        ({"turns": (Turn(role="user", content="a"),) * 3}, {"max_turns": 2}, "turns"),
        ({}, {"min_turns": 2}, "turns"),
    ],
)
def test_what_the_source_says(fields: dict[str, object], rule: dict[str, object], reason: str | None) -> None:
    assert reject_unasked(make_row(**fields), SelectConfig(**rule)) == reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("category", "rule", "reason"),
    [
        (REASONING, {}, None),
        (Category(name="Other", complexity=5, length="b"), {}, "category"),
        (REASONING, {"min_complexity": 6}, "complexity"),
        (REASONING, {"max_complexity": 4}, "complexity"),
        (REASONING, {"lengths": ("a",)}, "length"),
        (Category(name="Other", complexity=5, length="b"), {"categories": None}, None),
    ],
)
def test_what_the_model_says(category: Category, rule: dict[str, object], reason: str | None) -> None:
    assert reject_categorized(make_row(category=category), SelectConfig(**rule)) == reason  # type: ignore[arg-type]


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 20), st.randoms(use_true_random=False))
def test_the_limit_keeps_the_first_k_in_input_order(passing: list[bool], limit: int, rng: random.Random) -> None:
    """Rows arrive in any order, some twice, and some over the limit are processed: the first k passing rows remain."""
    gate, rows = SelectionLimit(limit), []
    arrival = list(enumerate(passing))
    rng.shuffle(arrival)
    for position, passes in arrival:
        if passes and rng.random() < 0.3:
            gate.passed(position)  # reported by an engine that died later
        row = make_row(position, category=REASONING)
        if gate.over(position):
            rows.append(make_row(position).drop("over_limit"))
        elif passes:
            gate.passed(position)
            rows.append(row)
        else:
            rows.append(row.drop("category"))
    kept = {row.position for row in apply_limit(lambda: rows, limit) if not row.dropped}
    assert kept == set([position for position, passes in enumerate(passing) if passes][:limit])


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
    counts = {label: sum(row_id in inside for row_id, shown in compared if shown == label) for label in "AB"}
    assert inside <= chosen & {row_id for row_id, _ in compared}
    assert counts["A"] == counts["B"] == min(sum(i in chosen for i, shown in compared if shown == label) for label in "AB")


def balance(kept: list[tuple[str, str]], seed: int, within: list[tuple[str, str]] | None = None) -> set[str]:
    """Ids of the balanced examples, within the balance of others."""

    def draws(examples: list[tuple[str, str]]) -> LabelBalance:
        counted = LabelBalance(seed)
        for row_id, label in examples:
            counted.add(row_id, label)  # type: ignore[arg-type]
        return counted

    share = draws(kept).balanced(None if within is None else draws(within).balanced())
    return {row_id for row_id, label in kept if share.has(row_id, label)}  # type: ignore[arg-type]


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
    learned = to_learn(judged(verdicts, kept), objective)
    assert (learned and [judgment and judgment.text for judgment in learned]) == texts
