"""What would leave less GPU time idle: settings are changed one by one, and the iteration is planned again with each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from stj.config import Config
from stj.models.shapes import shape_of
from stj.plan.places import machines_of, training_machines
from stj.plan.ranks import uneven
from stj.plan.training import training_plan

_WORTH = 0.004
"""Share of GPU time that a change must save to be named."""
_RARER = 4
_FASTER = 4
_FASTEST_GBS = 50
"""GB/s: more than a machine gets from any store of 2026, so nobody is advised to look for it."""

IdleShare = Callable[[Config], float | None]
"""The idle share of the planned iteration of a config."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change of settings, and the idle share of the iteration with it."""

    change: str
    idle_share: float

    def words(self) -> str:
        """This remedy in words."""
        return f"{self.change}: {self.idle_share:.1%}"


def remedies(config: Config, idle_share: IdleShare) -> tuple[Remedy, ...]:
    """The changes that help, the best first, and at the end all of them together, if they fit together."""
    before = idle_share(config)
    if before is None:
        return ()
    helping: list[tuple[float, str, Callable[[Config], Config]]] = []
    for change, changed in _changes(config):
        after = idle_share(changed(config))
        if after is not None and after < before - _WORTH:
            helping.append((after, change, changed))
    helping.sort(key=lambda remedy: remedy[0])
    better = config
    for _, _, changed in helping:
        better = changed(better)
    together = idle_share(better)
    listed = [Remedy(change=change, idle_share=after) for after, change, _ in helping]
    fit = _training_fits(better) or not _training_fits(config)
    if len(listed) > 1 and together is not None and fit:
        listed.append(Remedy(change="all of these", idle_share=together))
    return tuple(listed)


def _changes(config: Config) -> Iterator[tuple[str, Callable[[Config], Config]]]:
    """Changes of a setting, or of two that go together, in words and as a function; none that its GPUs have no memory for."""
    train, hardware = config.train, config.hardware
    every, fetch = train.checkpoint_every_steps * _RARER, hardware.fetch_gbs * _FASTER
    yield f"train.checkpoint_every_steps={every}", _in_train(checkpoint_every_steps=every)
    rounded, copied = _in_train(gradient_dtype="bf16"), _in_train(shard_within_machine=True)
    if train.gradient_dtype == "fp32" and not uneven(rounded(config).train, hardware):
        yield "train.gradient_dtype=bf16", rounded
    if not train.shard_within_machine and training_machines(config) > 1 and _training_fits(copied(config)):
        yield "train.shard_within_machine=true", copied
    if train.gradient_accumulation % 2 == 0 and train.objective == "sft":  # the same step in fewer and longer micro-steps
        tokens, steps = train.max_num_tokens * 2, train.gradient_accumulation // 2
        longer = _in_train(max_num_tokens=tokens, gradient_accumulation=steps)
        if _training_fits(longer(config)):
            yield f"train.max_num_tokens={tokens} with train.gradient_accumulation={steps}", longer
    if fetch <= _FASTEST_GBS:
        yield (
            f"run_root and the hub at {fetch:g} GB/s (hardware.fetch_gbs)",
            lambda before: replace(before, hardware=replace(before.hardware, fetch_gbs=fetch)),
        )
    gpus = machines_of(config) * hardware.gpus
    if train.workers < gpus:
        yield f"train.workers={gpus}", _in_train(workers=gpus)
    if config.engine.max_replicas < gpus:
        yield f"engine.max_replicas={gpus}", lambda before: replace(before, engine=replace(before.engine, max_replicas=gpus))


def _in_train(**changed: object) -> Callable[[Config], Config]:
    return lambda config: replace(config, train=replace(config.train, **changed))  # type: ignore[arg-type]


def _training_fits(config: Config) -> bool:
    shape = shape_of(config.models.seed)
    return shape is not None and training_plan(shape, config).fits
