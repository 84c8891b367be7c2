"""Attention within each text of a packed row: block-diagonal and causal, so that no text sees another.

A mask of (T, T) would be computed in full and mostly thrown away. A row of 8,192 tokens has 67M scores a head, and its four
texts need 11M of them. There are three ways without such a mask, and `implementation` chooses one for a device:

- flash-attention, if it is installed: one kernel for all texts of a row
- torch's own kernel for the same (torch.nn.attention.varlen), on any GPU where flash-attention is missing
- each text alone, on a CPU, and on a GPU for what torch's kernel does not take

All compute the same. A sliding window of W tokens lets a token see itself and the W - 1 before it.

What a model does beside that in its layers cannot be seen here: a recurrent state, or an attention that it does not hand over,
would carry one text into the next. So `check_attended` asks that all layers have come here.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.utils import is_flash_attn_2_available

from stj.errors import ModelError

_FLASH = "flash_attention_2"
_VARLEN = "stj_varlen"
_PER_TEXT = "stj_per_text"
_ATTENDED = "attended"
_CAUSAL = (-1, 0)
"""Window of torch's kernel: any number of tokens back, none ahead."""

Varlen = Callable[..., Any]
"""The signature of torch.nn.attention.varlen.varlen_attn."""


@cache
def varlen_kernel() -> Varlen | None:
    """The kernel of torch for texts of various lengths; None if this torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def implementation(device: str) -> str:
    """The name under which transformers finds the attention of packed rows on a device."""
    if device != "gpu":
        return _PER_TEXT
    if is_flash_attn_2_available():
        return _FLASH
    return _VARLEN if varlen_kernel() else _PER_TEXT


def boundaries(lengths: Sequence[int], name: str, device: torch.device) -> dict[str, Any]:
    """What a model's forward pass hands to the attention `name`: the start of each text in the row, and the longest length.

    It also hands over a set, in which each layer's attention leaves its module.
    """
    starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    starts = starts if name == _PER_TEXT else starts.to(device)  # a loop over texts reads them on the host
    longest = max(lengths)
    return {
        "cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest, _ATTENDED: set()
    }  # fmt: skip


def check_attended(handed: Mapping[str, Any], model: PreTrainedModel) -> None:
    """Raises ModelError unless every layer of the model has attended within the texts that it was `handed`.

    transformers lets a model ignore them, as bloom's attention and all recurrent layers do.
    """
    layers, attended = model.config.get_text_config().num_hidden_layers, len(handed[_ATTENDED])
    if attended != layers:
        raise ModelError(
            f"{type(model).__name__}: {attended} of its {layers} layers attend within the texts of a packed row, and others "
            "would carry one text into the next: use a model with plain attention in every layer"
        )


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
    """Causal attention of each text of one row alone: (1, heads, T, d) to (1, T, heads, d).

    Raises ModelError if the model's attention is of a kind that this function would compute wrongly.
    """
    window = _window(module, attention_mask, sliding_window, kwargs)
    lengths = kwargs["cu_seq_lens_q"].diff().tolist()
    texts = zip(*(torch.split(part, lengths, dim=2) for part in (query, key, value)), strict=True)
    options: dict[str, Any] = {"dropout_p": dropout, "scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    attended = [scaled_dot_product_attention(q, k, v, **_visible(q.shape[2], window, q.device), **options) for q, k, v in texts]
    return torch.cat([part.transpose(1, 2) for part in attended], dim=1), None


def attend_by_kernel(
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
    """The same as `attend_within_texts` by torch's kernel; what the kernel does not take is computed text by text.

    Raises ModelError as `attend_within_texts` does.
    """
    kernel = varlen_kernel()
    if kernel is None or not kernel_takes(query, value, dropout):
        return attend_within_texts(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, sliding_window=sliding_window, **kwargs
        )
    window = _window(module, attention_mask, sliding_window, kwargs)
    return call_kernel(kernel, (query, key, value), kwargs["cu_seq_lens_q"], kwargs["max_length_q"], window, scaling), None


def attend_by_flash(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The same by flash-attention, as transformers calls it; soft caps are computed too.

    Raises ModelError for sinks, which transformers would leave out without a word, and for a window in a mask alone.
    """
    _check_plain(module, attention_mask, kwargs, capped=True)
    if not sliding_window:
        _check_whole(module, kwargs["max_length_q"])
    attended, _ = flash_attention_forward(module, query, key, value, attention_mask, sliding_window=sliding_window, **kwargs)
    return attended, None


