"""The parts of a page in one document: its template, style and script, and the policy that allows nothing else."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files


@cache
def asset(name: str, package: str = __package__) -> str:
    """A file of a package. This one has what all pages share: base.css, the colours and forms."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with each {{ name }} replaced. Values are taken as they are, whatever they hold."""
    parts = template.replace("}}", "{{").split("{{")
    return "".join(values[part.strip()] if place % 2 else part for place, part in enumerate(parts))


def content_policy(*, script: str, style: str, connect: str) -> str:
    """The Content-Security-Policy of a page: this script and this style, by their hashes, and requests to `connect`."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
