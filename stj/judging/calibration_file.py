"""A calibration as a file: small JSON that a person can read, with a digest of itself.

A file that is damaged or edited is refused. What follows from the outcomes (the curve, ECE, Brier) is in the file for readers
and for other programs. It is computed again from the outcomes, and must be the same.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stj.config import ModelConfig
from stj.errors import ConfigError
from stj.judging.calibration import Abstention, Calibration, Outcome, Outcomes
from stj.judging.identity import REMEDY, judge_facts, model_facts
from stj.judging.risk import RiskLimit
from stj.storage.artifacts import Key, differences
from stj.text import visible_line
from stj.use_config import VoteConfig

_FORMAT = 1
_LARGEST = 1 << 26  # bytes: 64 MiB hold more than 500,000 pairs with a confidence of their own each
_REMAKE = "make it again with `stj calibrate`"
_LABELS = ("A", "B")
_FIELDS = ("model", "judge", "failed", "outcomes", "digest")
_MOST_PAIRS = 10**12
_MOST_VOTES = 1000  # in each order, as in VoteConfig
_LONGEST_SHOWN = 60  # characters of a value in an error


def calibration_text(calibration: Calibration) -> str:
    """The text of a calibration's file."""
    values = _values(calibration)
    return json.dumps({**values, "digest": _digest(values)}, indent=1) + "\n"


def read_calibration(path: str | Path) -> Calibration:
    """The calibration in a file. Raises ConfigError, which names the field, if it cannot be read, is damaged, or was edited."""
    try:
        record = _record(str(path))
        calibration = _calibration(record)
        changed = differences(record, json.loads(calibration_text(calibration)))
    except _Damaged as damage:
        raise ConfigError(f"calibration {path}: {damage}; {_REMAKE}") from None
    except RecursionError:
        raise ConfigError(f"calibration {path}: JSON of too many levels; {_REMAKE}") from None
    if changed:
        raise ConfigError(f"calibration {path}: damaged or edited: {changed[0]} by its outcomes; {_REMAKE}")
    return calibration


def check_judge(calibration: Calibration, path: str | Path, facts: Key) -> None:
    """Raises ConfigError, which names what differs, if the calibration is not of the judge with these facts."""
    changed = sorted(differences(calibration.judge, facts), key=_rank)
    if changed:
        shown = "; ".join(changed[:3]) + (" and more" if len(changed) > 3 else "")
        raise ConfigError(f"calibration {path} is of another judge, {calibration.model}: {shown}; {REMEDY}")


def _rank(difference: str) -> int:
    """The settings that a user gives come first; votes change the sampling too, and a prompt its hashes."""
    return next((rank for rank, name in enumerate(("vote.decoding.", "prompts.")) if difference.startswith(name)), -1)


def read_abstention(
    path: str | Path | None, risk: float | None, confidence: float, model: ModelConfig, vote: VoteConfig
) -> Abstention | None:
    """When this judge abstains, by the calibration in a file; None if neither a file nor a risk is given.

    Raises ConfigError if only one of them is given, if a confidence is given without them, if the file is damaged or of another
    judge, or if it shows no confidence that keeps the risk.
    """
    if path is None and risk is None:
        if confidence != RiskLimit.confidence:
            raise ConfigError(
                f"confidence={confidence}: it is that of a risk; give a calibration and a risk too, or leave it out"
            )
        return None
    if path is None:
        raise ConfigError(f"risk={risk} needs a calibration of this judge: give the file that `stj calibrate` writes")
    if risk is None:
        raise ConfigError(f"calibration {path}: no risk is given; say how many of the answered pairs may be wrong, such as 0.1")
    limit = RiskLimit(risk=risk, confidence=confidence)
    calibration = read_calibration(path)
    check_judge(calibration, path, judge_facts(model_facts(model), vote))
    try:
        return calibration.abstention(limit)
    except ConfigError as error:
        raise ConfigError(f"calibration {path}: {error}") from None


def _values(calibration: Calibration) -> dict[str, Any]:
    curve = [{**point._asdict(), "right": point.right / point.pairs} for point in calibration.reliability]
    return {
        "format": _FORMAT,
        "model": calibration.model,
        "judge": calibration.judge,
        "pairs": calibration.pairs,
        "ties": calibration.ties,
        "failed": calibration.failed,
        "accuracy": calibration.accuracy,
        "ece": calibration.ece,
        "brier": calibration.brier,
        "reliability": curve,
        "outcomes": [{**outcome._asdict(), "pairs": count} for outcome, count in _sorted(calibration.outcomes)],
    }


def _sorted(outcomes: Outcomes) -> list[tuple[Outcome, int]]:
    return sorted(outcomes.items(), key=lambda item: (-item[0].confidence, item[0].better, item[0].verdict or ""))


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class _Damaged(Exception):
    """What is wrong with a file."""