def kernel_takes(query: Tensor, value: Tensor, dropout: float) -> bool:
    """Whether torch's kernel computes attention of this kind (check_prefer_flash_attention and mha_varlen_fwd in torch)."""
    size = query.shape[-1]
    sizes = size == value.shape[-1] and size % 8 == 0 and size <= 256
    on_kernel = query.is_cuda and torch.cuda.get_device_capability(query.device) >= (8, 0)
    return on_kernel and sizes and not dropout and query.dtype in (torch.bfloat16, torch.float16)


def call_kernel(
    kernel: Varlen,
    states: tuple[Tensor, Tensor, Tensor],
    starts: Tensor,
    longest: int,
    window: int | None,
    scaling: float | None,
) -> Tensor:
    """Attention of queries, keys and values (1, heads, T, d) by the kernel, as (1, T, heads, d).

    torch 2.11 takes fewer heads of keys as they are. Since 2.12 they must be asked for.
    """
    query, key, value = (part[0].transpose(0, 1) for part in states)  # (T, heads, d)
    grouped = {"enable_gqa": True} if query.shape[1] != key.shape[1] and _has_parameter(kernel, "enable_gqa") else {}
    reach = (window - 1, 0) if window else _CAUSAL  # the kernel counts the tokens before a token, without itself
    attended: Tensor = kernel(query, key, value, starts, starts, longest, longest, scale=scaling, window_size=reach, **grouped)
    return attended.unsqueeze(0)


def _window(
    module: torch.nn.Module, attention_mask: Tensor | None, sliding_window: int | None, kwargs: dict[str, Any]
) -> int | None:
    """Number of tokens that a token sees, itself included; None if it sees its whole text.

    Raises ModelError for attention that is neither causal over the whole text nor over such a window.
    """
    _check_plain(module, attention_mask, kwargs, capped=False)
    longest = kwargs["max_length_q"]
    if not sliding_window:
        _check_whole(module, longest)
    return sliding_window if sliding_window and sliding_window < longest else None


def _check_plain(module: torch.nn.Module, attention_mask: Tensor | None, kwargs: dict[str, Any], *, capped: bool) -> None:
    """Notes that the module attends within texts.

    Raises ModelError if it is not handed their boundaries, or is not causal; for a mask of its own; for sinks; and for soft
    caps unless `capped`.
    """
    name = type(module).__name__
    if "cu_seq_lens_q" not in kwargs:
        raise ModelError(f"{name} does not take packed rows: transformers must pass it cu_seq_lens_q")
    kwargs.pop(_ATTENDED, set()).add(module)
    if getattr(module, "is_causal", True) is False:
        raise ModelError(f"{name} lets a token see later ones: use a causal language model")
    if attention_mask is not None:
        raise ModelError(f"{name} makes a mask of its own, which packed rows do not have: use a model with plain attention")
    if kwargs.get("s_aux") is not None:
        raise ModelError(f"{name} has attention sinks, which packed rows do not have: use a model with plain attention")
    if kwargs.get("softcap") and not capped:
        raise ModelError(
            f"{name} has a soft cap: only flash-attention computes it on packed rows; install flash-attn on machines with "
            "GPUs, or use a model with plain attention"
        )


def _check_whole(module: torch.nn.Module, longest: int) -> None:
    """Raises ModelError if a layer without a window must not see a whole text.

    Some models of transformers hand their window over in a mask alone, which packed rows do not have.
    """
    config = getattr(module, "config", None)
    kinds, layer = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    window = getattr(config, "sliding_window", None)
    kind = kinds[layer] if kinds and layer is not None else "sliding_attention" if window else "full_attention"
    if kind == "full_attention" or (kind == "sliding_attention" and window and window >= longest):
        return
    raise ModelError(
        f"{type(module).__name__} keeps its {kind} in a mask alone, which a packed row with a text of {longest} tokens does "
        "not have: use a model with plain attention"
    )


def _visible(length: int, window: int | None, device: torch.device) -> dict[str, Any]:
    """What each token of a text sees, as arguments for torch: causal, or a band of `window` tokens if the text is longer."""
    if window is None or length <= window:
        return {"is_causal": True}
    return {"attn_mask": torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)}


@cache
def _has_parameter(function: Varlen, name: str) -> bool:
    return name in inspect.signature(function).parameters


AttentionInterface.register(_FLASH, attend_by_flash)
AttentionInterface.register(_PER_TEXT, attend_within_texts)
AttentionInterface.register(_VARLEN, attend_by_kernel)
