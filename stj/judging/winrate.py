"""`stj winrate`: how often one system's answers are better than another's, by a judge.

The results are of pairs in which system A wrote response_a and system B response_b. The plain rate is the mean verdict: 1 for
A, 0 for B, a half for a tie. The judge's errors draw it towards a half; a calibration corrects it (correction.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.asked import without_nulls
from stj.evals.benchmarks.base import SourceRecord
from stj.evals.benchmarks.pairs import PAIRS
from stj.evals.benchmarks.recorded import wording_of
from stj.evals.benchmarks.recorded_verdicts import ReadAs, recorded_judgments
from stj.evals.benchmarks.unread import MOST_UNREAD, Readings, Survey
from stj.evals.intervals import Interval, mean_ci95
from stj.judging.calibration import Calibration
from stj.judging.correction import CorrectedRate, Rate, corrected
from stj.sources.dialogue import wrong_type
from stj.sources.directory import files_at
from stj.sources.files import not_empty, read_files
from stj.sources.records import Fields, Located
from stj.storage.artifacts import fingerprint

_FIELDS = Fields(
    required=("verdict",),
    optional=("id", "subset", "model", "prompt", "format", "judge", "error", "abstained", "votes"),
)
_REMEDY = "run `stj judge` with the judge's own prompt, vote.prompt=FILE vote.prompt_format={}"


@dataclass(frozen=True, kw_only=True)
class VerdictCounts:
    """The verdicts of one judge on the pairs of two systems."""

    a: int
    """Verdicts for A."""
    b: int
    ties: int
    failed: int
    """Pairs that could not be judged; they do not count."""
    warning: str | None = None
    """A line if many votes hold no verdict: such a vote makes a tie, or decides nothing."""

    @property
    def pairs(self) -> int:
        """Judged pairs."""
        return self.a + self.b + self.ties


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """How often A is better than B."""

    pairs: int
    wins: int
    ties: int
    losses: int
    failed: int
    rate: float
    """Share of the pairs that A wins by the judge's verdicts; a tie counts half."""
    ci95: Interval
    corrected: CorrectedRate | None
    """None without a calibration."""
    warning: str | None = None
    """A line if many votes hold no verdict."""

    def lines(self) -> Iterator[str]:
        """The win rate for a reader."""
        beside = f"; {self.failed:,} pairs could not be judged and do not count" if self.failed else ""
        yield f"A wins {self.wins:,}, loses {self.losses:,} and ties {self.ties:,} of {self.pairs:,} pairs{beside}"
        yield f"A's win rate by the judge's verdicts, a tie as half: {_percent(self.rate, self.ci95)}"
        if self.warning:
            yield f"warning: {self.warning}"
        if self.corrected:
            yield f"corrected for the judge's errors: {_percent(self.corrected.rate, self.corrected.ci95)}"
            yield (
                f"in the calibration's {self.corrected.calibration_pairs:,} pairs the judge prefers A in "
                f"{self.corrected.sensitivity:.1%} if A is better, and B in {self.corrected.specificity:.1%} if B is better"
            )


def win_rate(verdicts: VerdictCounts, calibration: Calibration | None) -> WinRate:
    """A's win rate. Raises ConfigError if the calibration cannot correct it; then there is no number."""
    plain = Rate((verdicts.a + verdicts.ties / 2) / verdicts.pairs, verdicts.pairs)
    scores = [1.0] * verdicts.a + [0.5] * verdicts.ties + [0.0] * verdicts.b
    return WinRate(
        pairs=verdicts.pairs,
        wins=verdicts.a,
        ties=verdicts.ties,
        losses=verdicts.b,
        failed=verdicts.failed,
        rate=plain.mean,
        ci95=mean_ci95(scores),
        corrected=corrected(plain, calibration.outcomes) if calibration else None,
        warning=verdicts.warning,
    )


