"""`stj calibrate`: judges labelled pairs as `stj judge` does, and keeps how often each confidence was right."""

from collections.abc import Mapping
from typing import Any

from stj.errors import SourceError
from stj.judging.calibration import Calibration, Outcome, Outcomes
from stj.judging.identity import judge_facts, model_facts
from stj.judging.judge_file import Panel, judge_file
from stj.sources.responses import read_winners
from stj.verdict import Label


def calibrate(panel: Panel, *, overwrite: bool = False) -> Calibration:
    """Calibrates the only judge of a panel on the pairs of its file that have a label.

    Pairs that `stj judge` has judged under the same run_root are not judged again. Raises SourceError if no pair has a label,
    and the errors of `judge_file`.
    """
    winners = {row_id: winner for row_id, winner in read_winners(panel.file).items() if winner}
    if not winners:
        raise SourceError(f"{panel.file}: no pair names its better response; a calibration needs the field 'winner', A or B")
    facts = judge_facts(model_facts(panel.models[0]), panel.config.vote)
    tally = _Tally(winners)
    judge_file(panel, tally.add, overwrite=overwrite)
    return Calibration(model=panel.models[0].label, judge=facts, outcomes=tally.outcomes, failed=tally.failed)


class _Tally:
    """Counts the outcomes of judged pairs."""

    def __init__(self, winners: Mapping[str, Label]) -> None:
        self._winners = winners
        self.outcomes = Outcomes()
        self.failed = 0

    def add(self, result: Mapping[str, Any]) -> None:
        """Counts one result, if its pair has a label."""
        better = self._winners.get(result["id"])
        if better and result["error"]:
            self.failed += 1
        elif better:
            self.outcomes[Outcome(better, result["verdict"], result["confidence"])] += 1
