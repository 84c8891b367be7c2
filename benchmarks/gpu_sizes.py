"""The sizes of what gpu.py measures: the 8B and the 70B on one GPU, or tiny shapes on a CPU."""

from dataclasses import dataclass, replace
from typing import Literal

from stj.cluster_config import HardwareConfig
from stj.config import Config, EngineConfig, ModelConfig
from stj.models.shapes import Shape, shape_of
from stj.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured, and how much of it."""

    device: Literal["gpu", "cpu"]
    small: Shape
    """The model of the engine, and of the first training: Llama-3 8B."""
    large: Shape
    """The model of the second training: Llama-3 70B with a smaller vocabulary."""
    matrix: int
    """Rows and columns of the plain product."""
    products: int = 60
    """Plain products of a measurement: a tenth of a second on an H100."""
    copied: int = 1_000_000_000
    """Numbers in fp32 that are copied to the host: a part of a rank's checkpoint."""
    most_gb: float = 86
    """Memory of the largest card that a training fills: more layers would take more than their share of eight minutes."""
    row_tokens: int = 8192
    """Tokens of a micro-batch, packed."""
    divide: int = 1
    """Divides the paper's lengths of examples."""
    accumulation: int = 8
    """Micro-batches of a step. A rank of the paper's training updates 2.2B parameters a step. Here one GPU updates all that it
    holds, so it does so less often."""
    steps: int = 4
    """Steps of a training; the first one does not count."""
    prompts: int = 512
    """Twice as many as an engine answers at once."""
    prompt_tokens: int = 256
    output_tokens: int = 128
    trials: int = 3
    """Trials at these lengths, besides one that does not count."""
    pairs: int = 48
    """Pairs of the comparison of first_correct with all 15."""
    judgment_tokens: int = 160
    """Median length of their judgments; they are log-normal, with a sigma of 0.5."""
    model_len: int = 4096
    """Context of the engine."""

    def engine(self, *, eager: bool = False) -> EngineConfig:
        """Settings of the engine."""
        return EngineConfig(device=self.device, kv_cache_gib=0.25, enforce_eager=eager or self.device == "cpu")

    def train(self, *, every: int) -> TrainConfig:
        """Settings of a training on this one device; every so many layers, one is recomputed."""
        return TrainConfig(
            device=self.device,
            workers=1,
            max_seq_len=4096 // self.divide,
            max_num_tokens=self.row_tokens,
            gradient_accumulation=self.accumulation,
            activation_checkpointing_every=every,
        )

    def plan_config(self, memory_gb: float, *, every: int) -> Config:
        """The configuration for which the plan is asked."""
        return Config(train=self.train(every=every), hardware=HardwareConfig(gpus=1, gpu_memory_gb=memory_gb))


def sizes(*, tiny: bool) -> Sizes:
    """The sizes for one GPU, or tiny ones for a CPU."""
    if tiny:
        shape = Shape(layers=2, hidden=64, mlp=192, heads=2, kv_heads=1, head_dim=32, vocab=1536)
        return Sizes(
            device="cpu",
            small=shape,
            large=replace(shape, hidden=96, heads=3),
            matrix=256,
            products=2,
            copied=1_000_000,
            row_tokens=512,
            divide=8,
            accumulation=2,
            steps=2,
            prompts=12,
            prompt_tokens=300,
            output_tokens=8,
            trials=2,
            pairs=4,
            judgment_tokens=4,
            model_len=512,
        )
    return Sizes(
        device="gpu",
        small=_shape("meta-llama/Meta-Llama-3-8B-Instruct"),
        large=replace(_shape("meta-llama/Meta-Llama-3-70B-Instruct"), vocab=32_768),
        matrix=8192,
    )


def _shape(name: str) -> Shape:
    shape = shape_of(ModelConfig(path=name))
    assert shape is not None
    return shape
