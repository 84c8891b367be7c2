"""Attention of packed rows: which one is chosen, and that all compute the same, windows and gradients included."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AfmoeConfig,
    AutoModelForCausalLM,
    BambaConfig,
    BloomConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2MoeConfig,
)

from benchmarks.attention_equality import CASES, Case, compare, eager, errors
from stj.errors import ModelError
from stj.train.attention import (
    attend_by_flash,
    attend_by_kernel,
    attend_within_texts,
    boundaries,
    call_kernel,
    check_attended,
    implementation,
    kernel_takes,
    varlen_kernel,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """More threads wait for each other longer than these sizes take, on a machine that does other things too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    kv_heads = draw(st.integers(1, 3))
    window = draw(st.none() | st.integers(2, 14))
    return Case(lengths=tuple(lengths), heads=kv_heads * draw(st.integers(1, 3)), kv_heads=kv_heads, size=8, window=window)


@given(cases())
def test_texts_alone_are_what_a_mask_over_the_row_means(case: Case) -> None:
    assert errors(case, "stj_per_text", attend_within_texts, CPU, torch.float64)["output"] < 1e-6


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_all_attentions_of_a_device_agree_with_the_reference(device: str) -> None:
    most = 1e-5 if device == "cpu" else 2e-2  # bf16 has 8 bits: results and gradients are rounded to them
    for result in compare(device):
        assert max(result["errors"].values()) < most, result


def eager_kernel(*, grouped: bool) -> Callable[..., Tensor]:
    """A kernel with the signature and the rules of torch's, 2.13's or 2.11's, for any device and dtype."""

    def attend(
        states: tuple[Tensor, Tensor, Tensor], starts: Tensor, longest: int, scale: float, window_size: tuple[int, int]
    ) -> Tensor:
        assert starts.dtype == torch.int32
        lengths = tuple(end - start for start, end in pairwise(starts.tolist()))
        assert longest == max(lengths)
        assert window_size[1] == 0
        size = states[0].shape[2]
        assert scale == size**-0.5
        case = Case(lengths=lengths, size=size, window=None if window_size[0] == -1 else window_size[0] + 1)
        query, key, value = (part.transpose(0, 1).unsqueeze(0) for part in states)
        return eager(query, key, value, case)[0]

    def torch_2_13(
        query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int,
        *, scale: float, window_size: tuple[int, int] = (-1, -1), enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        assert enable_gqa == (query.shape[1] != key.shape[1])
        return attend((query, key, value), cu_seq_q, max_q, scale, window_size)

    def torch_2_11(
        query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int,
        *, scale: float, window_size: tuple[int, int] = (-1, -1),
    ) -> Tensor:  # fmt: skip
        return attend((query, key, value), cu_seq_q, max_q, scale, window_size)

    return torch_2_13 if grouped else torch_2_11


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_is_called_for_the_same_attention(case: Case, grouped: bool) -> None:
    kernel = eager_kernel(grouped=grouped)

    def attend(_: Any, *states: Any, scaling: float, sliding_window: int | None, **kwargs: Any) -> tuple[Tensor, None]:
        window = sliding_window if sliding_window and sliding_window < kwargs["max_length_q"] else None
        return call_kernel(kernel, states[:3], kwargs["cu_seq_lens_q"], kwargs["max_length_q"], window, scaling), None

    assert max(errors(case, "stj_varlen", attend, CPU, torch.float32).values()) < 1e-5


def test_torch_s_kernel_has_the_parameters_that_it_is_called_with() -> None:
    """On a CPU it refuses, but only after it has checked its arguments."""
    kernel = varlen_kernel()
    assert kernel is not None
    states = tuple(torch.randn(1, heads, 6, 8, dtype=torch.bfloat16) for heads in (4, 2, 2))
    within = boundaries((2, 4), "stj_varlen", CPU)
    with pytest.raises(NotImplementedError, match="_flash_attention_forward"):
        call_kernel(kernel, states, within["cu_seq_lens_q"], 4, 3, None)  # type: ignore[arg-type]


def test_a_gpu_needs_no_package_and_a_cpu_takes_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert implementation("cpu") == "stj_per_text"
    monkeypatch.setattr("stj.train.attention.is_flash_attn_2_available", lambda: False)
    assert implementation("gpu") == "stj_varlen"
    monkeypatch.setattr("stj.train.attention.varlen_kernel", lambda: None)
    assert implementation("gpu") == "stj_per_text"
    monkeypatch.setattr("stj.train.attention.is_flash_attn_2_available", lambda: True)
    assert implementation("gpu") == "flash_attention_2"


def test_what_the_kernel_does_not_take_is_computed_text_by_text() -> None:
    for case in (CASES[1], CASES[4]):
        assert max(errors(case, "stj_varlen", attend_by_kernel, CPU, torch.float32).values()) < 1e-5
    on_cpu = torch.randn(1, 2, 3, 64, dtype=torch.bfloat16)
    assert not kernel_takes(on_cpu, on_cpu, 0.0)


def packed(model: Any, texts: Sequence[Tensor], name: str) -> Tensor:
    """The logits (T, vocabulary) of texts in one packed row."""
    lengths = [len(text) for text in texts]
    positions = torch.cat([torch.arange(length) for length in lengths])
    within = boundaries(lengths, name, CPU)
    row = torch.cat(list(texts))
    logits: Tensor = model(input_ids=row[None], position_ids=positions[None], use_cache=False, **within).logits[0]
    return logits


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 64}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]


