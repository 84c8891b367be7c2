"""Every causal language model of the installed transformers: a packed row gives what each text gives alone, or is refused.

Each is a tiny random model. transformers' own eager attention on one text at a time says what is right, windows included.
"""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from stj.errors import ModelError
from stj.models.check import check_trainable
from stj.train.attention import boundaries, check_attended

pytestmark = pytest.mark.long

LENGTHS, WINDOW, LAYERS = (11, 3, 9), 4, 3
ATTENTION = "stj_per_text"
SMALL = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "n_head_kv", "num_kv_heads"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner", "intermediate_size_mlp"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "hidden_size_per_layer_input"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "max_position_embeddings", "n_positions"), 64),
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_kv_shared_layers": 0, "query_pre_attn_scalar": 8},
    **{"sliding_window": WINDOW, "attention_chunk_size": WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    **dict.fromkeys(("attention_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0),
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout"), 0.0),
}
MOST = 3_000_000
"""Parameters of the largest model that is built."""
SERVED = {
    *("llama", "mistral", "ministral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "gemma", "gemma3_text", "phi3"),
    *("cohere2", "olmo2", "olmo3", "olmoe", "granite", "starcoder2", "exaone4", "smollm3", "glm4", "seed_oss", "afmoe", "gpt2"),
}
"""Families that judges are made of, and that must be computed; of the others a refusal is enough."""


def tiny(kind: str) -> PretrainedConfig:
    """The smallest config of a kind that can be built, with a short window, if it has any."""
    text = CONFIG_MAPPING[kind]().get_text_config()
    sizes = {name: value for name, value in SMALL.items() if hasattr(text, name)}
    kinds = list(dict.fromkeys(getattr(text, "layer_types", None) or ()))
    if kinds:
        sizes["layer_types"] = (kinds * LAYERS)[:LAYERS]
    try:
        return type(text)(**sizes)
    except Exception:  # its layers follow from other settings
        return type(text)(**{name: value for name, value in sizes.items() if name != "layer_types"})


def models(config: PretrainedConfig) -> Iterator[Any]:
    """The same random model with transformers' own attention, and with that of packed rows."""
    built = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with torch.device("meta"):
        size = sum(part.numel() for part in built._from_config(deepcopy(config), attn_implementation="eager").parameters())
    if size > MOST:
        raise ValueError(f"{size} parameters")
    torch.manual_seed(0)
    alone = built._from_config(deepcopy(config), attn_implementation="eager").eval().float()
    for part in alone.parameters():
        if part.dim() > 1:
            part.normal_(0, 0.3)  # more than by default, so that what a token sees matters
    ids = torch.randint(3, 60, (1, sum(LENGTHS)))
    yield torch.cat([alone.base_model(input_ids=part, use_cache=False)[0] for part in ids.split(LENGTHS, 1)], 1)
    packed = built._from_config(deepcopy(config), attn_implementation=ATTENTION).eval().float()
    packed.load_state_dict(alone.state_dict())
    handed = boundaries(LENGTHS, ATTENTION, ids.device)
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    hidden = packed.base_model(input_ids=ids, position_ids=positions, use_cache=False, **handed)[0]
    check_attended(handed, packed)
    yield hidden


def outcome(kind: str) -> str:
    """Whether a kind is computed, refused, wrong, or cannot be built by a test that knows nothing of it."""
    try:
        config = tiny(kind)
        check_trainable(config.to_dict(), kind)
        with torch.no_grad():
            alone, packed = models(config)
    except ModelError:
        return "refused"
    except KeyError as error:  # a fixed list of attentions, which stj/train/model.py refuses
        return "refused" if error.args == (ATTENTION,) else "not built"
    except Exception:
        return "not built"
    return "computed" if (packed - alone).abs().max() < 1e-4 * alone.abs().max() else "wrong"


def test_a_packed_row_of_any_architecture_is_computed_or_refused() -> None:
    kinds = sorted({config.model_type for config in MODEL_FOR_CAUSAL_LM_MAPPING if config.model_type in CONFIG_MAPPING})
    outcomes = {kind: outcome(kind) for kind in kinds}
    assert [kind for kind in kinds if outcomes[kind] == "wrong"] == []
    assert {kind: outcomes.get(kind) for kind in SERVED if outcomes.get(kind) != "computed"} == {}
    counts = Counter(outcomes.values())
    assert counts["computed"] > 60, counts
    assert counts["not built"] < len(kinds) / 3, outcomes
