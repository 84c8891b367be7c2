"""A calibration: its curve and scores, its file, and everything that may be wrong with a file."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stj.config import ModelConfig
from stj.errors import ConfigError
from stj.judging.calibration import Abstention, AnsweredTally, Calibration, Outcome, Outcomes
from stj.judging.calibration_file import calibration_text, can_have, check_judge, read_abstention, read_calibration
from stj.judging.identity import judge_facts, model_facts
from stj.judging.risk import RiskLimit
from stj.stages.vote import PairVerdict, Vote
from stj.storage.artifacts import plain
from stj.use_config import VoteConfig

SEED_MODEL = "package://mini/seed_model"
JUDGE = judge_facts({"weights": "w"}, VoteConfig(votes=2))
OUTCOMES = {
    Outcome("A", "A", 1.0): 60,
    Outcome("B", "A", 1.0): 2,
    Outcome("B", "B", 0.75): 30,
    Outcome("A", "B", 0.75): 10,
    Outcome("A", None, 0.5): 7,
}
labels = st.sampled_from(["A", "B"])
verdicts = st.one_of(
    st.tuples(labels, st.sampled_from([0.25, 0.5, 0.75, 1.0])), st.tuples(st.none(), st.sampled_from([0.0, 0.25, 0.5]))
)
any_outcome = st.builds(lambda better, verdict: Outcome(better, *verdict), labels, verdicts)


def calibration(outcomes: dict[Outcome, int] = OUTCOMES, **more: Any) -> Calibration:
    return Calibration(**{"model": "M", "judge": JUDGE, "outcomes": Outcomes(outcomes), **more})


def test_the_curve_and_the_scores_are_over_pairs_with_a_verdict() -> None:
    measured = calibration()
    assert (measured.pairs, measured.ties) == (109, 7)
    assert [(point.low, point.pairs, point.right, point.confidence) for point in measured.reliability] == [
        (0.7, 40, 30, 0.75),
        (0.9, 62, 60, 1.0),
    ]
    assert measured.accuracy == pytest.approx(90 / 102)
    assert measured.ece == pytest.approx(62 / 102 * (2 / 62))
    assert measured.brier == pytest.approx((2 + 30 * 0.25**2 + 10 * 0.75**2) / 102)


@given(st.dictionaries(any_outcome, st.integers(1, 50), max_size=20))
def test_scores_are_shares_and_the_curve_holds_every_verdict(outcomes: dict[Outcome, int]) -> None:
    measured = calibration(outcomes)
    decided = sum(count for outcome, count in outcomes.items() if outcome.verdict)
    assert sum(point.pairs for point in measured.reliability) == decided == measured.pairs - measured.ties
    assert all(point.low <= point.confidence <= point.high for point in measured.reliability)
    for score in (measured.ece, measured.brier, measured.accuracy):
        assert (score is None) == (decided == 0)
        assert score is None or 0 <= score <= 1
    assert measured.answers()[-1].pairs <= decided


def test_a_judge_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    exact = calibration({Outcome("A", "A", 0.75): 75, Outcome("A", "B", 0.75): 25, Outcome("B", "B", 1.0): 40})
    assert exact.ece == 0
    assert exact.brier == pytest.approx(100 * 0.75 * 0.25 / 140)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(any_outcome, st.integers(1, 50), min_size=1, max_size=20), st.integers(0, 9))
def test_what_is_written_is_read(tmp_path: Path, outcomes: dict[Outcome, int], failed: int) -> None:
    file = tmp_path / "calibration.json"
    written = calibration(outcomes, failed=failed, model="mödel\u202e")
    file.write_text(calibration_text(written), encoding="utf-8")
    assert read_calibration(file) == written


def change(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(record: dict[str, Any]) -> None:
        record[name] = value

    return edit


def change_outcome(**values: Any) -> Callable[[dict[str, Any]], None]:
    def edit(record: dict[str, Any]) -> None:
        record["outcomes"][0].update(values)

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("format", 2), "format is 2, and this version of stj reads 1"),
        (change("format", None), "format is null"),
        (change("ece", 0.0), "digest"),
        (change("failed", -1), "failed is -1: must be a number of pairs"),
        (change("failed", True), "failed is true"),
        (change("model", 3), "model is 3: must be a name"),
        (change("judge", {}), "judge is {}: must be the facts of a judge"),
        (change("judge", {"vote": {"votes": -2}}), "judge is"),
        (change("judge", {"vote": {"votes": "8"}}), "judge is"),
        (change("judge", {"vote": {"votes": 2}}), "judge is"),
        (change("judge", {**JUDGE, "vote": {**JUDGE["vote"], "votes": 10**9}}), "judge is"),
        (change("judge", {**JUDGE, "vote": {**JUDGE["vote"], "prompt": None}}), "judge is"),
        (change("judge", {**JUDGE, "model": None}), "judge is"),
        (change("judge", {**JUDGE, "prompts": ["x"]}), "judge is"),
        (change_outcome(confidence=0.9), r"outcomes\[0\].confidence is 0.9: must be a share of the judge's votes"),
        (change_outcome(confidence=0), r"outcomes\[0\].confidence is 0: must be"),
        (change_outcome(confidence=1.0, verdict=None), r"outcomes\[0\].confidence is 1.0: must be"),
        (change("outcomes", []), r"outcomes is \[\]: must be a list that is not empty"),
        (change("outcomes", {"a": 1}), "outcomes is"),
        (change("outcomes", ["x"]), r'outcomes\[0\] is "x": must be an object'),
        (change("digest", "0" * 64), "its digest is"),
        (change("more", 1), "digest"),
        (lambda record: record.pop("digest"), "no field 'digest'"),
        (lambda record: record.pop("outcomes"), "no field 'outcomes'"),
        (lambda record: record["outcomes"].pop(), "digest"),
        (change_outcome(confidence=1.5), r"outcomes\[0\].confidence is 1.5: must be a share from 0 to 1"),
        (change_outcome(confidence="1.0"), "confidence"),
        (change_outcome(confidence=math.nan), "NaN is not a number of JSON"),
        (change_outcome(confidence=math.inf), "Infinity is not a number of JSON"),
        (change_outcome(confidence=None), "confidence is null"),
        (change_outcome(pairs=-5), r"outcomes\[0\].pairs is -5"),
        (change_outcome(pairs=0), "pairs is 0"),
        (change_outcome(pairs=2.5), "pairs is 2.5"),
        (change_outcome(pairs=10**400), "pairs is 1000"),
        (change_outcome(better=None), "better is null: must be A or B"),
        (change_outcome(better=["A"]), "better is"),
        (change_outcome(verdict="C"), 'verdict is "C": must be A, B or null'),
    ],
)
def test_a_file_that_was_edited_is_refused_by_the_field(tmp_path: Path, edit: Callable[[Any], object], message: str) -> None:
    record = json.loads(calibration_text(calibration()))
    edit(record)
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=message) as refused:
        read_calibration(file)
    assert str(refused.value).startswith(f"calibration {file}: ")
    assert "make it again with `stj calibrate`" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@given(st.integers(1, 8), st.data())
def test_every_confidence_that_votes_can_have_is_read(votes: int, data: st.DataObject) -> None:
    """Also of votes that stopped early, and of pairs with unreadable votes."""
    rounds = data.draw(st.integers(1, votes))
    cast = data.draw(st.lists(st.sampled_from(["A", "B", None]), min_size=2 * rounds, max_size=2 * rounds))
    result = PairVerdict(votes=tuple(Vote(shown_first="A", verdict=verdict, text="") for verdict in cast))
    assert can_have(Outcome("A", result.verdict, result.confidence), {"votes": votes})


@given(st.lists(st.none() | st.floats(0, 1), min_size=2, max_size=8))
def test_every_mean_of_probabilities_is_read(probabilities: list[float | None]) -> None:
    cast = tuple(Vote(shown_first="A", verdict=None, text="", probability=p) for p in probabilities)
    result = PairVerdict(votes=cast, aggregate="distribution")
    assert can_have(Outcome("A", result.verdict, result.confidence), {"votes": 4, "aggregate": "distribution"})


def test_a_number_that_its_outcomes_do_not_give_is_refused_with_a_digest_that_fits(tmp_path: Path) -> None:
    """The digest finds damage. The curve is checked against the outcomes, so a new digest does not make it true."""
    from stj.judging import calibration_file

    record = json.loads(calibration_text(calibration()))
    record["brier"] = 0.001
    del record["digest"]
    record["digest"] = calibration_file._digest(record)
    (tmp_path / "c.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"brier: 0\.001 -> 0\.09"):
        read_calibration(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 200_000, "JSON of too many levels|not JSON"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "JSON of too many levels|not JSON|format is"),
        (b"1" * 6_000, "not JSON|a JSON int"),
        (b"[1, 2]", "a JSON list, and an object is needed"),
        (b"null", "a JSON NoneType"),
        (b'{"id": "a", "verdict": "A"}\n{"id": "b", "verdict": "B"}\n', "not JSON"),
        (b'{"format": 1}', "no field 'model'"),
        (b'{"format": 1.0e999}', "format is Infinity"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_calibration(tmp_path / "c.json")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_that_is_cut_or_has_another_byte_is_refused_or_the_same(tmp_path: Path, data: st.DataObject) -> None:
    whole = calibration_text(calibration()).encode()
    place = data.draw(st.integers(0, len(whole) - 3))
    other = data.draw(st.sampled_from([whole[:place], whole[:place] + data.draw(st.binary(max_size=3)) + whole[place + 1 :]]))
    (tmp_path / "c.json").write_bytes(other)
    try:
        read = read_calibration(tmp_path / "c.json")
    except ConfigError:
        return
    assert read == calibration()


def test_a_missing_file_a_directory_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; make one with `stj calibrate"):
        read_calibration(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="not a file"):
        read_calibration(tmp_path)
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(ConfigError, match="17,179,869,184 bytes, and a calibration has at most"):
        read_calibration(tmp_path / "huge.json")


@pytest.mark.parametrize(
    ("vote", "message"),
    [
        (VoteConfig(votes=3), "vote.votes: 2 -> 3"),
        (VoteConfig(votes=2, parser="strict"), 'vote.parser: "distinct" -> "strict"'),
        (VoteConfig(votes=2, prompt="arena"), 'vote.prompt: "figure8" -> "arena"'),
    ],
)
def test_a_calibration_of_another_judge_is_refused_by_what_differs(vote: VoteConfig, message: str) -> None:
    check_judge(calibration(), "c.json", judge_facts({"weights": "w"}, VoteConfig(votes=2)))
    with pytest.raises(ConfigError, match=r"calibration c\.json is of another judge, M: ") as refused:
        check_judge(calibration(), "c.json", judge_facts({"weights": "w"}, vote))
    assert message in str(refused.value)
    with pytest.raises(ConfigError, match=r"model\.weights"):
        check_judge(calibration(), "c.json", judge_facts({"weights": "v"}, VoteConfig(votes=2)))


def test_the_setting_that_a_user_gave_comes_before_what_follows_from_it() -> None:
    greedy = calibration(judge=judge_facts({"weights": "w"}, VoteConfig()))
    with pytest.raises(
        ConfigError, match=r"another judge, M: vote\.stop: nothing -> \"exact\"; vote\.votes: 1 -> 4; vote\.decoding"
    ):
        check_judge(greedy, "c.json", judge_facts({"weights": "w"}, VoteConfig(votes=4)))


def test_a_greedy_judge_is_the_same_at_every_temperature() -> None:
    hot, cold = (VoteConfig(decoding=plain_sampling(temperature)) for temperature in (1.0, 0.1))
    assert judge_facts({}, hot) == judge_facts({}, cold)


def plain_sampling(temperature: float) -> Any:
    from stj.generate import Sampling

    return Sampling(temperature=temperature, max_tokens=9)


def test_both_a_file_and_a_risk_are_needed(tmp_path: Path) -> None:
    model, vote = ModelConfig(path=SEED_MODEL), VoteConfig()
    assert read_abstention(None, None, 0.9, model, vote) is None
    with pytest.raises(ConfigError, match=r"confidence=0\.99: it is that of a risk"):
        read_abstention(None, None, 0.99, model, vote)
    with pytest.raises(ConfigError, match=r"risk=0\.1 needs a calibration"):
        read_abstention(None, 0.1, 0.9, model, vote)
    with pytest.raises(ConfigError, match="no risk is given"):
        read_abstention(tmp_path / "c.json", None, 0.9, model, vote)


def test_too_few_pairs_and_too_many_errors_are_said_at_once() -> None:
    few = calibration({Outcome("A", "A", 1.0): 10})
    with pytest.raises(ConfigError, match=r"it has 10 pairs with a verdict, and at least 40 are needed, all of them right"):
        few.abstention(RiskLimit(risk=0.1))
    bad = calibration({Outcome("A", "A", 1.0): 600, Outcome("A", "B", 1.0): 400})
    with pytest.raises(
        ConfigError, match=r"errs too often on its 1,000 pairs with a verdict.*; the lowest risk it keeps is 0\.4"
    ):
        bad.abstention(RiskLimit(risk=0.1))
    nothing = calibration({Outcome("A", None, 0.5): 40})
    with pytest.raises(ConfigError, match="it has 0 pairs with a verdict"):
        nothing.abstention(RiskLimit(risk=0.1))
    assert "this judge answers nothing" in " ".join(map(str, nothing.summary()))


@given(st.lists(st.sampled_from(["A", "B", None]), max_size=12), st.floats(0.01, 1))
def test_a_judge_that_abstains_keeps_votes_and_confidence_and_a_tie_is_no_answer(verdicts: list[Any], threshold: float) -> None:
    result = PairVerdict(votes=tuple(Vote(shown_first="A", verdict=verdict, text="") for verdict in verdicts))
    applied = Abstention(threshold=threshold, limit=RiskLimit(risk=0.1)).applied(result)
    assert (applied.verdict is None) == applied.abstained
    assert applied.verdict in (None, result.verdict)
    assert applied.abstained == (result.verdict is None or result.confidence < threshold)
    assert (applied.votes, applied.confidence, applied.reward) == (result.votes, result.confidence, result.reward)
    assert applied.plain()["abstained"] == applied.abstained
    assert "abstained" not in result.plain()


def test_the_answered_pairs_are_counted() -> None:
    tally = AnsweredTally(Abstention(threshold=0.75, limit=RiskLimit(risk=0.1)))
    for verdict, reward, error in [("A", 1.0, None), (None, 0.2, None), (None, 0.0, None), (None, 0.0, "too long")]:
        tally.add({"verdict": verdict, "reward": reward, "error": error})
    assert list(tally.summary()) == [
        "answered 1 of 4 pairs, abstained on 3: 1 below confidence 0.75, 1 ties, 1 not judged",
        "in the long run at most 10% of the answers are wrong, 90% sure, on pairs like the calibration's",
    ]
    assert list(AnsweredTally(None).summary()) == []
    fine = AnsweredTally(Abstention(threshold=0.75, limit=RiskLimit(risk=0.125, confidence=0.995)))
    assert "at most 12.5% of the answers are wrong, 99.5% sure" in list(fine.summary())[1]


def test_the_facts_of_a_model_do_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    import shutil

    from stj.package_files import package_path

    shutil.copytree(package_path(SEED_MODEL), tmp_path / "copy")
    assert model_facts(ModelConfig(path=SEED_MODEL)) == model_facts(ModelConfig(path=str(tmp_path / "copy")))


def test_facts_are_plain_json() -> None:
    assert plain(JUDGE) == JUDGE
