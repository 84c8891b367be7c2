"""`stj calibrate`: judges labelled pairs as `stj judge` does, and keeps how often each confidence was right."""

from stj.errors import SourceError
from stj.judging.calibration import Calibration, Outcome, Outcomes
from stj.judging.identity import judge_facts, model_facts
from stj.judging.judge_file import Panel, judge_file, judged_pairs
from stj.sources.responses import read_winners


def calibrate(panel: Panel, *, overwrite: bool = False) -> Calibration:
    """Calibrates the only judge of a panel on the pairs of its file that have a label.

    Pairs that `stj judge` has judged under the same run_root are not judged again. Raises SourceError if no pair has a label,
    and the errors of `judge_file`.
    """
    winners = {row_id: winner for row_id, winner in read_winners(panel.file, panel.config.fields).items() if winner}
    if not winners:
        raise SourceError(
            f"{panel.file}: no pair names its better response; a calibration needs 'label', 'chosen' and 'rejected', or a "
            "'winner' that no judge wrote"
        )
    facts = judge_facts(model_facts(panel.models[0]), panel.config.vote)
    judge_file(panel, lambda _: None, overwrite=overwrite)
    outcomes, failed = Outcomes(), 0
    for row_id, result in judged_pairs(panel):
        if row_id in winners:
            failed += result.error is not None
            if result.error is None:
                outcomes[Outcome(winners[row_id], result.verdict, result.confidence)] += 1
    return Calibration(model=panel.models[0].label, judge=facts, outcomes=outcomes, failed=failed)
