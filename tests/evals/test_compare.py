"""Two evaluations in pairs: McNemar's exact p and the paired bootstrap, by hand and by property."""

import json
from collections.abc import Sequence
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.evals.benchmarks.evaluation import SCORES, read_scores
from stj.evals.compare import compare_evaluations, mcnemar_p
from stj.evals.table import points
from stj.rows import Judgment, Pair, Row, Turn, rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.storage.sealed import write_sealed

SUBSETS = {"pairs": "all", "rmbench": "chat/hard", "mtbench": "turn 1/writing"}


def evaluation(folder: Path, right: str, data: Path, *, task: str = "pairs", ids: Sequence[str] = (), answer: str = "a") -> str:
    """An evaluation with one character for each pair: 2 is right in both orders, 1 in the first alone, 0 in none."""
    artifact = Artifact(Folder.at(folder), {"step": "eval"})
    artifact.begin()
    rows = []
    for number, correct in enumerate(map(int, right)):
        verdicts = (("A", "A" if correct else "B"), ("B", "B" if correct == 2 else "A"))
        judgments = tuple(
            Judgment(purpose="greedy", winner=winner, index=0, text="", verdict=verdict, finish_reason="stop", output_tokens=1)  # type: ignore[arg-type]
            for winner, verdict in verdicts
        )
        pair = Pair(method="given", chosen=answer, rejected="b")
        turns = (Turn(role="user", content="?"),)
        row_id = f"{task}/{ids[number] if ids else number}"
        rows.append(
            Row(id=row_id, position=number, task=task, subset=SUBSETS[task], turns=turns, pair=pair, judgments=judgments)
        )
    artifact.write_part("part", rows_to_table(rows))
    artifact.finish()
    write_sealed(artifact.folder, SCORES, {"votes": 1, "benchmarks": [f"{task}:{data}"], "scores": {}, "parser": "strict"})
    return str(folder)


@pytest.mark.slow
def test_a_case_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten shared pairs: A alone right on one, B alone on five; accuracies 50% and 75%."""
    data = tmp_path / "pairs.jsonl"
    data.touch()
    run_a = evaluation(tmp_path / "a", "2211110022", data)
    run_b = evaluation(tmp_path / "b", "22222200022"[:10], data)
    [comparison] = compare_evaluations(run_a, run_b)
    assert (comparison.benchmark, comparison.examples) == ("pairs", 10)
    assert (comparison.only_a, comparison.only_b) == (1, 4)
    assert comparison.mcnemar_p == pytest.approx(2 * (comb(5, 0) + comb(5, 1)) / 2**5)
    assert comparison.difference == pytest.approx(comparison.accuracy_b - comparison.accuracy_a)
    assert comparison.ci95[0] <= comparison.difference <= comparison.ci95[1]
    assert main(["compare", run_a, run_b, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["only_b"] == 4
    assert main(["compare", run_a, run_a]) == 0
    shown = capsys.readouterr().out
    assert "difference +0.0 [-27.1, +27.1] points on 10 examples" in shown
    assert "pairs: too few to tell: only a difference above 27.1 points would show" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right_a", "right_b", "conclusion"),
    [
        ("0" * 20, "2" * 20, "B is better"),
        ("2" * 20, "0" * 20, "A is better"),
        ("2" * 400, "2" * 399 + "1", "no difference of 2 points or more"),
        ("02" * 20, "20" * 20, "too few to tell"),
    ],
)
def test_the_conclusion_is_that_of_the_interval(right_a: str, right_b: str, conclusion: str, tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.touch()
    run_a, run_b = (evaluation(tmp_path / name, right, data) for name, right in (("a", right_a), ("b", right_b)))
    [comparison] = compare_evaluations(run_a, run_b)
    assert comparison.conclusion.startswith(conclusion)


def test_the_same_id_of_another_file_is_another_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "pairs.jsonl"
    data.touch()
    run_a, run_b = (evaluation(tmp_path / answer, "21", data, answer=answer) for answer in ("a", "other"))
    assert main(["compare", run_a, run_b]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "pairs/0 has another instruction or other answers" in line


def test_dependent_examples_are_one_coin(tmp_path: Path) -> None:
    """Two items of RM-Bench with three comparisons: on one, B gets all right and A none; on the other, both are equal."""
    data = tmp_path / "rmbench.jsonl"
    data.touch()
    ids = [f"chat/{item}/0-{place}" for item in (1, 2) for place in range(3)]
    run_a, run_b = (
        evaluation(tmp_path / name, right, data, task="rmbench", ids=ids) for name, right in (("a", "000222"), ("b", "222222"))
    )
    [comparison] = compare_evaluations(run_a, run_b)
    assert (comparison.examples, comparison.units, comparison.only_a, comparison.only_b) == (6, 2, 0, 1)
    assert (comparison.difference, comparison.ci95, comparison.mcnemar_p) == (0.5, (-1.0, 1.0), 1.0)


def test_a_pair_of_mtbench_counts_once_with_any_number_of_votes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two pairs on two questions; the first has three votes, one of them a tie, which the overall setting leaves out."""
    votes = [(81, "model_a"), (81, "model_a"), (81, "tie"), (82, "model_a")]
    file = tmp_path / "human.jsonl"
    vote = {"model_a": "alpaca", "model_b": "vicuna", "turn": 1, "judge": "expert_1"}
    file.write_text("".join(json.dumps({**vote, "question_id": number, "winner": winner}) + "\n" for number, winner in votes))
    ids = [f"{question}/alpaca/vicuna/1" for question in (81, 82)]
    run_a, run_b = (
        evaluation(tmp_path / name, right, file, task="mtbench", ids=ids) for name, right in (("a", "20"), ("b", "22"))
    )
    [comparison] = compare_evaluations(run_a, run_b)
    assert (comparison.examples, comparison.units, comparison.accuracy_a, comparison.accuracy_b, comparison.only_b) == (
        2,
        2,
        0.5,
        1.0,
        1,
    )
    assert main(["compare", run_a, run_b]) == 0
    assert "on 2 examples" in capsys.readouterr().out


