"""The settings page, from the dataclasses of stj/config.py: a line `% settings: Config` in a page becomes their fields.

The docstring under a field is read with `ast`, its default from an instance, its type as the source writes it. So the page
cannot differ from the code.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from stj import config as config_module
from stj.config import Config, UseConfig

_MARK = "% settings: "
_SCHEMAS: dict[str, tuple[type, str]] = {"Config": (Config, ""), "UseConfig": (UseConfig, "use-")}  # with a prefix of anchors


@cache
def _class_body(cls: type) -> tuple[list[ast.stmt], str]:
    """Statements of a class, and its source."""
    source = textwrap.dedent(inspect.getsource(cls))
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    return tree.body, source


def field_docs(cls: type) -> dict[str, tuple[str, str]]:
    """For each field its type, as the source writes it, and the docstring under it; empty if it has none."""
    body, source = _class_body(cls)
    docs: dict[str, tuple[str, str]] = {}
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        is_doc = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        doc = inspect.cleandoc(str(following.value.value)) if is_doc else ""  # type: ignore[union-attr]
        docs[statement.target.id] = (ast.get_source_segment(source, statement.annotation) or "", " ".join(doc.split()))
    return docs


def default_of(field: "Field[Any]") -> Any:
    """The default of a field, made if it has a factory."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def as_yaml(value: object) -> str:
    """A value as it is written in a YAML file."""
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


class Reference:
    """The Markdown of one config. A class of settings is explained once, where it comes first."""

    def __init__(self, anchor: str) -> None:
        self._anchor = anchor
        self._explained: dict[type, str] = {}

    def lines(self, schema: type) -> Iterator[str]:
        """The config's own fields, then a section for each group of settings."""
        groups = [field for field in fields(schema) if is_dataclass(default_of(field))]
        yield from self._fields(schema, "", [field for field in fields(schema) if field not in groups])
        docs = field_docs(schema)
        for field in groups:
            yield f"### {field.name}\n"
            yield from self._group(field.name, default_of(field), docs[field.name][1])

    def _group(self, key: str, default: Any, doc: str) -> Iterator[str]:
        """What a group is, its fields, and the groups inside it."""
        cls = type(default)
        if cls in self._explained:
            yield from _like_another(key, default, doc, self._explained[cls])
            return
        self._explained[cls] = key
        yield f"{doc} {inspect.cleandoc(cls.__doc__ or '')}\n".lstrip()
        inner = [field for field in fields(cls) if is_dataclass(getattr(default, field.name))]
        yield from self._fields(cls, f"{key}.", [field for field in fields(cls) if field not in inner], default)
        docs = field_docs(cls)
        for field in inner:
            name, value = f"{key}.{field.name}", getattr(default, field.name)
            if type(value) not in self._explained:
                yield f"#### {name}\n"
            yield from self._group(name, value, docs[field.name][1])

    def _fields(self, cls: type, prefix: str, members: "list[Field[Any]]", instance: Any = None) -> Iterator[str]:
        """Fields as a list of definitions: name, type, default, docstring."""
        docs = field_docs(cls)
        for field in members:
            kind, doc = docs[field.name]
            value = default_of(field) if instance is None else getattr(instance, field.name)
            name = f"{prefix}{field.name}"
            anchor = self._anchor + name.replace(".", "-")
            yield f"[`{name}`]{{#{anchor}}} · {_type_words(kind)} · default `{as_yaml(value)}`"
            yield f": {doc}\n" if doc else ""


def _like_another(name: str, value: Any, doc: str, like: str) -> Iterator[str]:
    """A group whose fields are explained already: its defaults if they differ from the class's own."""
    differing = {
        field.name: getattr(value, field.name)
        for field in fields(value)
        if getattr(value, field.name) != default_of(field) and not is_dataclass(getattr(value, field.name))
    }
    listed = ", ".join(f"`{key}: {as_yaml(item)}`" for key, item in differing.items())
    defaults = f" Its own defaults: {listed}." if listed else ""
    yield f"`{name}`"
    yield f": {doc}{' ' if doc else ''}Fields as in `{like}`.{defaults}\n"


def _type_words(kind: str) -> str:
    """A type for a reader of YAML: the values of a Literal, `float or null`."""
    resolved = str(getattr(config_module, kind)) if kind in ("PromptName", "Objective") else kind
    words = resolved.replace("typing.", "").replace("'", '"').replace(" | None", " or null")
    if words.startswith("Literal["):
        return " or ".join(f"`{value.strip()}`" for value in words[len("Literal[") : -1].replace('"', "").split(","))
    return words.replace("tuple[str, ...]", "list of str").replace("tuple[float, float]", "two floats")


def _insert_settings(app: Sphinx, page: str, source: list[str]) -> None:
    for name, (schema, anchor) in _SCHEMAS.items():
        mark = _MARK + name
        if mark in source[0]:
            source[0] = source[0].replace(mark, "\n".join(Reference(anchor).lines(schema)))
            app.env.note_dependency(str(Path(config_module.__file__)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.connect("source-read", _insert_settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
