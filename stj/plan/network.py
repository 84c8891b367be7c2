"""The traffic of a ZeRO-3 micro-step over the network, and how much longer than its arithmetic the micro-step takes.

What a machine sends, and receives, in a micro-step of R ranks. P are all parameters, T the trained ones:

    weights      2P (R-1)/R bytes for each time that they are gathered; ZeRO-3 gathers them two or three times (`gathers`)
    gradients    4T (R-1)/R bytes if they are exchanged in fp32; in bf16 2T (N-1)/N of N machines, which first sum their own

A ring of all ranks enters and leaves each machine once, so the number of ranks on a machine does not matter. With a second copy
of the weights on each machine (hpZ of ZeRO++, arXiv 2306.10209), only the first gathering of a step uses the network.

While a layer computes, DeepSpeed gathers the next one and sums the gradients of the last one. So a micro-step takes the longer
of arithmetic and network, and a part of the shorter. That part, `_EXPOSED`, and the micro-step at which arithmetic slows down,
`_SHORT_TOKENS`, come from published runs of FSDP on wide networks, which moves the same bytes. docs/costs.md has the runs, and
tests/plan/test_network.py checks the model on narrow networks.
"""

from dataclasses import dataclass

from stj.cluster_config import HardwareConfig
from stj.errors import ConfigError
from stj.models.shapes import Shape
from stj.models.zero import ZeroSizes
from stj.plan.memory import GB
from stj.plan.offload import HostTimes
from stj.plan.ranks import Ranks
from stj.plan.training import GRADIENT_BYTES, trained_parameters
from stj.train_config import TrainConfig

_EXPOSED = 0.3
"""Share of the shorter of arithmetic and network that does not hide behind the longer."""
_SHORT_TOKENS = 600
"""Tokens of a micro-step at which arithmetic takes twice its time: matrix products are too small to fill the GPU."""
_LINE_SHARE = 0.8
"""Share of a link's speed that collectives reach with large messages."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes of a micro-step in each direction, the mean over the micro-steps of a step."""

    weights: float
    """Weights that each machine sends to other machines."""
    gradients: float
    """Gradients that each machine sends to other machines."""
    inside: float
    """What each GPU sends to GPUs of its machine."""
    gathers: float
    """How often all weights are gathered."""

    @property
    def between(self) -> float:
        """All that each machine sends to other machines."""
        return self.weights + self.gradients


@dataclass(frozen=True, kw_only=True)
class MicroStep:
    """Seconds of a micro-step."""

    computing: float
    """Arithmetic alone."""
    sending: float
    """The network alone, or the links inside a machine if they take longer."""
    host: float = 0.0
    """The links to the host alone, with an offloaded optimizer."""
    whole: float

    @property
    def waiting(self) -> float:
        """What network and host add to the arithmetic."""
        return self.whole - self.computing

    @property
    def limits(self) -> dict[str, float]:
        """What each part takes alone, by its name."""
        return {"compute": self.computing, "network": self.sending, "host": self.host}


def gathers(shape: Shape, train: TrainConfig) -> float:
    """How often a micro-step gathers all weights.

    Once forward and once backward. Backward computes a layer again first: if the layer is larger than DeepSpeed keeps for its
    reuse, it is gathered a third time. The last layers are gathered once: as many as DeepSpeed keeps beside the layer at work.
    """
    layer = shape.layer_parameters(shape.experts)
    sizes = ZeroSizes.of(layer, train)
    again = train.activation_checkpointing and layer > sizes.stage3_max_reuse_distance
    times = 3 if again else 2
    kept = min(max(layer, sizes.stage3_max_live_parameters - layer), shape.parameters)
    return times - (times - 1) * kept / shape.parameters


def traffic(shape: Shape, train: TrainConfig, ranks: Ranks) -> Traffic:
    """The traffic of a micro-step; a single machine sends nothing to others."""
    times = gathers(shape, train)
    weights = 2.0 * shape.parameters * ranks.others
    gradients = GRADIENT_BYTES[train.gradient_dtype] * trained_parameters(shape, train) * _summed_by(train, ranks)
    summed = 4.0 * trained_parameters(shape, train) * ranks.others
    alone = ranks.machines == 1
    copied = train.shard_within_machine and ranks.machines < ranks.count
    outside = 1 / train.gradient_accumulation if copied else times
    return Traffic(
        weights=0.0 if alone else outside * weights,
        gradients=0.0 if alone else gradients,
        inside=times * weights + summed,
        gathers=times,
    )


def _summed_by(train: TrainConfig, ranks: Ranks) -> float:
    """The share of gradients that leaves a machine. In bf16, machines send only their sums."""
    return (ranks.machines - 1) / ranks.machines if train.gradient_dtype == "bf16" else ranks.others


