"""The tensors of a model's files against its config: what is missing is named, whatever number of layers a config asks for."""

from types import SimpleNamespace
from typing import Any

import pytest

from stj.errors import ModelError
from stj.models.shapes import check_shapes

LAYER = {
    "input_layernorm": (8,),
    **{f"self_attn.{part}_proj": (8, 8) for part in "qkvo"},
    **{f"mlp.{part}_proj": (8, 8) for part in ("gate", "up", "down")},
}
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (16, 8),
    "model.norm.weight": (8,),
    **{f"model.layers.{number}.{name}.weight": shape for number in range(2) for name, shape in LAYER.items()},
}


def config(**values: Any) -> SimpleNamespace:
    sizes = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 16}
    return SimpleNamespace(**{"model_type": "llama", **sizes, **values})


def test_a_whole_model_passes() -> None:
    check_shapes(SHAPES, config(), "m", vocabulary=True)


@pytest.mark.parametrize("ending", ["embed_tokens.weight", "model.norm.weight", "q_proj.weight", "1.mlp.up_proj.weight"])
def test_a_tensor_that_no_file_holds_is_named(ending: str) -> None:
    rest = {name: shape for name, shape in SHAPES.items() if not name.endswith(ending)}
    with pytest.raises(ModelError, match=ending.removeprefix("model.").removeprefix("1.").replace(".", r"\.")):
        check_shapes(rest, config(), "m", vocabulary=True)


def test_a_config_of_endless_layers_takes_no_time() -> None:
    with pytest.raises(ModelError, match=r"all tensors of layer 2, and config\.json asks for 1000000000000 layers"):
        check_shapes(SHAPES, config(num_hidden_layers=10**12), "m", vocabulary=True)
