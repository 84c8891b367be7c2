"""What a stage may ask of a model: the `Generate` protocol, its arguments and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Protocol

from stj.errors import ConfigError
from stj.rows import Turn
from stj.thoughts import Reply

_HOTTEST = 2  # vLLM, like OpenAI's API, refuses requests above it.


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one completion is sampled (the paper's Table 8)."""

    temperature: float = 0.7
    """Temperature of sampling, from 0 to 2; 0 is greedy."""
    top_p: float = 0.9
    """Sample from the most probable tokens whose probabilities sum to this share, above 0 and up to 1."""
    max_tokens: int = 1024
    """Longest completion, in tokens; the thought of a thinking model counts. A judgment that is cut there has no verdict."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= _HOTTEST:
            raise ConfigError(f"temperature={self.temperature}: must be 0 (greedy) to {_HOTTEST}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p}: must be a share above 0, up to 1")
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens={self.max_tokens} tokens: must be 1 or more")

    def greedy(self) -> "Sampling":
        """The same sampling at temperature 0: the model always takes the likeliest token."""
        return replace(self, temperature=0.0, top_p=1.0)


@dataclass(frozen=True, kw_only=True)
class TracedSampling(Sampling):
    """Sampling that also asks for the tokens of the answer, and the likeliest tokens in the place of each."""

    choices: int = 0
    """How many likeliest tokens to give at each place; 0 gives no tokens at all."""


@dataclass(frozen=True, kw_only=True)
class SeededSampling(TracedSampling):
    """Sampling whose random numbers come from a seed of the request alone, not from the engine's own generator."""

    seed: int
    """From 0 to 2^53."""


class Token(NamedTuple):
    """One token that a model wrote."""

    text: str
    choices: tuple[tuple[str, float], ...]
    """Texts and probabilities of the likeliest tokens in its place and of itself, before temperature and top_p."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer of a model."""

    thought: str = ""
    """What a thinking model wrote before its answer, with its tags (stj/thoughts.py)."""
    text: str
    """The answer, behind the thought."""
    finish_reason: str
    """"stop" if the model ended its answer, "length" if max_tokens cut it, or if it ended inside its thought. From an API also
    "refusal" if the model refuses, and "content_filter" if a filter does."""
    prompt_tokens: int
    output_tokens: int
    """Tokens of the thought and the answer."""
    tokens: tuple[Token, ...] = ()
    """The tokens of thought and answer, if TracedSampling asked for them."""

    @classmethod
    def of(
        cls, reply: Reply, *, finish_reason: str, prompt_tokens: int, output_tokens: int, tokens: tuple[Token, ...] = ()
    ) -> "Completion":
        """The completion of an engine's reply. A thought that is not closed counts as cut, even if the model ended it."""
        return cls(
            thought=reply.thought,
            text=reply.text,
            finish_reason="length" if finish_reason == "stop" and not reply.closed else finish_reason,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            tokens=tokens,
        )

    @property
    def evidence(self) -> str:
        """What the model wrote, to show why a row was dropped: the answer, or the thought if there is no answer."""
        return self.text or self.thought

    @property
    def refused(self) -> bool:
        """Whether the text is no answer but a refusal, or what a filter has left."""
        return self.finish_reason in ("refusal", "content_filter")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The tokens that an engine has processed since it started, over all requests."""

    prompt_tokens: int = 0
    """Tokens of all prompts; a prompt counts once for each of its samples."""
    computed_tokens: int = 0
    """Prompt tokens that the engine computed; the others came from its prefix cache."""
    output_tokens: int = 0
    """Tokens written up to the engine's last answer, including those of aborted requests."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})


class Generate(Protocol):
    """A model as a stage sees it."""

    async def __call__(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """One completion for one list of messages.

        Raises PromptTooLong if the model's context leaves no room, and RequestFailed if the engine refuses.
        """

    async def room(self) -> None:
        """Returns when the engine has room for a request that delays no other; waits forever if nobody watches the engine."""


class Engine(Protocol):
    """A loaded model that answers requests."""

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion: ...

    @property
    def usage(self) -> Usage: ...

    def close(self) -> None: ...
