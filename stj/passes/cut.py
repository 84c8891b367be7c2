"""The cut of a limited pass: the position of the last row that `select.limit` takes, as far as it is known.

Rows end in any order, so for most of a pass the cut lies between two positions. It is no later than the k-th row that is known
to pass. It is no earlier than the k-th row that is not known to be rejected. Rows up to the earliest cut certainly count, and
rows beyond the latest certainly do not.
"""

from stj.passes.row_bitmap import RowBitmap
from stj.rows import TRAINING
from stj.stages.select import SelectionLimit


class SelectionCut:
    """Where the k-th passing row lies. Positions count from 0; rows are reported in any order, and may be reported twice."""

    def __init__(self, limit: int) -> None:
        self._limit = SelectionLimit(limit)
        self._rejected = RowBitmap()
        self.earliest = limit - 1
        """Position of the k-th row that is not known to be rejected. It only grows."""

    @property
    def latest(self) -> int | None:
        """Position of the k-th row that is known to pass; None while fewer are known. It only falls."""
        return self._limit.last

    def over(self, position: int) -> bool:
        """Whether k passing rows before this position are known."""
        return self._limit.over(position)

    def passed(self, position: int) -> None:
        """Records a row that passes."""
        self._limit.passed(position)

    def rejected(self, position: int) -> None:
        """Records a row that does not pass."""
        if self._rejected.add(TRAINING, position) and position <= self.earliest:
            self.earliest += 1
            while self._rejected.has(TRAINING, self.earliest):
                self.earliest += 1
