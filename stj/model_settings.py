"""The settings of one model: where it lies or is served, how its engine loads it, and what its chat template is given."""

import json
import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from stj.errors import ConfigError
from stj.setting_checks import above_0, at_least, check

Thinking = Literal["auto", "off", "on"]

TEMPLATE_DATE = "2024-07-26"
"""A fixed day: with the clock's, a run that is resumed tomorrow, or the judge that it trained, would see other prompts."""
THINKING_VARIABLE = "enable_thinking"
"""The name that most thinking models' chat templates read."""


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """What a chat template is given besides the messages."""

    thinking: Thinking = "auto"
    """Whether the model thinks before it answers; `auto` leaves it to the template."""
    template_kwargs: str = "{}"
    """More variables of the template, as a JSON object. It is text because options are keys of caches."""
    date: str | None = None
    """What the template takes for today, as 2024-07-26; None leaves it to the clock."""

    @property
    def variables(self) -> dict[str, Any]:
        """The template's variables by name."""
        thinking = {} if self.thinking == "auto" else {THINKING_VARIABLE: self.thinking == "on"}
        kwargs: dict[str, Any] = json.loads(self.template_kwargs)
        return thinking | kwargs


NO_CHAT_OPTIONS = ChatOptions()
"""Leaves everything to the chat template, and the date to the clock."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model and the GPUs of one engine."""

    path: str = ""
    """A local directory, a URI, `package://` and a path inside stj, or the id of a model on the Hugging Face hub. Empty for a
    model behind an API."""
    revision: str | None = None
    """Commit on the hub; `null` is the newest. Set it if you may resume the run after the model has changed there."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Number format in which the engine holds weights and KV cache. Training always uses bfloat16."""
    load_format: Literal["auto", "dummy"] = "auto"
    """`dummy` gives the engine random weights of config.json's shape, and reads no weight files. Its answers are noise, for
    measurements of speed and memory. Training always reads the weights."""
    max_model_len: int = 8192
    """Context of the engine, prompt and answer together, in tokens. A larger context needs more memory for the KV cache."""
    tensor_parallel_size: int = 1
    """Number of GPUs that share each layer; it must divide the model's number of attention heads. A 70B model in bfloat16 (141
    GB) needs 4 GPUs of 80 GB."""
    pipeline_parallel_size: int = 1
    """Groups of GPUs that each hold a part of the layers. An engine takes `tensor_parallel_size` times this many GPUs, of one
    machine."""
    thinking: Thinking = "auto"
    """Whether a thinking model thinks before it answers: `off` and `on` set the chat template's variable `enable_thinking`.
    `auto` leaves it to the template."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict, hash=False)  # A dict has no hash; models need one.
    """More variables of the chat template, as in `{reasoning_effort: low}`. The template must read each of them."""
    template_date: str = TEMPLATE_DATE
    """What a chat template that asks for the date takes for today; the default is the date in Llama 3.1's own template. The
    template of a trained model keeps the date that it was trained with."""

    endpoint: str | None = None
    """In place of `path`: the URL of an OpenAI-compatible API, up to and with its `/v1`. The model runs there, not on the
    cluster."""
    name: str | None = None
    """Only with `endpoint`: the model's name there."""
    key_variable: str | None = None
    """Only with `endpoint`: the environment variable that holds the key; `null` sends no key. A key itself is no setting."""
    requests_per_minute: float | None = None
    """Only with `endpoint`: most requests a minute of a pass, retries included; `null` sets no limit."""
    parallel_requests: int = 32
    """Only with `endpoint`: most requests of a pass at once, and the number of rows in flight."""
    request_timeout_s: float = 600
    """Only with `endpoint`: seconds that the API may take for one answer before the request is sent again."""
    fixed_sampling: bool = False
    """Only with `endpoint`: send neither temperature nor top_p. Some reasoning models refuse them. Greedy judgments are then
    sampled too, as the API chooses."""
    dollars_per_million_prompt_tokens: float | None = None
    """Only with `endpoint`: the API's price in dollars for a million tokens read; `null` shows no costs in dollars."""
    dollars_per_million_output_tokens: float | None = None
    """Only with `endpoint`: the API's price in dollars for a million tokens written; `null` shows no costs in dollars."""

    def __post_init__(self) -> None:
        key = f"model {self.label}: "
        at_least(1, key, self, "max_model_len", "tensor_parallel_size", "pipeline_parallel_size", "parallel_requests")
        above_0(key, self, "requests_per_minute", "request_timeout_s")
        at_least(0, key, self, "dollars_per_million_prompt_tokens", "dollars_per_million_output_tokens")
        check(_is_date(self.template_date), f"{key}template_date={self.template_date}: must be a date, as in 2024-07-26")
        _check_template_kwargs(key, self)
        if self.endpoint is None:
            check(self.name is None, f"{key}name={self.name} names a model behind an API: set endpoint too")
        else:
            _check_endpoint(self)

    @property
    def chat_options(self) -> ChatOptions:
        """What the model's chat template is given besides the messages."""
        kwargs = json.dumps(self.chat_template_kwargs, sort_keys=True)
        return ChatOptions(thinking=self.thinking, template_kwargs=kwargs, date=self.template_date)

    @property
    def gpus(self) -> int:
        """GPUs of one engine; 0 for a model behind an API."""
        return 0 if self.endpoint else self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def label(self) -> str:
        """The model for a reader: its path, or its name and the address of its API."""
        return f"{self.name} at {self.endpoint}" if self.endpoint else self.path

    @property
    def dollars_per_million_tokens(self) -> tuple[float, float] | None:
        """The API's prices for tokens read and written; None unless both are known."""
        read, written = self.dollars_per_million_prompt_tokens, self.dollars_per_million_output_tokens
        return None if self.endpoint is None or read is None or written is None else (read, written)


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_LIKE = re.compile(r"(?=\w*[a-z])(?=\w*[0-9])\w{20}")  # some services' keys could be names: gsk_8aB3...
_NOT_IN_URLS = re.compile(r"[\s\x00-\x1f\x7f]")


