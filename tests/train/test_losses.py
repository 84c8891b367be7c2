"""The losses against their formulas, written out pair by pair."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stj.train.losses import StepTotals, preference, sft
from stj.train_config import PreferenceConfig, TrainConfig

COUNTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6)


def config(objective: str, **changes: object) -> TrainConfig:
    return TrainConfig(objective=objective, preference=PreferenceConfig(**changes))  # type: ignore[arg-type]


def drawn(counts: list[tuple[int, int]]) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    """Log-probabilities of the tokens of each right and wrong judgment, and the reference's of the judgments."""
    torch.manual_seed(0)
    pairs = [(-torch.rand(right), -torch.rand(wrong)) for right, wrong in counts]
    return pairs, -5 * torch.rand(len(counts), 2)


def by_hand(pairs: list[tuple[torch.Tensor, torch.Tensor]], reference: torch.Tensor, config: TrainConfig) -> float:
    """The loss as the papers write it."""
    compared, p = 0.0, config.preference
    for (right, wrong), (of_right, of_wrong) in zip(pairs, reference.tolist(), strict=True):
        gain_right, gain_wrong = right.sum().item() - of_right, wrong.sum().item() - of_wrong
        if p.length_normalized:
            gain_right, gain_wrong = gain_right / len(right), gain_wrong / len(wrong)
        compared += math.log1p(math.exp(-p.beta * (gain_right - gain_wrong)))
    if config.objective == "rpo":
        likelihood = sum(-right.mean().item() for right, _ in pairs) / len(pairs)
    else:
        likelihood = -torch.cat([right for right, _ in pairs]).mean().item()
    return compared / len(pairs) + p.nll_scale * likelihood


@pytest.mark.slow
@given(COUNTS, st.sampled_from(["dpo", "rpo"]), st.booleans(), st.sampled_from([0.0, 1.5]))
def test_preference_losses_are_those_of_the_papers_however_they_are_spread(
    counts: list[tuple[int, int]], objective: str, normalized: bool, nll_scale: float
) -> None:
    settings = config(objective, length_normalized=normalized, nll_scale=nll_scale, beta=0.3)
    pairs, reference = drawn(counts)
    totals = StepTotals(tokens=sum(right for right, _ in counts), examples=len(counts))
    alone = [
        preference(torch.cat(pair), count, reference[place : place + 1], settings, totals).item()
        for place, (pair, count) in enumerate(zip(pairs, counts, strict=True))
    ]
    flat = torch.cat([part for pair in pairs for part in pair])
    together = preference(flat, [count for pair in counts for count in pair], reference, settings, totals).item()
    assert together == pytest.approx(by_hand(pairs, reference, settings), rel=1e-5)
    assert sum(alone) == pytest.approx(together, rel=1e-5)


def test_the_gradient_raises_the_right_judgment_and_lowers_the_wrong_one() -> None:
    logps = torch.full((4,), -1.0, requires_grad=True)
    totals = StepTotals(tokens=2, examples=1)
    torch.autograd.backward(preference(logps, (2, 2), torch.tensor([[-2.0, -2.0]]), config("dpo", nll_scale=0.0), totals))
    assert logps.grad is not None
    torch.testing.assert_close(logps.grad, torch.tensor([-0.05, -0.05, 0.05, 0.05]))  # beta / 2 as long as nothing is gained


def test_sft_is_the_mean_over_tokens_not_over_examples() -> None:
    logps = torch.tensor([-1.0, -2.0, -6.0])
    totals = StepTotals(tokens=3, examples=2)
    assert (sft(logps[:2], totals) + sft(logps[2:], totals)).item() == pytest.approx(3.0)


def test_settings_for_pairs_take_the_place_of_their_namesakes() -> None:
    both = replace(config("sft_then_dpo"), max_grad_norm=None)
    assert both.stage("sft") == replace(both, objective="sft")
    pairs = both.stage("dpo")
    assert (pairs.lr, pairs.max_seq_len, pairs.gradient_accumulation, pairs.max_grad_norm) == (5.5e-8, 2048, 4, 1.0)
    assert (pairs.max_steps, pairs.warmup_steps) == (3000, 100)
