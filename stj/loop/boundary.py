"""How often the judge is right about a pair, and which pairs are near the boundary (`select.disagreement`)."""

from typing import Protocol

from stj.disagreement import DisagreementConfig
from stj.loop.pair_draws import RightOf
from stj.randomness import uniform
from stj.rows import Row

TOO_HARD, TOO_EASY, OFF_BOUNDARY = "too_hard", "too_easy", "off_boundary"
"""Why a pair that could be learned is left out: by `low`, by `high`, or by lot."""


class Draws(Protocol):
    """The samples of pairs."""

    def of(self, row_id: str, /) -> RightOf | None:
        """Those of a pair; None without any."""


class Boundary:
    """Which pairs are near the boundary; `draws` has their samples unless they are the judge's of this iteration."""

    def __init__(self, config: DisagreementConfig, seed: int, draws: Draws | None) -> None:
        self._config = config
        self._seed = seed
        self._draws = draws

    def rejects(self, row: Row) -> str | None:
        """Why a pair is left out; None if it stays. One without samples stays."""
        config, drawn = self._config, self._drawn(row)
        if drawn is None:
            return None
        if drawn.share < config.low:
            return TOO_HARD
        if drawn.share > config.high:
            return TOO_EASY
        return OFF_BOUNDARY if config.weighted and self._lost(row, drawn) else None

    def difficulty(self, row: Row) -> float | None:
        """Where a pair comes in a curriculum, from 0 (easy) to 1; None if the order is random, or without samples."""
        drawn = self._drawn(row) if self._config.order == "easy_first" else None
        return None if drawn is None else 1 - drawn.share

    def _drawn(self, row: Row) -> RightOf | None:
        """The samples by which a pair is chosen."""
        if self._config.draws == "all":
            return RightOf.of(row)
        return self._draws.of(row.id) if self._draws else None

    def _lost(self, row: Row, drawn: RightOf) -> bool:
        """Whether the lot leaves a pair out."""
        p = (drawn.right + 0.5) / (drawn.samples + 1)
        return uniform(self._seed, row.id, "boundary") >= 4 * p * (1 - p)
