"""Pairs that the judges of a run agree to be mislabelled: planted ones are found and left out. No engine: rows are scripted."""

import json
import random
from pathlib import Path

import pytest

from stj.errors import ConfigError
from stj.evals.label_noise import auroc
from stj.loop.label_flags import LabelFlags, judges_draws
from stj.loop.phases import Run
from stj.loop.report_tables import tables
from stj.loop.summary import RunSummary
from stj.rows import Row
from stj.storage.artifacts import differences
from stj.storage.folder import Folder
from tests.loop.test_examples import judged, run_of, selected, write
from tests.loop.test_mixing import key_of

PAIRS = 600


SAMPLING = ["all", "first_correct"]


def outcome(rng: random.Random, accuracy: float, wrong: bool, sampling: str) -> str:
    """Five samples of a judge that keeps its opinion in four of five, or those up to the first that agrees with the label."""
    opinion = (rng.random() < accuracy) != wrong
    samples = "".join("+" if opinion == (rng.random() < 0.8) else "-" for _ in range(5))
    return samples if sampling == "all" else samples[: samples.find("+") + 1 or 5]


def judged_twice(tmp_path: Path, *words: str, sampling: str = "all") -> tuple[Run, list[bool]]:
    """A run whose first two judges have judged pairs of which every eighth is wrongly labelled."""
    run, rng = run_of(tmp_path, "iterations=2", f"judge.sampling={sampling}", *words), random.Random(7)
    wrong = [number % 8 == 0 for number in range(PAIRS)]
    for name, accuracy in (("pairs", 0.85), ("iteration_2/judged", 0.9)):
        rows: list[Row] = [judged(number, outcome(rng, accuracy, bad, sampling)) for number, bad in enumerate(wrong)]
        rng.shuffle(rows)
        write(next(phase for phase in run.phases if phase.name == name), rows)
    return run, wrong


def flags_of(run: Run, threshold: float) -> LabelFlags:
    """The flags by both judges."""
    first, second = (iteration.examples.judged for iteration in run.iterations)
    assert first
    assert second
    return LabelFlags(second.artifact, judges_draws(second.artifact, [first.artifact], run.config), threshold, run.config.seed)


