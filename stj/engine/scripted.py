"""An engine without a model, for tests: a handler writes its answers."""

from collections.abc import Callable, Iterable, Sequence

from stj.generate import Completion, Sampling, Token, TracedSampling, Usage
from stj.rows import Turn
from stj.thoughts import split_thought

Handler = Callable[[Sequence[Turn], Sampling], str]
Trace = Callable[[str], Iterable[Token]]


class ScriptedEngine:
    """Answers each request with `handler(messages, sampling)`. The handler may raise RequestFailed, as an engine does.

    One word is one token. Completions over `sampling.max_tokens` are cut, with finish reason "length". `opens_thought` stands
    for a chat template that opens the thought: the handler's answers then begin inside it. `trace` gives the tokens of an
    answer, for sampling that asks for them.
    """

    def __init__(self, handler: Handler, *, opens_thought: bool = False, trace: Trace | None = None) -> None:
        self._handler = handler
        self._trace = trace
        self._opens_thought = opens_thought
        self.requests: list[tuple[tuple[Turn, ...], Sampling]] = []
        self.usage = Usage()

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """The handler's answer."""
        self.requests.append((tuple(messages), sampling))
        words = self._handler(messages, sampling).split(" ")
        cut = len(words) > sampling.max_tokens
        read, written = sum(len(turn.content.split()) for turn in messages), min(len(words), sampling.max_tokens)
        self.usage += Usage(prompt_tokens=read, computed_tokens=read, output_tokens=written)
        return Completion.of(
            split_thought(" ".join(words[: sampling.max_tokens]), opened=self._opens_thought),
            finish_reason="length" if cut else "stop",
            prompt_tokens=read,
            output_tokens=written,
            tokens=tuple(self._trace(" ".join(words[: sampling.max_tokens]))) if self._trace and _choices(sampling) else (),
        )

    def close(self) -> None:
        """Nothing to release."""


def _choices(sampling: Sampling) -> int:
    return sampling.choices if isinstance(sampling, TracedSampling) else 0
