"""Pairs near the boundary: by bounds, by lot, by this iteration's samples or the last one's, and a curriculum. No engine."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.disagreement import DisagreementConfig
from stj.errors import ConfigError
from stj.loop.boundary import Boundary
from stj.loop.pair_draws import PairDraws, RightOf
from stj.loop.phases import Run
from stj.plan.assumptions import has_rule
from stj.rows import Example
from stj.storage.artifacts import differences
from tests.loop.test_examples import judged, run_of, selected, write
from tests.loop.test_mixing import key_of

ALL = "judge.sampling=all"
OUTCOMES = ["++++", "+++-", "++--", "+---", "----", "-?+?", "?+++", "++-+"]


def share_of(example: Example) -> float:
    return OUTCOMES[int(example.id[-3:]) % len(OUTCOMES)].count("+") / 4


def chosen(tmp_path: Path, *words: str, count: int = 320) -> tuple[Run, list[Example]]:
    run = run_of(tmp_path, ALL, "judge.samples=4", *words)
    rows = [judged(number, OUTCOMES[number % len(OUTCOMES)]) for number in range(count)]
    random.Random(0).shuffle(rows)
    write(run.phases[0], rows)
    return run, selected(run, "iteration_1/examples")


@pytest.mark.slow
def test_only_pairs_within_the_bounds_are_learned_and_the_others_are_counted(tmp_path: Path) -> None:
    run, examples = chosen(tmp_path, "select.disagreement={low: 0.5, high: 0.75}")
    assert set(map(share_of, examples)) == {0.5, 0.75}
    dropped = run.iterations[0].examples.artifact.manifest()["judged"]["dropped"]
    assert dropped == {"too_easy": 40, "too_hard": 80, "no_correct_judgment": 40}
    winners = Counter(example.winner for example in examples)
    assert winners["A"] == winners["B"] > 50
    assert all(example.difficulty is None for example in examples)


@pytest.mark.slow
def test_a_lot_keeps_more_of_the_pairs_nearer_to_one_half(tmp_path: Path) -> None:
    _, examples = chosen(tmp_path, "select.disagreement.weighted=true", count=960)
    kept = Counter(map(share_of, examples))
    assert kept[0.5] > kept[1.0] > 0  # 120 pairs each, before labels are balanced
    assert kept[0.5] > 80
    assert kept[1.0] < 70
    again = chosen(tmp_path / "again", "select.disagreement.weighted=true", count=960)[1]
    assert again == examples


def test_a_curriculum_says_how_hard_each_example_is(tmp_path: Path) -> None:
    _, examples = chosen(tmp_path, "select.disagreement.order=easy_first")
    assert all(example.difficulty == pytest.approx(1 - share_of(example)) for example in examples)


def test_the_last_iteration_s_samples_choose_in_the_next_one(tmp_path: Path) -> None:
    run = run_of(tmp_path, "iterations=2", "select.disagreement={draws: last, high: 0.9}")
    earlier = [judged(number, "+" if number % 2 else "-+") for number in range(200)]
    write(run.phases[0], earlier)
    assert {int(example.id[-3:]) % 2 for example in selected(run, "iteration_1/examples")} == {0, 1}  # it has no earlier ones
    later = next(phase for phase in run.phases if phase.name == "iteration_2/judged")
    write(later, [judged(number, "+", "M_1") for number in range(0, 201)])
    examples = selected(run, "iteration_2/examples")
    assert all("M_1 says" in example.completion for example in examples)
    learned = {int(example.id[-3:]) for example in examples}
    assert len(learned) > 60
    assert all(number % 2 == 0 for number in learned)  # row 200 was not judged before, and may stay
    assert run.iterations[1].examples.artifact.manifest()["judged"]["dropped"] == {"too_easy": 100}


@given(st.dictionaries(st.text(), st.tuples(st.integers(0, 20), st.integers(1, 20)).map(sorted), max_size=30), st.text())
def test_earlier_samples_are_those_of_their_row(counts: dict[str, list[int]], other: str) -> None:
    rows = [replace(judged(0, "+" * right + "-" * (samples - right)), id=row_id) for row_id, (right, samples) in counts.items()]
    earlier = PairDraws(rows)
    for row_id, (right, samples) in counts.items():
        assert earlier.of(row_id) == RightOf(right, samples)
    assert other in counts or earlier.of(other) is None


@given(st.text("+-?", min_size=1, max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_bounds_include_their_ends_and_a_pair_without_samples_stays(outcome: str, first: float, second: float) -> None:
    low, high = min(first, second), max(first, second)
    if not high or (low, high) == (0, 1):
        return
    boundary = Boundary(DisagreementConfig(low=low, high=high), 0, None)
    share = outcome.count("+") / len(outcome)
    reason = "too_hard" if share < low else "too_easy" if share > high else None
    assert boundary.rejects(judged(0, outcome)) == reason
    assert boundary.rejects(judged(0, "")) is None


@pytest.mark.slow
def test_it_makes_only_the_examples_stale_and_is_no_rule_of_instructions(tmp_path: Path) -> None:
    plain = run_of(tmp_path, ALL)
    bounded = run_of(tmp_path, ALL, "select.disagreement.high=0.9")
    assert "disagreement" not in json.dumps([key_of(plain, "pairs"), key_of(plain, "iteration_1/examples")])
    assert not differences(key_of(plain, "pairs"), key_of(bounded, "pairs"))
    assert differences(key_of(plain, "iteration_1/examples"), key_of(bounded, "iteration_1/examples"))
    assert has_rule(bounded.config.select) == has_rule(plain.config.select)


def test_samples_of_the_iteration_before_make_nothing_of_the_first_one_stale(tmp_path: Path) -> None:
    plain = run_of(tmp_path, "iterations=2")
    bounded = run_of(tmp_path, "iterations=2", "select.disagreement={draws: last, low: 0.2}")
    for name in ("iteration_1/examples", "iteration_1/model"):
        assert not differences(key_of(plain, name), key_of(bounded, name)), name
    assert differences(key_of(plain, "iteration_2/examples"), key_of(bounded, "iteration_2/examples"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("select.disagreement={}",), "keeps every pair in random order"),
        (("select.disagreement={low: 0.9, high: 0.1}",), "low at most high"),
        (("select.disagreement={low: .nan}",), "low"),
        (("select.disagreement.high=0",), "raise high"),
        (("select.disagreement.high=20",), "shares must be 0 to 1"),
        (("select.disagreement.high=0.9", "judge.sampling=first_correct"), "judge.sampling=first_correct stops before"),
        (("select.disagreement.high=0.9", "judge.samples=1"), "shares of 0 and 1 alone"),
        (("select.disagreement={high: 0.9, draws: last}",), "iterations=1 has no iteration before"),
        (("select.disagreement.high=0.9", "judge.keep=random"), "judge.keep=random"),
        (("select.disagreement.high=0.9", "judge.task=absolute"), "compares no pairs"),
        (("select.disagreement.hihg=0.9",), "hihg"),
    ],
)
def test_what_gives_no_share_is_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(tmp_path, ALL, *words)