@pytest.mark.slow
@pytest.mark.parametrize(("sampling", "auroc_in_run"), [("all", 0.8), ("first_correct", 0.62)])
def test_planted_labels_are_flagged_left_out_and_reported(tmp_path: Path, sampling: str, auroc_in_run: float) -> None:
    """Two single judgments say less than ten: both against the label make it wrong with about 66%."""
    threshold = 0.6
    run, wrong = judged_twice(tmp_path, f"curate.label_noise={threshold}", sampling=sampling)
    first = selected(run, "iteration_1/examples")  # one judge flags nothing
    assert "label_noise" not in run.iterations[0].examples.artifact.manifest()
    examples = selected(run, "iteration_2/examples")

    def bad(learned: list[str]) -> float:
        return sum(wrong[int(row_id[-3:])] for row_id in learned) / len(learned)

    assert bad([example.id for example in examples]) < 0.65 * bad([example.id for example in first])
    phase = run.iterations[1].examples
    manifest = phase.artifact.manifest()
    noise = manifest["label_noise"]
    assert (noise["judges"], noise["pairs"], noise["threshold"]) == (2, PAIRS, threshold)
    assert noise["planted_auroc"] > auroc_in_run
    assert noise["wrong"] == pytest.approx(1 / 8, abs=0.08)
    assert 0 < manifest["judged"]["dropped"]["label_noise"] <= noise["flagged"]
    assert len(noise["most"]) == min(20, noise["flagged"])
    among_flagged = sum(wrong[int(row_id[-3:])] for row_id, _ in noise["most"]) / len(noise["most"])
    assert among_flagged > 3 / 8  # three times their share
    probabilities = [probability for _, probability in noise["most"]]
    assert probabilities == sorted(probabilities, reverse=True)
    line = "labels wrong, as 2 judges see it"
    assert line in phase.summary()
    summary = RunSummary.of(run)
    assert line in " ".join("\n".join(map(str, tables(summary.judges))).split())
    summary.write(Folder.at(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert line in page
    assert noise["most"][0][0] in page


def test_the_probability_of_each_pair_tells_planted_labels_apart(tmp_path: Path) -> None:
    import numpy as np

    run, wrong = judged_twice(tmp_path)
    flags = flags_of(run, 0.9)
    found = [flags.wrong(f"row-{number:03d}") for number in range(PAIRS)]
    assert auroc(np.array(found, dtype=float), np.array(wrong)) > 0.85
    assert flags.wrong("another row") is None


@pytest.mark.parametrize("sampling", SAMPLING)
def test_a_judgment_without_a_verdict_does_not_speak_against_the_label(tmp_path: Path, sampling: str) -> None:
    run = run_of(tmp_path, "iterations=2", f"judge.sampling={sampling}", "judge.samples=5", "curate.label_noise=0.6")
    rng = random.Random(3)
    for name in ("pairs", "iteration_2/judged"):
        rows = [judged(number, "?????" if number % 5 == 0 else outcome(rng, 0.95, False, sampling)) for number in range(150)]
        rows += [judged(150, "?+"), judged(151, "?-" + "-" * 3)]
        write(next(phase for phase in run.phases if phase.name == name), rows)
    flags = flags_of(run, 0.6)
    assert flags.noise.pairs == 122
    assert flags.noise.wrong < 0.2
    assert flags.wrong("row-005") is None
    right, wrong = flags.wrong("row-150"), flags.wrong("row-151")
    assert right is not None
    assert wrong is not None
    assert right < 0.1 < 0.3 < wrong


def test_few_pairs_do_not_check_the_flag(tmp_path: Path) -> None:
    run = run_of(tmp_path, "iterations=2", "judge.sampling=all", "curate.label_noise=1")
    for name in ("pairs", "iteration_2/judged"):
        write(next(phase for phase in run.phases if phase.name == name), [judged(number, "+-") for number in range(40)])
    selected(run, "iteration_2/examples")
    noise = run.iterations[1].examples.artifact.manifest()["label_noise"]
    assert noise["planted_auroc"] is None
    assert "too few pairs to check that with planted wrong labels" in run.iterations[1].examples.summary()


@pytest.mark.slow
def test_a_probability_of_1_reports_and_leaves_nothing_out(tmp_path: Path) -> None:
    run, _ = judged_twice(tmp_path, "curate.label_noise=1")
    with_flags = selected(run, "iteration_2/examples")
    manifest = run.iterations[1].examples.artifact.manifest()
    assert manifest["label_noise"]["flagged"] > 0
    assert "label_noise" not in manifest["judged"]["dropped"]
    without, _ = judged_twice(tmp_path / "without")
    assert selected(without, "iteration_2/examples") == with_flags


def test_it_makes_only_the_examples_of_later_iterations_stale(tmp_path: Path) -> None:
    plain, noisy = run_of(tmp_path, "iterations=2"), run_of(tmp_path, "iterations=2", "curate.label_noise=0.9")
    assert "label_noise" not in json.dumps([key_of(plain, name) for name in ("pairs", "iteration_2/examples")])
    for name in ("pairs", "iteration_1/examples", "iteration_1/model", "iteration_2/judged"):
        assert not differences(key_of(plain, name), key_of(noisy, name)), name
    changed = differences(key_of(plain, "iteration_2/examples"), key_of(noisy, "iteration_2/examples"))
    assert changed == ["label_noise: nothing -> 0.9"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("curate.label_noise=0.9", "iterations=1"), "its errors and wrong labels look the same"),
        (("curate.label_noise=0.5",), "above 0.5"),
        (("curate.label_noise=.nan",), "label_noise"),
        (("curate.label_noise=90",), "up to 1"),
        (("curate.label_noise=0.9", "judge.task=absolute"), "no pairs are compared"),
    ],
)
def test_what_cannot_be_known_is_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(tmp_path, "iterations=2", *words)