def test_runs_that_were_read_by_different_parsers_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of an older stj names no parser: it had only `strict`."""
    data = tmp_path / "pairs.jsonl"
    data.touch()
    old, strict, distinct = (evaluation(tmp_path / name, "21", data) for name in ("old", "strict", "distinct"))
    for name in ("strict", "distinct"):
        folder = Folder.at(tmp_path / name)
        write_sealed(folder, SCORES, {**read_scores(folder), "parser": name})
    assert main(["compare", old, strict]) == 0
    assert main(["compare", strict, distinct]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "judge.parser=strict" in line
    assert "judge.parser=distinct" in line


def test_runs_that_cannot_be_compared_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = evaluation(tmp_path / "a", "21", tmp_path / "x.jsonl")
    (tmp_path / "b").mkdir()
    assert main(["compare", run, str(tmp_path / "nowhere")]) == 2
    assert main(["compare", run, str(tmp_path / "b")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"votes": 1, "benchmarks": [3], "scores": {}}',
        '{"votes": 1, "benchmarks": [], "scores": {}, "parser": 3}',
        "[" * 100_000,
        '{"votes": ' + "9" * 5_000 + "}",
    ],
)
def test_a_damaged_scores_file_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = evaluation(tmp_path / "a", "21", tmp_path / "x.jsonl")
    (tmp_path / "a" / SCORES).write_text(text)
    assert main(["compare", run, run]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "scores.json: damaged: " in line


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_p_is_a_probability_the_same_both_ways_and_one_without_difference(only_a: int, only_b: int) -> None:
    p = mcnemar_p(only_a, only_b)
    assert 0 <= p <= 1
    assert p == mcnemar_p(only_b, only_a)
    assert mcnemar_p(only_a, only_a) == 1.0
    assert mcnemar_p(only_a, only_b + 5) <= p if only_b >= only_a else True


def test_the_p_of_the_textbook() -> None:
    assert mcnemar_p(0, 5) == pytest.approx(2 / 32)
    assert mcnemar_p(2, 10) == pytest.approx(2 * sum(comb(12, k) for k in range(3)) / 2**12)
    assert 0 <= mcnemar_p(1_000, 2_000) < 1e-70


def test_a_difference_is_the_same_however_it_was_computed() -> None:
    """0.78333 - 0.77083 is a bit above 1.25 points, and the mean of the paired differences a bit below."""
    assert points(0.7833333333333333 - 0.7708333333333333) == points(0.012499999999999997)
    assert [points(share) for share in (0.01251, -0.005, -1e-17)] == ["+1.3", "-0.5", "+0.0"]