def read_verdicts(location: str, calibration: Calibration | None) -> VerdictCounts:
    """The verdicts in a file that `stj judge` wrote.

    Raises SourceError if a line is no such result, if the judge abstained, if there is more than one judge, if the judge is not
    that of the calibration, or if most votes hold no verdict.
    """
    judges: dict[tuple[str, str, str], str] = {}
    counts: dict[str, int] = dict.fromkeys(("A", "B", "tie", "failed"), 0)
    seen: set[tuple[str, str]] = set()
    survey = Survey("distinct")
    for where, record in _records(location):
        judges.setdefault(_judge_of(record), where)
        if len(judges) > 1:
            raise SourceError(f"{where}: another judge than in {next(iter(judges.values()))}; give the results of one judge")
        if record.get("id") is not None:
            _refuse_twice(record, where, seen)
        counts[_kind(record, where)] += 1
        _survey_votes(survey, without_nulls(SourceRecord(where, location, record)))
    if not counts["A"] + counts["B"] + counts["tie"]:
        raise SourceError(f"{location}: no pair could be judged; each line says why in its 'error'")
    ((_, _, judge),) = judges
    if calibration:
        _check_calibrated(location, judge, calibration)
    return VerdictCounts(
        a=counts["A"], b=counts["B"], ties=counts["tie"], failed=counts["failed"], warning=_unread(location, survey.readings())
    )


def _survey_votes(survey: Survey, record: SourceRecord) -> None:
    """Reads the votes of a result again, because an unreadable vote and a tie are the same verdict there: none."""
    votes = [vote for order in recorded_judgments(record) for vote in order]
    read_as = ReadAs(wording=wording_of(record, PAIRS))
    survey.add(len(votes), [read_as.unread(vote) for vote in votes if read_as.verdict(vote, "distinct") is None])


def _unread(location: str, readings: Readings) -> str | None:
    """A warning if many votes hold no verdict. Raises SourceError if most of them do not."""
    if readings.share > MOST_UNREAD:
        raise SourceError(f"{location}: {readings.shortfall()}; {readings.hint(_REMEDY)}")
    return readings.warning("the votes", _REMEDY)


def _records(location: str) -> Iterator[Located]:
    return not_empty(read_files(files_at(location, "RESULTS").files, _FIELDS), f"{location}: holds no results")


def _refuse_twice(record: Mapping[str, Any], where: str, seen: set[tuple[str, str]]) -> None:
    key = (str(record.get("subset")), str(record["id"]))
    if key in seen:
        raise SourceError(f"{where}: field 'id' is {key[1][:60]!r}, which an earlier result has too; give each result once")
    seen.add(key)


def _judge_of(record: Mapping[str, Any]) -> tuple[str, str, str]:
    model, prompt, judge = (str(record.get(name) or "") for name in ("model", "prompt", "judge"))
    return model, prompt, judge


def _kind(record: Mapping[str, Any], where: str) -> str:
    if record.get("abstained"):
        raise SourceError(
            f"{where}: the judge abstained, and a win rate needs its verdict on every pair: run the same `stj judge` command "
            "without --risk and --calibration; it judges nothing twice"
        )
    if record.get("error"):
        return "failed"
    match record["verdict"]:
        case "A" | "B" as verdict:
            return str(verdict)
        case None | "":
            return "tie"
    raise wrong_type(record["verdict"], "verdict", "A, B or null", where)


def _check_calibrated(location: str | Path, judge: str, calibration: Calibration) -> None:
    if not judge:
        raise SourceError(
            f"{location}: its lines have no field 'judge', so nothing says that this calibration is of the same judge; run the "
            "same `stj judge` command again, which judges nothing twice"
        )
    if judge != fingerprint(calibration.judge):
        raise SourceError(
            f"{location}: judged by judge {judge}, and the calibration is of judge {fingerprint(calibration.judge)} "
            f"({calibration.model}, prompt {calibration.judge['vote']['prompt']}, votes {calibration.judge['vote']['votes']}); "
            "judge with these settings, or calibrate that judge"
        )


def _percent(rate: float, interval: Interval) -> str:
    return f"{100 * rate:.1f}% [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