def _record(path: str) -> dict[str, Any]:
    try:
        if not Path(path).is_file() and Path(path).exists():
            raise ConfigError(f"calibration {path}: not a file; name the file that `stj calibrate` wrote")
        if (size := os.stat(path).st_size) > _LARGEST:
            raise _Damaged(f"{size:,} bytes, and a calibration has at most {_LARGEST:,}")
        record = json.loads(Path(path).read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise ConfigError(f"calibration {path}: no such file; make one with `stj calibrate MODEL PAIRS --out {path}`") from None
    except OSError as error:
        raise ConfigError(f"calibration {path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # not UTF-8, not JSON, a number of 5,000 digits
        raise _Damaged(f"not JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(record, dict):
        raise _Damaged(f"a JSON {type(record).__name__}, and an object is needed")
    return record


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _calibration(record: dict[str, Any]) -> Calibration:
    """The calibration that a file's values describe. Raises _Damaged, which names the first wrong field."""
    if (version := record.get("format")) != _FORMAT:
        raise _Damaged(f"format is {_shown(version)}, and this version of stj reads {_FORMAT}")
    if missing := [name for name in _FIELDS if name not in record]:
        raise _Damaged(f"no field '{missing[0]}'")
    _need(isinstance(record["model"], str), record, "model", "a name")
    _need(_is_judge(record["judge"]), record, "judge", "the facts of a judge, with model, prompts, vote.prompt and vote.votes")
    _need(_is_count(record["failed"], 0), record, "failed", "a number of pairs, 0 or more")
    _need(isinstance(record["outcomes"], list) and bool(record["outcomes"]), record, "outcomes", "a list that is not empty")
    digest = _digest({name: value for name, value in record.items() if name != "digest"})
    outcomes: Outcomes = Counter()
    for place, values in enumerate(record["outcomes"]):
        where = f"outcomes[{place}]"
        outcome, count = _outcome(values, where)
        possible = can_have(outcome, record["judge"]["vote"])
        _need(possible, values, "confidence", f"a share of the judge's votes that gives the verdict {outcome.verdict}", where)
        outcomes[outcome] += count
    if digest != record["digest"]:
        raise _Damaged(f"was edited or damaged: its digest is {_shown(record['digest'])}, and its content gives {digest}")
    return Calibration(model=record["model"], judge=record["judge"], outcomes=outcomes, failed=record["failed"])


def _outcome(values: Any, where: str) -> tuple[Outcome, int]:
    if not isinstance(values, dict):
        raise _Damaged(f"{where} is {_shown(values)}: must be an object")
    better, verdict, confidence, pairs = (values.get(name) for name in ("better", "verdict", "confidence", "pairs"))
    _need(better in _LABELS, values, "better", "A or B", where)
    _need(verdict in (*_LABELS, None), values, "verdict", "A, B or null", where)
    is_number = type(confidence) in (int, float)
    _need(is_number and 0 <= confidence <= 1, values, "confidence", "a share from 0 to 1", where)  # type: ignore[operator]
    _need(_is_count(pairs, 1), values, "pairs", "a number of pairs, 1 or more", where)
    return Outcome(better, verdict, float(confidence)), pairs  # type: ignore[arg-type, return-value]


def can_have(outcome: Outcome, vote: Mapping[str, Any]) -> bool:
    """Whether a judge with these settings can have this verdict with this confidence."""
    verdict, confidence = outcome.verdict, outcome.confidence
    if vote.get("aggregate") == "distribution":
        return confidence >= 0.5 if verdict else confidence == 0.5
    asked = range(2, 2 * vote["votes"] + 1, 2)  # Votes that stop early are fewer.
    return (confidence > 0 if verdict else confidence <= 0.5) and any(
        round(confidence * votes) / votes == confidence for votes in asked
    )


def _need(right: bool, values: Mapping[str, Any], name: str, wanted: str, where: str = "") -> None:
    if not right:
        raise _Damaged(f"{where}{'.' if where else ''}{name} is {_shown(values.get(name))}: must be {wanted}")


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and least <= value <= _MOST_PAIRS


def _is_judge(judge: object) -> bool:
    """Whether a value holds what `judge_facts` gives, as far as calibrations use it."""
    if not isinstance(judge, dict) or not all(isinstance(judge.get(name), dict) for name in ("model", "prompts", "vote")):
        return False
    vote = judge["vote"]
    return isinstance(vote.get("prompt"), str) and _is_count(vote.get("votes"), 1) and vote["votes"] <= _MOST_VOTES


def _shown(value: object) -> str:
    text = visible_line(json.dumps(value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