def models(config: PretrainedConfig) -> Iterator[Any]:
    """The same random model with attention of packed rows, once for a CPU and once for a GPU, and with transformers' own."""
    torch.manual_seed(0)
    own = AutoModelForCausalLM.from_config(deepcopy(config), attn_implementation="eager").eval()
    for name in ("stj_per_text", "stj_varlen"):
        ours = AutoModelForCausalLM.from_config(deepcopy(config), attn_implementation=name).eval()
        ours.load_state_dict(own.state_dict())
        yield ours
    yield own


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES, num_key_value_heads=2),
        MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=4),
        MistralConfig(**SIZES, num_key_value_heads=4, sliding_window=1000),
        Gemma3TextConfig(**SIZES, num_key_value_heads=2, head_dim=8, sliding_window=4, layer_types=MIXED),
        AfmoeConfig(**SIZES, num_key_value_heads=4, head_dim=8, sliding_window=4, layer_types=MIXED, num_dense_layers=3),
    ],
    ids=["whole", "window", "wide window", "some windows", "some windows, and a view of the output"],
)
def test_models_compute_each_text_as_transformers_does_alone(config: PretrainedConfig) -> None:
    texts = [torch.randint(64, (length,), generator=torch.Generator().manual_seed(length)) for length in (9, 1, 17, 4)]
    *ours, own = models(config)
    with torch.no_grad():
        alone = torch.cat([own(input_ids=text[None], use_cache=False).logits[0] for text in texts])
        for model in ours:
            assert torch.allclose(packed(model, texts, model.config._attn_implementation), alone, atol=1e-5)


def test_a_window_that_a_model_keeps_to_its_mask_is_refused_where_it_matters() -> None:
    """qwen2_moe does not hand its window to the attention: it would be computed as if there were none."""
    config = Qwen2MoeConfig(
        **SIZES, num_key_value_heads=4, moe_intermediate_size=16, shared_expert_intermediate_size=16, num_experts=2,
        num_experts_per_tok=1, layer_types=MIXED, use_sliding_window=True, sliding_window=4,
    )  # fmt: skip
    for model in list(models(config))[:2]:
        name = model.config._attn_implementation
        assert packed(model, [torch.arange(4), torch.arange(3)], name).isfinite().all()
        for way in (name, "flash_attention_2"):
            model.config._attn_implementation = way
            with pytest.raises(ModelError, match="keeps its sliding_attention in a mask alone"):
                packed(model, [torch.arange(4), torch.arange(5)], way)


@pytest.mark.parametrize(
    ("attend", "more", "reason"),
    [
        (attend_within_texts, {"softcap": 50.0}, "only flash-attention computes it"),
        (attend_by_kernel, {"softcap": 50.0}, "only flash-attention computes it"),
        (attend_within_texts, {"s_aux": torch.zeros(2)}, "has attention sinks"),
        (attend_by_kernel, {"s_aux": torch.zeros(2)}, "has attention sinks"),
        (attend_by_flash, {"s_aux": torch.zeros(2)}, "has attention sinks"),
    ],
)
def test_soft_caps_and_sinks_are_computed_or_refused(attend: Callable[..., Any], more: dict[str, Any], reason: str) -> None:
    states = [torch.randn(1, 2, 3, 8)] * 3
    with pytest.raises(ModelError, match=reason):
        attend(torch.nn.Module(), *states, None, **boundaries((3,), "stj_per_text", CPU), **more)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=64), "BloomForCausalLM: 0 of its 2 layers attend within"),
        (MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=64), "MambaForCausalLM: 0 of its 2 layers attend within"),
        (
            BambaConfig(**SIZES, num_key_value_heads=4, attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16),
            "BambaForCausalLM: 1 of its 3 layers attend within",
        ),
    ],
    ids=["attention of its own", "recurrent", "mixed"],
)
def test_a_layer_that_would_carry_one_text_into_the_next_is_refused(config: PretrainedConfig, reason: str) -> None:
    """transformers lets these models ignore that a row is packed, without a word."""
    model = AutoModelForCausalLM.from_config(config, attn_implementation="stj_per_text").eval()
    handed = boundaries((3, 2), "stj_per_text", CPU)
    model(input_ids=torch.arange(5)[None], position_ids=torch.tensor([[0, 1, 2, 0, 1]]), use_cache=False, **handed)
    with pytest.raises(ModelError, match=reason):
        check_attended(handed, model)


def test_a_model_whose_layers_all_attend_within_texts_passes() -> None:
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, num_key_value_heads=2), attn_implementation="stj_per_text")
    handed = boundaries((3, 2), "stj_per_text", CPU)
    for _ in range(2):  # as a layer that is computed again
        model(input_ids=torch.arange(5)[None], use_cache=False, **handed)
    check_attended(handed, model)


def test_tokens_that_see_later_ones_and_masks_of_a_model_are_refused() -> None:
    states = [torch.randn(1, 2, 3, 8)] * 3
    module = torch.nn.Module()
    for attend in (attend_within_texts, attend_by_kernel, attend_by_flash):
        with pytest.raises(ModelError, match="makes a mask of its own"):
            attend(module, *states, torch.ones(3, 3), **boundaries((3,), "stj_per_text", CPU))
    module.is_causal = False
    with pytest.raises(ModelError, match="lets a token see later ones"):
        attend_within_texts(module, *states, None, **boundaries((3,), "stj_per_text", CPU))


def test_the_output_is_one_piece_of_memory_as_of_transformers_own_attention() -> None:
    """Some models read it by a view: afmoe, jetmoe."""
    attended, _ = attend_within_texts(
        torch.nn.Module(), *[torch.randn(1, 2, 5, 8)] * 3, None, **boundaries((3, 2), "stj_per_text", CPU)
    )
    assert attended.is_contiguous()


def test_a_window_as_long_as_the_text_changes_nothing() -> None:
    case = CASES[4]
    for window in (200, 201, None):
        assert errors(replace(case, window=window), "stj_per_text", attend_within_texts, CPU, torch.float32)["output"] < 1e-5