def _check_endpoint(model: ModelConfig) -> None:
    """Checks the settings of a model behind an API. The messages never show a value that may be a secret."""
    url = _url(model)
    secret = "@" in url.netloc or url.query or url.fragment
    check(
        not secret,
        f"endpoint of the model {model.name}: holds a user name, a query or a fragment; give only https://HOST/v1, and the key "
        "by the environment variable that key_variable names",
    )
    check(
        url.scheme in ("http", "https") and bool(url.hostname),
        f"endpoint={model.endpoint}: not a URL; give one like https://HOST/v1",
    )
    check(bool(model.name), f"endpoint={model.endpoint}: set name to the name of a model there")
    check(
        model.template_date == TEMPLATE_DATE,
        f"{model.label}: template_date={model.template_date} has no effect: the server writes the prompts. Leave it out",
    )
    check(
        model.load_format == "auto",
        f"{model.label}: load_format={model.load_format} has no effect: the server has loaded the model. Leave it out",
    )
    check(
        not model.path,
        f"model {model.path}: endpoint={model.endpoint} is another place for the same model: keep path or endpoint, and leave "
        "the other out",
    )
    check(
        model.key_variable is None or bool(_VARIABLE.fullmatch(model.key_variable) and not _KEY_LIKE.match(model.key_variable)),
        f"key_variable of {model.label}: not a name of an environment variable, such as API_KEY; the key itself is no setting",
    )


def _url(model: ModelConfig) -> SplitResult:
    """The endpoint in its parts. Raises ConfigError for what is no URL, without showing it: it may hold a secret."""
    endpoint = model.endpoint or ""
    try:
        url = urlsplit(endpoint)
        readable = url.port is None or url.port > 0  # the port is read here, and may be no number
    except ValueError:
        readable = False
    check(
        readable and _NOT_IN_URLS.search(endpoint) is None,
        f"endpoint of the model {model.name}: not a URL; give one like https://HOST/v1 or http://HOST:8000/v1, without blanks",
    )
    return url


def _check_template_kwargs(where: str, model: ModelConfig) -> None:
    kwargs = model.chat_template_kwargs
    for name, value in kwargs.items():
        check(str(name).isidentifier(), f"{where}chat_template_kwargs has '{name}', which no template can read as a name")
        text = value in ("true", "false")  # a template takes any text for true
        check(
            not text,
            f"{where}chat_template_kwargs.{name} is the text '{value}'; write chat_template_kwargs={{{name}: {value}}}",
        )
    try:
        json.dumps(kwargs, allow_nan=False)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}chat_template_kwargs={kwargs}: must hold only text, numbers, lists and mappings") from None
    check(
        model.thinking == "auto" or THINKING_VARIABLE not in kwargs,
        f"{where}thinking={model.thinking} and chat_template_kwargs.{THINKING_VARIABLE} set the same variable; leave one out",
    )


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
