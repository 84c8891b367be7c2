"""The page: one document with its style and its script, and nothing of the pairs, which it asks the server for."""

from functools import cache

from stj.viewing.assets import asset, content_policy, filled


@cache
def page() -> str:
    """The page."""
    return filled(_asset("page.html"), {"policy": policy(), "style": _style(), "script": _asset("annotate.js")})


@cache
def policy() -> str:
    """The Content-Security-Policy of the page."""
    return content_policy(script=_asset("annotate.js"), style=_style(), connect="'self'")


def _style() -> str:
    return asset("base.css") + _asset("annotate.css")


def _asset(name: str) -> str:
    return asset(name, __package__)
