"""Selection: the declared rule."""

import pytest

from stj.config import SelectConfig
from stj.rows import Category, Turn
from stj.stages.select import reject_categorized, reject_unasked
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
