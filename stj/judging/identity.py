"""What makes two judges the same judge: the weights, the prompt, and how votes are asked and read.

A calibration holds for one judge. Its results carry the fingerprint of these facts, so that no result of another judge is
corrected with it.
"""

from dataclasses import replace
from typing import Any

from stj.config import ModelConfig
from stj.models.config_json import within_context
from stj.models.locate import loading_settings, model_identity
from stj.storage.artifacts import Key, plain
from stj.use_config import VoteConfig

REMEDY = "use the settings of the calibration, or calibrate this judge with `stj calibrate`"


def model_facts(model: ModelConfig) -> dict[str, Any]:
    """The weights of a model, and the settings that change its answers. Raises ModelError if it is missing."""
    model = within_context(model)
    return {"weights": model_identity(model), **loading_settings(model)}


def judge_facts(model: dict[str, Any], vote: VoteConfig) -> Key:
    """The facts of a judge with these settings. A greedy judgment uses only `max_tokens` of its decoding."""
    asked = vote if vote.votes > 1 else replace(vote, decoding=vote.decoding.greedy())
    variant = vote.words
    return {"model": model, "vote": plain(asked.key) | {"prompt": variant.name}, "prompts": dict(variant.hashes)}
