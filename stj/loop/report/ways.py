"""The ways to miss a held-out row, as heads of columns. Each missed row counts in one."""

from stj.text import Column

PAIR_WAYS = (
    Column("every", "vote wrong"),
    Column("follows", "A"),
    Column("follows", "B"),
    Column("mostly", "wrong"),
    Column("mostly", "no verdict"),
)
"""Of a pair."""
EVERY_VOTE, FOLLOWS_A, FOLLOWS_B, OTHERS, NO_VERDICT = (way.name for way in PAIR_WAYS)

RESPONSE_WAYS = (Column("too", "high"), Column("too", "low"), Column("mostly", "no score"))
"""Of a response that is graded."""
TOO_HIGH, TOO_LOW, NO_SCORE = (way.name for way in RESPONSE_WAYS)
