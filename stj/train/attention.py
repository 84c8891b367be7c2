"""Attention within each text of a packed row: block-diagonal and causal, so that no text sees another.

A mask of (T, T) would be computed in full and mostly thrown away. A row of 8,192 tokens has 67M scores a head, and its four
texts need 11M of them. Here each text attends alone. If flash-attention is installed, its kernel for texts of various lengths
does the same in one call, and transformers passes it the same boundaries.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.utils import is_flash_attn_2_available

from stj.errors import ModelError

_FLASH = "flash_attention_2"
_PER_TEXT = "stj_per_text"


def implementation(device: str) -> str:
    """The name under which transformers finds the attention of packed rows on a device."""
    return _FLASH if device == "gpu" and is_flash_attn_2_available() else _PER_TEXT


def boundaries(lengths: Sequence[int], name: str, device: torch.device) -> dict[str, Any]:
    """What a model's forward pass hands to the attention `name`: the start of each text in the row, and the longest length."""
    starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    starts = starts.to(device) if name == _FLASH else starts  # ours reads them on the host
    return {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": max(lengths), "max_length_k": max(lengths)}


def attend_within_texts(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each text of one row: (1, heads, T, d) to (1, T, heads, d).

    Raises ModelError if the model's attention is of a kind that this function would compute wrongly.
    """
    if "cu_seq_lens_q" not in kwargs:
        raise ModelError(f"{type(module).__name__} does not take packed rows: transformers must pass it cu_seq_lens_q")
    longest = kwargs["max_length_q"]
    if kwargs.get("softcap") or kwargs.get("s_aux") is not None or (sliding_window and sliding_window < longest):
        raise ModelError(
            f"{type(module).__name__} has a soft cap, attention sinks or a window of fewer than {longest} tokens: only "
            "flash-attention computes these on packed rows; install flash-attn, or use a model with plain attention"
        )
    lengths = kwargs["cu_seq_lens_q"].diff().tolist()
    texts = zip(*(torch.split(part, lengths, dim=2) for part in (query, key, value)), strict=True)
    gqa = query.shape[1] != key.shape[1]
    attended = [
        scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout, scale=scaling, enable_gqa=gqa)
        for q, k, v in texts
    ]
    return torch.cat(attended, dim=2).transpose(1, 2), None


AttentionInterface.register(_PER_TEXT, attend_within_texts)
