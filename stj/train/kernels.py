"""Fused kernels for what lies between a layer's matrix products: norms, rotary positions and the gate of the MLP.

PyTorch alone reads and writes the GPU's memory several times for each of them, which took a third of a step on an H200. Liger's
kernels (github.com/linkedin/Liger-Kernel) read and write it once. Its losses are not used: stj has a head of its own.
"""

from transformers import PreTrainedModel
from transformers.integrations.liger import apply_liger_kernel
from transformers.utils import is_liger_kernel_available

from stj.errors import TrainingFailed
from stj.train.ranks import gathered

KINDS = ("llama", "mistral", "qwen2", "qwen3")
"""The model types whose results and gradients tests/train/test_kernels.py compares. Liger knows more."""

_PARTS = {"rope": True, "rms_norm": True, "swiglu": True, "cross_entropy": False, "fused_linear_cross_entropy": False}


def fuse(model: PreTrainedModel, device: str) -> bool:
    """Gives a model's layers the fused kernels; returns whether there are such kernels for it here."""
    if device != "gpu" or model.config.model_type not in KINDS or not is_liger_kernel_available():
        return False
    apply_liger_kernel(model, _PARTS)
    return True


def check_fused_everywhere(fused: bool) -> None:
    """Raises TrainingFailed, on every rank, if only some ranks have fused kernels: they would round differently.

    All ranks must call this.
    """
    everywhere = gathered(fused)
    if any(everywhere) and not all(everywhere):
        raise TrainingFailed(
            f"liger-kernel is installed for {sum(everywhere)} of {len(everywhere)} ranks: install requirements/gpu.txt on all "
            "machines, or start them from one image"
        )
