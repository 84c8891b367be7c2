"""`stj winrate`: the plain and the corrected rate, coverage by simulation, and results that cannot give a rate."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.errors import ConfigError, SourceError
from stj.judging.calibration import Calibration, Outcome, Outcomes
from stj.judging.calibration_file import calibration_text
from stj.judging.correction import Rate, corrected
from stj.judging.identity import judge_facts
from stj.judging.winrate import read_verdicts, win_rate
from stj.storage.artifacts import fingerprint
from stj.use_config import VoteConfig
from stj.verdict import Label

SIMULATED = 400
FACTS = judge_facts({"weights": "w"}, VoteConfig())


def outcomes_of(a: Sequence[int], b: Sequence[int] = ()) -> Outcomes:
    """Outcomes from right, tied and wrong verdicts where A is better, and where B is."""
    verdicts: dict[Label, tuple[Label | None, ...]] = {"A": ("A", None, "B"), "B": ("B", None, "A")}
    return Outcomes(
        {
            Outcome(better, verdict, 1.0 if verdict else 0.5): int(count)
            for better, counts in (("A", a), ("B", b))
            for verdict, count in zip(verdicts[better], counts, strict=False)  # type: ignore[index]
            if count
        }
    )


def lines(*verdicts: Any, **more: Any) -> str:
    rows = [
        {"id": f"r{i}", "model": "M", "prompt": "figure8", "verdict": v, "error": None, **more} for i, v in enumerate(verdicts)
    ]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def calibration(outcomes: Outcomes) -> Calibration:
    return Calibration(model="M", judge=FACTS, outcomes=outcomes)


def test_a_tie_counts_half_and_a_failed_pair_not_at_all(file: Path) -> None:
    file.write_text(
        lines("A", "A", None, "B") + '{"id": "f", "model": "M", "prompt": "figure8", "verdict": null, "error": "no"}\n'
    )
    rate = win_rate(read_verdicts(str(file), None), None)
    assert (rate.pairs, rate.wins, rate.ties, rate.losses, rate.failed, rate.rate) == (4, 2, 1, 1, 1, 0.625)
    assert rate.ci95[0] <= rate.rate <= rate.ci95[1]
    assert rate.corrected is None


def test_a_judge_without_errors_needs_no_correction() -> None:
    rate = corrected(Rate(0.7, 10_000), outcomes_of((10_000, 0, 0), (10_000, 0, 0)))
    assert rate.rate == pytest.approx(0.7)
    assert rate.ci95[1] - rate.ci95[0] < 0.03


def test_errors_draw_the_rate_to_a_half_and_the_correction_undoes_it() -> None:
    """A is better in 90% of the pairs. The judge finds it in 80% of them, and B in 70% of the others."""
    plain = 0.9 * 0.8 + 0.1 * 0.3
    rate = corrected(Rate(plain, 2_000), outcomes_of((800, 0, 200), (700, 0, 300)))
    assert rate.rate == pytest.approx(0.9)
    assert rate.ci95[0] < 0.9 < rate.ci95[1]
    assert (rate.sensitivity, rate.specificity) == (0.8, 0.7)


def test_pairs_of_one_label_give_one_rate_for_both() -> None:
    rate = corrected(Rate(0.5, 100), outcomes_of((80, 10, 10)))
    assert rate.sensitivity == rate.specificity == 0.85
    assert rate.rate == pytest.approx(0.5)


@pytest.mark.parametrize("counts", [(50, 0, 50), (52, 0, 48), (30, 40, 30), (10, 0, 90), (3, 0, 0)])
def test_a_judge_that_does_not_separate_gives_no_number(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="does not separate better from worse"):
        corrected(Rate(0.6, 500), outcomes_of(counts, counts))


def test_a_rate_that_the_judge_cannot_reach_gives_no_number() -> None:
    with pytest.raises(ConfigError, match="further from 50% than this judge can get"):
        corrected(Rate(1.0, 1000), outcomes_of((700, 0, 300), (700, 0, 300)))


@given(
    st.floats(0, 1),
    st.integers(1, 5000),
    st.tuples(*[st.integers(0, 300)] * 3).filter(any),
    st.tuples(*[st.integers(0, 300)] * 3).filter(any),
)
def test_a_corrected_rate_is_in_its_interval_and_mirrors_if_the_systems_change_places(
    mean: float, pairs: int, a: tuple[int, int, int], b: tuple[int, int, int]
) -> None:
    try:
        rate = corrected(Rate(mean, pairs), outcomes_of(a, b))
    except ConfigError:
        with pytest.raises(ConfigError):
            corrected(Rate(1 - mean, pairs), outcomes_of(b, a))
        return
    mirrored = corrected(Rate(1 - mean, pairs), outcomes_of(b, a))
    assert 0 <= rate.ci95[0] <= rate.rate <= rate.ci95[1] <= 1
    assert mirrored.rate == pytest.approx(1 - rate.rate)
    assert mirrored.ci95 == pytest.approx((1 - rate.ci95[1], 1 - rate.ci95[0]))


@pytest.mark.slow
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(("right", "tied"), [(0.95, 0.02), (0.75, 0.15)])
@pytest.mark.parametrize("truth", [0.02, 0.3, 0.5, 0.9])
def test_the_interval_holds_the_truth_in_93_of_100_simulations(truth: float, right: float, tied: float, pooled: bool) -> None:
    """Both the labelled pairs and the results are drawn anew: the interval must include the calibration's uncertainty."""
    random = np.random.default_rng([int(100 * truth), int(100 * right), pooled])
    chances = [right * (1 - tied), tied, (1 - right) * (1 - tied)]
    held, pairs, labelled = 0, 400, 150
    for _ in range(SIMULATED):
        first = labelled if pooled else int(random.binomial(labelled, 0.5))
        outcomes = outcomes_of(random.multinomial(first, chances), random.multinomial(labelled - first, chances))
        better = random.binomial(pairs, truth)
        won, lost = random.multinomial(better, chances), random.multinomial(pairs - better, chances)
        try:
            low, high = corrected(Rate((won[0] + lost[2] + (won[1] + lost[1]) / 2) / pairs, pairs), outcomes).ci95
        except ConfigError:  # No rate from 0 to 1 explains the results: a miss.
            continue
        held += low <= truth <= high
    assert held / SIMULATED >= 0.93


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no results"),
        ("{}\n", "no field 'verdict'"),
        (lines("C"), "field 'verdict'"),
        (lines("A", 3), "field 'verdict'"),
        (lines("tie"), "field 'verdict'"),
        (lines("A") + lines("B"), "give each result once"),
        (lines("A") + lines("B", id="other", prompt="arena"), "line 2: another judge than in"),
        (lines(None, abstained=True), "without --risk and --calibration; it judges nothing twice"),
        (lines(None, error="too long"), "no pair could be judged"),
        ("[1]\n", "one JSON object a line"),
        ("{", "not JSON"),
    ],
)
def test_results_that_give_no_rate_are_refused(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(SourceError, match=message):
        read_verdicts(str(file), None)


def test_results_of_another_judge_than_the_calibration_s_are_refused(file: Path) -> None:
    measured = calibration(outcomes_of((90, 0, 10), (90, 0, 10)))
    file.write_text(lines("A", "B"))
    with pytest.raises(SourceError, match=r"no field 'judge'.*run the same `stj judge` command again"):
        read_verdicts(str(file), measured)
    file.write_text(lines("A", "B", judge="0123456789abcdef"))
    with pytest.raises(SourceError, match="judged by judge 0123456789abcdef, and the calibration is of judge"):
        read_verdicts(str(file), measured)
    file.write_text(lines("A", "B", judge=fingerprint(FACTS)))
    assert read_verdicts(str(file), measured).pairs == 2


def votes(*texts: str) -> dict[str, Any]:
    return {"votes": [{"shown_first": "AB"[number % 2], "verdict": None, "text": text} for number, text in enumerate(texts)]}


def test_votes_without_a_verdict_are_no_ties(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A judge that writes another format than its prompt's ties every pair, and a win rate of 50% would mean nothing."""
    file.write_text(lines(*[None] * 20, **votes("[RESULT] A", "[RESULT] A")))
    assert main(["winrate", str(file)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "40 of 40 judgments hold no verdict in the format figure8" in printed.err
    assert "in the format prometheus" in printed.err
    assert "run `stj judge` with the judge's own prompt, vote.prompt=FILE vote.prompt_format=prometheus" in printed.err


def test_some_votes_without_a_verdict_are_warned_of(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unread = lines(None, None, **votes("Both are good.", "[[A]]")).replace('"r', '"unread ')
    file.write_text(lines(*["A"] * 8, **votes("[[A]]", "[[B]]")) + unread)
    assert main(["winrate", str(file)]) == 0
    assert "warning: the votes, distinct: 2 of 20 judgments hold no verdict" in capsys.readouterr().out
    assert main(["winrate", str(file), "--json"]) == 0
    assert "2 of 20" in json.loads(capsys.readouterr().out)["warning"]
    file.write_text(lines(*["A"] * 8, **votes("[[A]]", "[[B]]")))
    assert main(["winrate", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warning"] is None


def test_the_votes_of_results_are_those_of_stj_judge(file: Path) -> None:
    file.write_text(lines("A", votes=[{"text": "[[A]]"}]))
    with pytest.raises(SourceError, match=r"line 1: field 'votes'"):
        read_verdicts(str(file), None)


def test_the_results_of_a_jury_are_refused_as_such(file: Path) -> None:
    file.write_text(lines("A", judge="1") + lines("A", judge="2"))
    with pytest.raises(SourceError, match="give the results of one judge"):
        read_verdicts(str(file), None)


def test_the_command_prints_lines_or_json(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(lines(*["A"] * 60, *["B"] * 30, *[None] * 10, judge=fingerprint(FACTS)))
    made = tmp_path / "calibration.json"
    made.write_text(calibration_text(calibration(outcomes_of((90, 0, 10), (80, 10, 10)))))
    assert main(["winrate", str(file)]) == 0
    assert "corrected" not in capsys.readouterr().out
    assert main(["winrate", str(file), "--calibration", str(made)]) == 0
    shown = capsys.readouterr().out
    assert "A wins 60, loses 30 and ties 10 of 100 pairs" in shown
    assert "corrected for the judge's errors: 66.7% [" in shown  # (0.65 + 0.85 - 1) / (0.9 + 0.85 - 1)
    assert main(["winrate", str(file), "--calibration", str(made), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["rate"] == 0.65
    assert record["corrected"]["rate"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("words", [["nowhere.jsonl"], ["--calibration", "none.json"]])
def test_what_is_missing_is_one_line(file: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(lines("A"))
    assert main(["winrate", *([str(file)] if words[0].startswith("--") else []), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
