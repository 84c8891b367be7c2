"""Wrong labels: planted ones are found among judges of known accuracy, and among recorded judgments of real judges."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.evals.label_noise import Floats, auroc, estimate_noise, planted_auroc


def planted(agreeing: Floats, share: float, seed: int) -> tuple[Floats, "np.ndarray[tuple[int], np.dtype[np.bool_]]"]:
    wrong = np.random.default_rng(seed).random(len(agreeing)) < share
    return np.where(wrong[:, None], 1 - agreeing, agreeing), wrong


def judges_of(accuracies: list[float], pairs: int, samples: int = 5, seed: int = 0) -> Floats:
    """Judges that are right about a pair in all samples or about none, but for one sample in ten."""
    rng = np.random.default_rng(seed)
    right = rng.random((pairs, len(accuracies))) < accuracies
    flips = rng.random((pairs, len(accuracies), samples)) < 0.1
    return np.where(flips, ~right[:, :, None], right[:, :, None]).mean(axis=2)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35])
def test_planted_labels_accuracies_and_probabilities_are_found(share: float) -> None:
    accuracies = [0.9, 0.8, 0.7]
    agreeing, wrong = planted(judges_of(accuracies, 4000), share, 1)
    estimate = estimate_noise(agreeing)
    assert auroc(estimate.wrong, wrong) > 0.93
    assert estimate.share == pytest.approx(share, abs=0.04)
    assert estimate.accuracy == pytest.approx(accuracies, abs=0.04)
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):  # a probability is a share of wrong labels
        within = (estimate.wrong >= low) & (estimate.wrong < high)
        if within.sum() > 100:
            assert wrong[within].mean() == pytest.approx(estimate.wrong[within].mean(), abs=0.1)


def test_a_judge_that_guesses_changes_little_and_a_missing_one_nothing() -> None:
    agreeing, wrong = planted(judges_of([0.9, 0.85], 2000), 0.15, 2)
    with_guesser = np.column_stack([agreeing, judges_of([0.5], 2000, seed=9)])
    alone, beside = estimate_noise(agreeing), estimate_noise(with_guesser)
    assert auroc(beside.wrong, wrong) == pytest.approx(auroc(alone.wrong, wrong), abs=0.02)
    missing = np.column_stack([agreeing, np.full(2000, np.nan)])
    assert estimate_noise(missing).wrong == pytest.approx(alone.wrong, abs=1e-6)


def test_many_samples_of_a_judge_are_one_opinion() -> None:
    few, many = judges_of([0.9, 0.8], 1000, samples=1), judges_of([0.9, 0.8], 1000, samples=100)
    assert estimate_noise(many).wrong.max() == pytest.approx(estimate_noise(few).wrong.max(), abs=0.15)


@given(st.lists(st.tuples(*[st.one_of(st.floats(0, 1), st.just(float("nan")))] * 3), max_size=30))
def test_any_verdicts_give_probabilities(rows: list[tuple[float, float, float]]) -> None:
    agreeing = np.array(rows, dtype=np.float64).reshape(-1, 3)
    estimate = estimate_noise(agreeing)
    assert np.isfinite(estimate.wrong).all()
    assert ((estimate.wrong >= 0) & (estimate.wrong <= 1)).all()
    assert 0 < estimate.share < 1
    assert all(0.5 - 1e-9 <= accuracy < 1 for accuracy in estimate.accuracy)
    for permuted in (agreeing[::-1],):
        assert estimate_noise(permuted).wrong == pytest.approx(estimate.wrong[::-1], abs=1e-6)
    found = planted_auroc(agreeing, 0)
    assert found is None or 0 <= found <= 1


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [([0.1, 0.9], [0, 1], 1.0), ([0.9, 0.1], [0, 1], 0.0), ([0.5, 0.5], [0, 1], 0.5), ([1, 2, 2, 3], [0, 1, 0, 1], 0.875)],
)
def test_auroc_by_hand(scores: list[float], positive: list[int], expected: float) -> None:
    assert auroc(np.array(scores, dtype=float), np.array(positive, dtype=bool)) == pytest.approx(expected)


def llmbar(folder: Path, *names: str) -> Floats:
    """The share of the two orders in which each recorded judge names LLMBar's better output, (pairs, judges)."""
    columns = []
    for name in names:
        rows = json.loads((folder / "llmbar_a_judgments" / f"LLMBar_Natural__{name}.json").read_text(encoding="utf-8"))
        orders = ((row, [order for result in row["results"] for order in result.values()]) for row in rows)
        columns.append([np.mean([order["winner"] == str(row["label"]) for order in both]) for row, both in orders])
    return np.array(columns, dtype=np.float64).T


@pytest.mark.slow
@pytest.mark.parametrize(
    ("judges", "least"),
    [
        (("GPT-4_CoT", "GPT-4_Vanilla"), 0.95),
        (("GPT-4_CoT", "ChatGPT_CoT"), 0.95),
        (("ChatGPT_CoT", "Falcon_CoT"), 0.75),
        (("GPT-4_CoT", "GPT-4_Swap_CoT", "GPT-4_Vanilla", "ChatGPT_CoT", "Falcon_CoT"), 0.97),
    ],
)
def test_planted_labels_are_found_among_recorded_judgments(test_data: Path, judges: tuple[str, ...], least: float) -> None:
    agreeing = llmbar(test_data, *judges)
    assert agreeing.shape == (100, len(judges))
    found, precise = [], []
    for seed in range(20):
        turned, wrong = planted(agreeing, 0.2, seed)
        estimate = estimate_noise(turned)
        found.append(auroc(estimate.wrong, wrong))
        flagged = estimate.wrong >= 0.9
        precise += [wrong[flagged].mean()] if flagged.any() else []
    assert np.mean(found) > least
    assert not precise or np.mean(precise) > 0.85
    in_run = [planted_auroc(agreeing, seed) for seed in range(20)]
    assert np.mean([score for score in in_run if score is not None]) == pytest.approx(np.mean(found), abs=0.06)
