"""The head in slices: the results of the full computation, in a tenth of its logits' memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.lengths import paper_lengths
from benchmarks.live_bytes import peak_bytes
from stj.train.head import SupervisedHead

VOCABULARY = 5000  # three slices, the last one narrow


def full_logps(head: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return head(hidden).float().log_softmax(dim=1).gather(1, targets[:, None])[:, 0]


@pytest.mark.slow
@settings(max_examples=20)
@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=20), st.booleans())
def test_log_probabilities_and_gradients_are_those_of_the_full_computation(wanted: list[int], bias: bool) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, VOCABULARY, bias=bias)
    hidden = torch.randn(len(wanted), 16, requires_grad=True)
    targets = torch.tensor(wanted, dtype=torch.long)
    weights = torch.randn(len(wanted))  # of each token, as preference losses have them
    full, sliced = full_logps(head, hidden, targets), SupervisedHead(head)(hidden, targets)
    torch.testing.assert_close(sliced, full, rtol=1e-5, atol=1e-6)
    inputs = [hidden, *head.parameters()]
    expected = torch.autograd.grad((full * weights).sum(), inputs)
    for gradient, exact in zip(torch.autograd.grad((sliced * weights).sum(), inputs), expected, strict=True):
        assert (gradient - exact).norm() <= 1e-5 * exact.norm() + 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_head_passes_the_same_gradient_on_and_has_none(bias: bool) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, VOCABULARY, bias=bias)
    hidden, targets = torch.randn(9, 16, requires_grad=True), torch.randint(VOCABULARY, (9,))
    (expected,) = torch.autograd.grad(SupervisedHead(head)(hidden, targets).sum(), hidden)
    head.requires_grad_(False)
    SupervisedHead(head)(hidden, targets).sum().backward()
    assert hidden.grad is not None
    assert torch.equal(hidden.grad, expected)
    assert all(parameter.grad is None for parameter in head.parameters())


@pytest.mark.long
@pytest.mark.parametrize("everything", [False, True])
def test_logits_take_a_tenth_of_tokens_times_vocabulary(everything: bool) -> None:
    lengths, vocabulary = paper_lengths(4, seed=0), 128_256
    tokens = sum(prompt + judgment for prompt, judgment in lengths) // 16  # the head's memory is linear in them
    learned = tokens if everything else sum(judgment for _, judgment in lengths) // 16
    linear = torch.nn.Linear(8, vocabulary, bias=False)
    hidden = torch.randn(learned, 8, requires_grad=True)
    targets = torch.randint(vocabulary, (learned,))
    peak = peak_bytes(lambda: SupervisedHead(linear)(hidden, targets).sum(), kept=linear.weight.nbytes)
    assert 0.01 < peak / (4 * tokens * vocabulary) <= 0.1
