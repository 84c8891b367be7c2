"""The key of a model behind an API: read from the environment where it is used, and kept nowhere else."""

import os
import re

from stj.config import ModelConfig
from stj.errors import ConfigError

_KEY = re.compile(r"[!-~]+")  # visible ASCII: what a header can hold


def api_key(model: ModelConfig) -> str | None:
    """The key that the model's `key_variable` holds, without white space around it; None if it names no variable.

    Raises ConfigError, without the key, if the variable is not set on this machine or cannot be a key.
    """
    if model.endpoint is None or model.key_variable is None:
        return None
    key = os.environ.get(model.key_variable, "").strip()
    if not key:
        raise ConfigError(
            f"{model.label}: its key_variable={model.key_variable} is not set in the environment of this machine; "
            "export it before the command, and on a cluster before Ray starts on each machine"
        )
    if not _KEY.fullmatch(key):
        raise ConfigError(
            f"{model.label}: the value of {model.key_variable} is not a key; it holds white space or other characters"
        )
    return key
