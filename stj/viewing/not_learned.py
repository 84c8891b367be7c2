"""Why a row of a finished pass is in no training set that was selected from it, as far as rows and keys say."""

from collections.abc import Iterator, Sequence

from stj.config import JudgeConfig
from stj.disagreement import DisagreementConfig
from stj.loop.boundary import Boundary
from stj.loop.lessons import unusable
from stj.loop.opinions import row_draws
from stj.loop.pair_draws import PairDraws
from stj.rows import Row
from stj.storage.artifacts import Key

LEFT_OUT = "left_out"
"""A rule that compares the row with others leaves it out: one of `rules_of`."""
NOT_JUDGED = "not_judged"
"""The row has no judgment."""
NOT_FINISHED = "not_finished"
"""The training set is not finished."""
_RULES = {
    "answers_keep_out": "source.keep_out=all",
    "label_noise": "curate.label_noise",
    "balance": "curate.balance",
    "share": "grading.share",
}
"""The settings that leave out pairs, by the members of the key of a training set; labels and sources are always balanced."""


def not_learned(row: Row, earlier: Sequence[Row], opinions: Sequence[Row], examples: Key, judge: JudgeConfig) -> str:
    """The reason, of the key of the training set. `earlier` is the row as the passes before left it, the last one last.

    `opinions` is the row in the other passes with opinions of the panel, and `judge` says who is on it.
    """
    if row.error is not None:
        return "failed"
    if row.dropped is not None:
        return row.dropped
    if not row.judgments and not row.grades:
        return NOT_JUDGED
    return unusable(row, examples["objective"]) or _far_from_boundary(row, earlier, opinions, examples, judge) or LEFT_OUT


def rules_of(examples: Key) -> Iterator[str]:
    """The rules of a training set that may leave out a pair for the sake of others, in words."""
    yield from (setting for member, setting in _RULES.items() if member in examples)
    yield "the balance of labels, sources and kinds"


def _far_from_boundary(
    row: Row, earlier: Sequence[Row], opinions: Sequence[Row], examples: Key, judge: JudgeConfig
) -> str | None:
    if "disagreement" not in examples:
        return None
    wanted = DisagreementConfig(**examples["disagreement"])
    if wanted.draws == "panel":
        return Boundary(wanted, examples["seed"], row_draws(row, opinions, judge)).rejects(row)
    last = PairDraws([row for row in earlier if row.judgments][-1:]) if wanted.draws == "last" else None
    return Boundary(wanted, examples["seed"], last).rejects(row)