def micro_step(shape: Shape, train: TrainConfig, hardware: HardwareConfig, text: float) -> MicroStep:
    """The time of a micro-step of `train.max_num_tokens` tokens, packed from texts of `text` tokens.

    Raises ConfigError if the ranks need several machines and the network between them is not known.
    """
    flops, ranks = train.max_num_tokens * _token_flops(shape, train, text), Ranks.of(train, hardware)
    host = HostTimes.of(trained_parameters(shape, train), ranks.machines, train, hardware).exchange
    return _timed(shape, flops, traffic(shape, train, ranks), train, hardware, host)


def update(shape: Shape, train: TrainConfig, hardware: HardwareConfig) -> MicroStep:
    """The time of an update by the host, in which GPUs wait; 0 if the optimizer is on the GPUs, where it takes some ms."""
    machines = Ranks.of(train, hardware).machines
    seconds = HostTimes.of(trained_parameters(shape, train), machines, train, hardware).update
    return MicroStep(computing=0.0, sending=0.0, host=seconds, whole=seconds)


def reading_step(shape: Shape, train: TrainConfig, hardware: HardwareConfig, text: float) -> MicroStep:
    """The same for a forward pass alone, as of the reference of a preference loss: it gathers the weights once.

    Raises ConfigError, as `micro_step`.
    """
    ranks = Ranks.of(train, hardware)
    weights = 2.0 * shape.parameters * ranks.others
    moved = Traffic(weights=0.0 if ranks.machines == 1 else weights, gradients=0.0, inside=weights, gathers=1.0)
    return _timed(shape, train.max_num_tokens * _forward_flops(shape, text), moved, train, hardware)


def _timed(
    shape: Shape, flops: float, moved: Traffic, train: TrainConfig, hardware: HardwareConfig, host: float = 0.0
) -> MicroStep:
    speed = hardware.gpu_tflops * 1e12 * hardware.training_share
    computing = flops / speed * (1 + _SHORT_TOKENS / train.max_num_tokens)
    hidden, exposed = _sending(shape, moved, train, hardware)
    inside = moved.inside / (hardware.nvlink_gbs * GB * _LINE_SHARE)
    beside = max(hidden, host)  # on links of their own, at the same time
    overlapped = max(computing, beside) + _EXPOSED * min(computing, beside)
    return MicroStep(
        computing=computing, sending=max(hidden + exposed, inside), host=host, whole=max(overlapped, inside) + exposed
    )


def _forward_flops(shape: Shape, text: float) -> float:
    """Attention is counted over the whole text, as in PaLM (arXiv 2204.02311, appendix B)."""
    return 2 * shape.active_parameters + 4 * shape.layers * shape.heads * shape.head_dim * text


def _token_flops(shape: Shape, train: TrainConfig, text: float) -> float:
    """FLOPs of a trained token in a text of this length: forward, backward, and what is computed again.

    A frozen parameter takes one product less, because nothing computes its gradient.
    """
    frozen = 2 * shape.active_parameters if train.lora else 0
    adapters = 2 * trained_parameters(shape, train) if train.lora else 0
    return (3 + _recomputed_share(shape, train)) * (_forward_flops(shape, text) + adapters) - frozen


def _recomputed_share(shape: Shape, train: TrainConfig) -> float:
    """Share of the layers that backward computes again."""
    if not train.activation_checkpointing:
        return 0.0
    return -(-shape.layers // train.activation_checkpointing_every) / shape.layers


def network_seconds(sent: float, hardware: HardwareConfig, machines: int) -> float:
    """Seconds in which each machine sends this many bytes to other machines; 0 on one machine.

    Raises ConfigError if there are several machines and the network between them is not known.
    """
    if machines == 1:
        return 0.0
    if hardware.network_gbs is None:
        raise ConfigError(
            f"hardware.network_gbs=null GB/s: the run takes {machines} machines of {hardware.gpus} GPUs ({hardware.name}). Set "
            "it to what a machine sends to others: 12.5 for Ethernet of 100 Gbit/s, 400 for EFA or InfiniBand of 3,200 Gbit/s "
            "(conf/hardware has more)"
        )
    return sent / (hardware.network_gbs * GB * _LINE_SHARE)


def _sending(shape: Shape, moved: Traffic, train: TrainConfig, hardware: HardwareConfig) -> tuple[float, float]:
    """Seconds of the network that may hide behind arithmetic, and seconds that cannot, by the settings of DeepSpeed."""
    ranks = Ranks.of(train, hardware)
    weights = network_seconds(moved.weights, hardware, ranks.machines)
    gradients = network_seconds(moved.gradients, hardware, ranks.machines)
    ahead = ZeroSizes.of(shape.layer_parameters(shape.experts), train).stage3_prefetch_bucket_size
    overlapped = train.deepspeed.get("zero_optimization", {}).get("overlap_comm") is not False
    hidden = weights * (ahead > 0) + gradients * overlapped
    return hidden, weights + gradients - hidden
