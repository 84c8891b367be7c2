"""The model on its ranks: ZeRO-3 in bf16 with fp32 master weights, partitioned while it loads."""

from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.integrations import HfDeepSpeedConfig

from stj.config import TrainConfig
from stj.train import attention
from stj.train.adapters import trained
from stj.train.head import SupervisedHead

_ADAPTERS_BUCKET = 50_000_000
"""Gradients that DeepSpeed sums at once if only adapters have any. A GPU holds this bucket in fp32 all the time: 0.2 GB instead
of the 2 GB of DeepSpeed's default."""
_NEVER = 1 << 30  # Steps between DeepSpeed's own lines: ours say more.


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
        logps: Tensor = self.head(hidden[0, learned], targets)
        return logps


def deepspeed_settings(config: TrainConfig, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    """The settings for DeepSpeed.

    Gradients are summed over ranks and micro-batches in fp32: a third more traffic than bf16, and FSDP's default. The master
    weights are fp32, because at Table 7's learning rate of 1e-6 an update is below what bf16 can add to a weight.
    """
    offload = {"offload_optimizer": {"device": "cpu", "pin_memory": True}} if config.offload == "optimizer" else {}
    bucket = {"reduce_bucket_size": _ADAPTERS_BUCKET} if config.lora else {}
    adamw = {"lr": config.lr, "betas": list(config.betas), "weight_decay": config.weight_decay}  # lr is set at each step
    return {
        "train_micro_batch_size_per_gpu": 1,  # only a label here: a micro-batch is a token budget
        "gradient_accumulation_steps": config.gradient_accumulation,
        "gradient_clipping": config.max_grad_norm or 0.0,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_optimization": {"stage": 3, "overlap_comm": config.device == "gpu", **bucket, **offload},
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW runs on the host too, and needs no compiler there
        "optimizer": {"type": "AdamW", "params": {**adamw, "torch_adam": True, "fused": True}},
        "steps_per_print": _NEVER,
    }


def load_engine(directory: Path, config: TrainConfig, dtype: torch.dtype = torch.bfloat16) -> deepspeed.DeepSpeedEngine:
    """The seed model under DeepSpeed, with adapters if the config asks for them.

    A rank never holds more of a dense model than its part and the current layer. While a mixture of experts loads, each rank
    holds all of it in host memory. transformers puts the experts of a layer together before ZeRO-3 takes its part. Only tests
    of the gradients use fp32.
    """
    # DeepSpeed compiles its shared-memory collectives (a minute of g++) if it finds a compiler; gloo needs none
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    settings = deepspeed_settings(config, dtype)
    keep = HfDeepSpeedConfig(settings)  # from_pretrained partitions the weights for as long as this object lives
    attend = attention.implementation(config.device)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation=attend, trust_remote_code=False)
    del keep
    if config.lora:
        from stj.train.lora import add_adapters  # peft takes seconds to import, and a training of all weights needs none

        add_adapters(model, config.lora, config.seed)
        if config.activation_checkpointing:
            # The reentrant kind computes gradients only if its input asks for one, and a frozen embedding's output does not.
            model.enable_input_require_grads()
    if config.activation_checkpointing:
        # Not the non-reentrant kind: it compares shapes of what it recomputes, and ZeRO-3 shows it partitioned weights.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    judge = PackedJudge(model).train()
    engine, *_ = deepspeed.initialize(model=judge, model_parameters=list(trained(judge)), config=settings)
    return engine
