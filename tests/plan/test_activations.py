"""The plan's memory of activations against the tensors that are alive in a real forward and backward pass of a small Llama."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, LlamaConfig

from stj.models.shapes import Shape
from stj.plan.training import activation_bytes
from stj.train.attention import boundaries
from stj.train_config import TrainConfig

TOKENS = 1024
"""So many that gradients of weights, another part of the plan, are small beside activations."""
SHAPE = Shape(layers=5, hidden=64, mlp=224, heads=8, kv_heads=2, head_dim=8, vocab=64)


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that operations have made and that are still alive, and remembers the most."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.most = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def __torch_dispatch__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._weights:
                    self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._alive = {key: alive for key, alive in self._alive.items() if not alive[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._alive.values()))
        return made


def most_alive(every: int | None) -> float:
    """Bytes of a token at the peak, without weights."""
    config = LlamaConfig(
        hidden_size=SHAPE.hidden, intermediate_size=SHAPE.mlp, num_hidden_layers=SHAPE.layers, vocab_size=SHAPE.vocab,
        num_attention_heads=SHAPE.heads, num_key_value_heads=SHAPE.kv_heads, head_dim=SHAPE.head_dim,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation="stj_per_text").to(torch.bfloat16).train()
    if every:
        kind = {"use_reentrant": True}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kind, every_n_layers=every)
    ids = torch.arange(TOKENS)[None] % SHAPE.vocab
    places = torch.arange(TOKENS // 2).repeat(2)[None]
    alive = Alive(model)
    with alive:
        within = boundaries((TOKENS // 2, TOKENS // 2), "stj_per_text", torch.device("cpu"))
        hidden = model.base_model(input_ids=ids, position_ids=places, use_cache=False, **within).last_hidden_state
        hidden[0, :8].float().sum().backward()
    return alive.most / TOKENS


@pytest.mark.long
@pytest.mark.parametrize("every", [1, 2, 3, None], ids=["all again", "every second", "every third", "none again"])
def test_layers_keep_what_the_plan_says(every: int | None) -> None:
    train = TrainConfig(
        device="cpu", activation_checkpointing=every is not None, activation_checkpointing_every=every or 1, workers=1
    )
    assert activation_bytes(SHAPE, train) == pytest.approx(most_alive(every), rel=0.06)


def test_a_layer_of_the_70b_keeps_48_bytes_a_hidden_unit() -> None:
    shape = Shape(layers=80, hidden=8192, mlp=28672, heads=64, kv_heads=8, head_dim=128, vocab=128256)
    none, every, half = (
        activation_bytes(shape, TrainConfig(activation_checkpointing=again, activation_checkpointing_every=k))
        for again, k in ((False, 1), (True, 1), (True, 2))
    )
    kept, gradients = 48.5 * 8192, 20 * 8192
    assert none == pytest.approx(80 * kept + gradients)
    assert every == pytest.approx(80 * 2 * 8192 + kept + gradients)
    assert half == pytest.approx(40 * 2 * 8192 + 40 * kept + gradients)  # the last layer, the 79th from 0, keeps its own
