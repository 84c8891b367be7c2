"""The figures of a judge's held-out grades, against numpy and scipy, and what is not a grade."""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stj.config import Config
from stj.config_loader import load
from stj.errors import SourceError
from stj.loop.heldout_grades import HeldoutGrades, HeldoutGradesTally
from stj.rows import HELDOUT_GRADES, Grade, Row, Turn
from stj.sources.heldout_grades import read_heldout_grades

SCORES = st.none() | st.integers(1, 5)
MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"


def response(position: int, label: float, sampled: Sequence[int | None], greedy: int | None) -> Row:
    def grade(score: int | None, index: int, purpose: str) -> Grade:
        reason = "stop" if score else "length"
        return Grade(
            rubric="r", answer="response", index=index, asked="", text="", score=score, finish_reason=reason, output_tokens=1,
            purpose=purpose,  # type: ignore[arg-type]
        )  # fmt: skip

    grades = (*(grade(score, index, "sampled") for index, score in enumerate(sampled)), grade(greedy, 0, "greedy"))
    turns = (Turn(role="user", content=f"question {position // 2}"),)
    return Row(id=str(position), position=position, task=HELDOUT_GRADES, turns=turns, response="x", label=label, grades=grades)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(1, 5), SCORES, SCORES, SCORES), min_size=4, max_size=30), st.randoms(use_true_random=False)
)
def test_figures_are_means_over_samples_in_any_order_of_rows(
    rows: list[tuple[int, int | None, int | None, int | None]], rng
) -> None:  # type: ignore[no-untyped-def]
    made = [response(i, label, (a, b), greedy) for i, (label, a, b, greedy) in enumerate(rows)]
    tally = HeldoutGradesTally()
    for row in made:
        tally.add(row)
    scores = tally.scores()
    assert scores is not None
    labels = [row[0] for row in rows]
    exact = [np.mean([row[k] == row[0] for row in rows]) for k in (1, 2)]
    assert scores.sampled.exact == pytest.approx(np.mean(exact))
    assert scores.greedy is not None
    assert scores.greedy.exact == pytest.approx(np.mean([row[3] == row[0] for row in rows]))
    assert scores.constant == max(map(labels.count, labels)) / len(labels)
    assert scores.unparsed == scores.truncated == np.mean([row[k] is None for row in rows for k in (1, 2)])
    low, high = scores.sampled.exact_ci95
    assert 0 <= low <= high <= 1
    by_sample = [[(row[k], row[0]) for row in rows if row[k] is not None] for k in (1, 2)]
    if all(len(read) > 2 and len({s for s, _ in read}) > 1 and len({t for _, t in read}) > 1 for read in by_sample):
        rank = np.mean([stats.spearmanr(*zip(*read, strict=True)).statistic for read in by_sample])
        assert scores.sampled.spearman == pytest.approx(rank)
    else:
        assert scores.sampled.spearman is None
    rng.shuffle(made)
    again = HeldoutGradesTally()
    for row in made:
        again.add(row)
    assert again.scores() == scores


def tally_of(rows: Iterable[Row]) -> HeldoutGrades:
    tally = HeldoutGradesTally()
    for row in rows:
        tally.add(row)
    scores = tally.scores()
    assert scores is not None
    return scores


@pytest.mark.parametrize(("score", "exact"), [(3, 1.0), (None, 0.0)])
def test_few_responses_do_not_make_an_interval_of_one_point(score: int | None, exact: float) -> None:
    scores = tally_of([response(0, 3, (score, score), score)])
    assert (scores.sampled.exact, scores.sampled.spearman, scores.sampled.spearman_ci95) == (exact, None, None)
    low, high = scores.sampled.exact_ci95
    assert low <= exact <= high
    assert high - low > 0.5


def test_a_correlation_that_hangs_on_one_response_has_no_interval() -> None:
    """A third of the bootstrap samples lack that response, and have equal scores alone."""
    scores = tally_of([response(2 * i, 5 if i == 7 else 1, (5 if i == 7 else 1,), 1) for i in range(30)])
    assert scores.sampled.spearman == pytest.approx(1)
    assert scores.sampled.spearman_ci95 is None


def test_the_intervals_do_not_depend_on_how_many_resamples_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(0)
    rows = [response(i, chance.randint(1, 5), (chance.randint(1, 5),), chance.randint(1, 5)) for i in range(40)]
    whole = tally_of(rows)
    monkeypatch.setattr("stj.loop.heldout_grades._BLOCK", 40 * 7)
    assert tally_of(rows) == whole


def test_a_response_without_grades_is_counted_and_not_scored() -> None:
    tally = HeldoutGradesTally()
    tally.add(response(0, 5, (5,), 5))
    tally.add(Row(id="1", position=1, task=HELDOUT_GRADES, turns=(), response="", label=1.0).drop("empty_response"))
    scores = tally.scores()
    assert scores is not None
    assert (scores.responses, scores.ungraded, scores.sampled.exact) == (1, 1, 1.0)
    assert HeldoutGradesTally().scores() is None


def config_of(path: Path, *rows: dict[str, object]) -> Config:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load([MINI], [f"heldout.grades={path}", "grading.rubric=helpfulness"])


def test_held_out_responses_have_a_rubric_and_a_true_score(tmp_path: Path) -> None:
    file = tmp_path / "grades.jsonl"
    own = {"instruction": "q", "response": "a", "score": {"safety": 1}, "rubric": "safety"}
    plain = {"instruction": "q", "response": "b", "score": "4", "id": 7}
    first, second = read_heldout_grades(config_of(file, own, plain))
    assert (first.rubrics[0].name, first.label, first.task) == ("safety", 1.0, HELDOUT_GRADES)
    assert (second.rubrics[0].name, second.label, second.id) == ("helpfulness", 4.0, "heldout/grades/7")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": None}, "line 1: has no true score by helpfulness; give it as 'score'"),
        ({"score": 6}, "line 1: the true score is 6, off the scale 1-5 of helpfulness"),
        ({"score": {"safety": 1}}, "has no true score by helpfulness"),
        ({"response": None}, "response"),
    ],
)
def test_a_row_without_a_true_score_is_refused_with_its_line(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    file = tmp_path / "grades.jsonl"
    with pytest.raises(SourceError, match=message):
        list(read_heldout_grades(config_of(file, {"instruction": "q", "response": "a", "score": 3, **changes})))


def test_written_rubrics_leave_none_for_held_out_responses(tmp_path: Path) -> None:
    config = config_of(tmp_path / "grades.jsonl", {"instruction": "q", "response": "a", "score": 3})
    written = load([MINI], [f"heldout.grades={config.heldout.grades}", "grading.rubric=written"])
    with pytest.raises(SourceError, match=r"has no rubric, and grading\.rubric=written writes none for it"):
        list(read_heldout_grades(written))
