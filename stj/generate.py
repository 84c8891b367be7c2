"""What a stage may ask of a model: the `Generate` protocol, and the values it takes and gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from stj.errors import ConfigError
from stj.rows import Turn


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one completion is sampled (the paper's Table 8)."""

    temperature: float = 0.7
    """Temperature of sampling, 0 or more; 0 is greedy."""
    top_p: float = 0.9
    """Sample from the most probable tokens whose probabilities sum to this share, above 0 and up to 1."""
    max_tokens: int = 1024
    """Longest completion, in tokens. A judgment that is cut there has no verdict."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature={self.temperature}: must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p}: must be a share above 0, up to 1")
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens={self.max_tokens} tokens: must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model wrote."""

    text: str
    finish_reason: str
    """"stop" where the model ended by itself, "length" where it was cut."""
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an engine has done since it started, for whatever requests: in tokens."""

    prompt_tokens: int = 0
    """Of all prompts, one for each sample."""
    computed_tokens: int = 0
    """Those of them that were computed; the others lay in the prefix cache."""
    output_tokens: int = 0
    """Those of requests that were aborted too, as of the engine's last answer."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})


class Generate(Protocol):
    """What a stage has of a model."""

    async def __call__(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """One completion for one list of messages.

        Raises PromptTooLong where the model's context leaves no room, and RequestFailed where the engine refused.
        """

    async def room(self) -> None:
        """Returns when the engine could take one more request that makes no other wait; never, where nobody knows."""


class Engine(Protocol):
    """A model that is loaded and answers."""

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion: ...

    @property
    def usage(self) -> Usage: ...

    def close(self) -> None: ...
