"""Who answered the questions of a run's sources, under names that others know: no path of a machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stj.models.hub import is_hub_id

_ASKING = ("gsm8k", "questions")


def public_name(location: object) -> str:
    """A model or data set for others: its id on the hub, or the last part of its path; empty if there is none."""
    if not isinstance(location, str) or not location:
        return ""
    return location if is_hub_id(location) else Path(location.rstrip("/")).name


def model_name(model: object) -> str:
    """A model of a run's config for others; of one behind an API its name there."""
    settings = model if isinstance(model, Mapping) else {}
    return str(settings.get("name") or "") or public_name(settings.get("path"))


def policies_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The model that sampled the answers to questions, by the name of their source in `preferences`.

    It is the generator if the source names none. Sources of given pairs have no policy.
    """
    generator = (config.get("models") or {}).get("generator")
    sources = [source for source in config.get("preferences") or () if source.get("kind") in _ASKING]
    return {source.get("name") or source["kind"]: model_name(source.get("model") or generator) for source in sources}
