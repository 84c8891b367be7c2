"""The losses, as shares: the shares of all micro-batches of all ranks add up to the step's loss.

Each mean is taken over the whole step (its supervised tokens or pairs), never over a micro-batch or rank. So gradients do not
depend on how examples are packed, spread and accumulated.

sft  the mean negative log-likelihood of a token of the judgment (section 3.4, Table 7)
dpo  Direct Preference Optimization (Rafailov et al., arXiv 2305.18290, eq. 7) of the right judgment over the wrong one, and
     `nll_scale` times the mean negative log-likelihood of a token of the right one (the paper's released recipe)
rpo  the same, with the likelihood as a mean within each judgment first (Pang et al., arXiv 2404.19733, eq. 1), so that a long
     judgment counts no more than a short one
`length_normalized`: in dpo and rpo, log-probabilities are means over a judgment's tokens, so that length alone is no advantage
     (Meng et al., arXiv 2405.14734; with a reference, Lambert et al., arXiv 2411.15124, section 5.1)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stj.train.data import ExampleTokens
from stj.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """The counts that a step's means are taken over: all its micro-batches, of all ranks."""

    tokens: int
    """Supervised tokens of the judgments to learn; wrong judgments are not counted."""
    examples: int

    @classmethod
    def of(cls, examples: Sequence[ExampleTokens]) -> "StepTotals":
        """The counts of a step's examples."""
        return cls(tokens=sum(example.counts[0] for example in examples), examples=len(examples))


def sft(logps: Tensor, totals: StepTotals) -> Tensor:
    """A micro-batch's share of the loss, from the log-probabilities (S,) of its supervised tokens."""
    return -logps.sum() / totals.tokens


def margins(logps: Tensor, counts: Sequence[int], reference: Tensor, config: TrainConfig) -> Tensor:
    """How much more the right judgment of each pair has gained on the reference than the wrong one (P,), times beta.

    `logps` (S,) belong to the supervised tokens of 2P texts, right and wrong in turns; `counts` holds how many each text has.
    `reference` (P, 2) are sums over a text.
    """
    gained = text_logps(logps, counts).reshape(-1, 2) - reference
    if config.preference.length_normalized:
        gained = gained / _lengths(counts, gained)
    return config.preference.beta * (gained[:, 0] - gained[:, 1])


def preference(logps: Tensor, counts: Sequence[int], reference: Tensor, config: TrainConfig, totals: StepTotals) -> Tensor:
    """A micro-batch's share of the loss on pairs; the arguments are those of `margins`."""
    right = text_logps(logps, counts)[::2]
    if config.objective == "rpo":
        likelihood = -(right / _lengths(counts, right)[:, 0]).sum() / totals.examples
    else:
        likelihood = -right.sum() / totals.tokens
    preferred = -logsigmoid(margins(logps, counts, reference, config)).sum() / totals.examples
    return preferred + config.preference.nll_scale * likelihood


def text_logps(logps: Tensor, counts: Sequence[int]) -> Tensor:
    """Log-probability of each text's judgment, from those of all supervised tokens and the number of them in each text."""
    return torch.stack([of_text.sum() for of_text in torch.split(logps, list(counts))])


def _lengths(counts: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(counts, device=like.device).reshape(-1, 2)
