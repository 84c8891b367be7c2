"""The model on its ranks: ZeRO-3 in bf16 with fp32 master weights, partitioned while it loads."""

from pathlib import Path

import deepspeed
import torch
from deepspeed.utils import set_z3_leaf_modules
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.integrations import HfDeepSpeedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from stj.errors import ModelError
from stj.train import attention
from stj.train.adapters import trained
from stj.train.deepspeed_private import drop_frozen_weights_with_their_layer, machine_groups, sum_gradients_by_machine
from stj.train.flops import numel
from stj.train.head import SupervisedHead
from stj.train.kernels import check_fused_everywhere, fuse
from stj.train.zero import deepspeed_settings, machine_size, ranks_sharing
from stj.train_config import TrainConfig


class PackedJudge(torch.nn.Module):
    """A causal language model on packed rows; it returns log-probabilities of the supervised tokens, not logits."""

    def __init__(self, language_model: PreTrainedModel) -> None:
        super().__init__()
        self.language_model = language_model
        self.head = SupervisedHead(language_model.get_output_embeddings())
        self.attention: str = language_model.config._attn_implementation

    def forward(
        self, *, inputs: Tensor, positions: Tensor, lengths: tuple[int, ...], learned: Tensor, targets: Tensor
    ) -> Tensor:
        """Log-probability (S,) in fp32 of each target, for the fields of a `PackedRow`."""
        within_texts = attention.boundaries(lengths, self.attention, inputs.device)
        decoder = self.language_model.base_model
        hidden = decoder(
            input_ids=inputs, position_ids=positions, use_cache=False, **within_texts
        ).last_hidden_state  # (1, T, H)
        attention.check_attended(within_texts, self.language_model)
        logps: Tensor = self.head(hidden[0, learned], targets)
        return logps


def load_engine(directory: Path, config: TrainConfig, dtype: torch.dtype = torch.bfloat16) -> deepspeed.DeepSpeedEngine:
    """The seed model under DeepSpeed, with adapters if the config asks for them.

    A rank never holds more of a dense model than its part and the current layer. While a mixture of experts loads, each rank
    holds all of it in host memory. transformers puts the experts of a layer together before ZeRO-3 takes its part. Only tests
    of the gradients use fp32.
    """
    # DeepSpeed compiles its shared-memory collectives (a minute of g++) if it finds a compiler; gloo needs none
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    size = machine_size(config)
    sharing = ranks_sharing(config, size)
    sum_gradients_by_machine(machine_groups(size) if config.gradient_dtype == "bf16" else None)
    settings = deepspeed_settings(config, dtype, sharing=sharing)
    keep = HfDeepSpeedConfig(settings)  # from_pretrained partitions the weights for as long as this object lives
    model = _from_pretrained(directory, dtype, attention.implementation(config.device))
    del keep
    check_fused_everywhere(fuse(model, config.device))
    if config.lora:
        from stj.train.lora import add_adapters  # peft takes seconds to import, and a training of all weights needs none

        add_adapters(model, config.lora, config.seed)
        # A frozen embedding's output asks for no gradient. A checkpointed layer computes one only if its input asks for it, and
        # otherwise ZeRO-3's hook on a layer's backward pass runs before that pass.
        model.enable_input_require_grads()
    if config.activation_checkpointing:
        # Not the non-reentrant kind: it compares shapes of what it recomputes, and ZeRO-3 shows it partitioned weights.
        model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": True}, every_n_layers=config.activation_checkpointing_every
        )
    _gather_by_layer(model)
    drop_frozen_weights_with_their_layer()
    judge = PackedJudge(model).train()
    settings = deepspeed_settings(config, dtype, layer=largest_layer(model), sharing=sharing)
    engine, *_ = deepspeed.initialize(model=judge, model_parameters=list(trained(judge)), config=settings)
    return engine


def _from_pretrained(directory: Path, dtype: torch.dtype, attend: str) -> PreTrainedModel:
    """The model with this attention. Raises ModelError if its class has a fixed list of attentions, as GPT-J's."""
    try:
        return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation=attend, trust_remote_code=False)
    except KeyError as error:
        if error.args != (attend,):
            raise
    raise ModelError(f"model {directory}: its class in transformers takes no attention of packed rows: use a newer model")


def _gather_by_layer(model: PreTrainedModel) -> None:
    """Has ZeRO-3 gather the weights of a layer at once, and sum its gradients at once.

    By default it does so module by module, a dozen in a layer. Its Python around them takes about 30 ms a layer and
    micro-batch, so the GPU of an 8B waited a third of the time.
    """
    if kinds := {type(layer) for layer in _layers(model)}:
        set_z3_leaf_modules(model, list(kinds))


def largest_layer(model: PreTrainedModel) -> int:
    """Parameters of the model's largest layer; whole ones, even if ZeRO-3 holds only parts of them on this rank."""
    return max((sum(map(numel, layer.parameters())) for layer in _layers(model)), default=0)


def _layers(model: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
