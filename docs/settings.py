"""The settings page, docs/settings.md, from the dataclasses of stj/config.py and stj/use_config.py.

    python docs/settings.py       writes the page

The docstring under a field is read with `ast`, its default from an instance, its type as the source writes it. So the page
says what the code says. tests/test_docs.py fails if the page is older than the code.
"""

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_origin

from stj.config import Config, EngineConfig, installed_engine
from stj.use_config import AnnotateConfig, MergeConfig, UseConfig

PAGE = Path(__file__).with_name("settings.md")
COMMAND = ".venv/bin/python docs/settings.py"

_BEGINNING = """\
<!-- Do not edit: docs/settings.py makes this page from stj/config.py and stj/use_config.py. -->

# Settings

Every setting is a field of a dataclass: those of a run in [stj/config.py](../stj/config.py) and the files that it
imports, those of a judge in use in [stj/use_config.py](../stj/use_config.py). This page is made from them.

A YAML file sets fields by group, nested (`train: {lr: 1e-6}`) or flat (`train.lr: 1e-6`). `key=value` on the command line wins.
The type of a field says how its value is read. Text stays as it is written: `run_root: 2024_05_01`, `revision: 8601e45` and
`id_field: no` need no quotes. In a word of the command line, text is everything behind the equals sign. `null`, `~` and nothing
are no value. `${seed}` names another setting. The defaults are the paper's numbers (Tables 7 and 8).
A file in `conf/` holds only what differs. An unknown key is refused, with the nearest known one.

```bash
stj run conf/mini.yaml judge.samples=8 train.lr=1e-6 select.categories=null
```

## A run

For `stj run`, `stj iterate`, `stj plan`, `stj status` and `stj eval`.
"""
_JUDGE_IN_USE = """\
## A judge in use

For `stj judge`, `stj grade` and `stj serve`. `model=PATH` is short for `model.path=PATH`. The defaults of `engine` follow the
installed vLLM: on a CPU build they are `device: cpu`, `kv_cache_gib: 1` and `enforce_eager: true`.
"""

_MERGE = """\
## A merge

For `stj merge`. See [Merging two judges](training.md#merging-two-judges).
"""

_ANNOTATE = """\
## Labels by people

For `stj annotate`. See [Annotating](annotating.md).
"""


def page() -> str:
    """The whole page as Markdown."""
    run = Reference("")
    lines = [_BEGINNING, *run.lines(Config), _JUDGE_IN_USE]
    lines += [*Reference("use-", run.explained).lines(UseConfig), _MERGE]
    lines += [*Reference("merge-").lines(MergeConfig), _ANNOTATE]
    return "\n".join([*lines, *Reference("annotate-").lines(AnnotateConfig)])


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
    """The default of a field, made if it has a factory; that of an engine is the same here for every installed vLLM."""
    if field.default_factory is installed_engine:
        return EngineConfig()
    return field.default_factory() if field.default_factory is not MISSING else field.default


def named_in(cls: type, name: str) -> Any:
    """What a name means in the file of a class, or of one that it extends; None if it means nothing there."""
    return next((value for base in cls.__mro__ if (value := vars(sys.modules[base.__module__]).get(name))), None)


def optional_group(kind: str, cls: type) -> type | None:
    """The class of settings that a type like `LoraConfig | None` names in a class; None for other types."""
    name, _, rest = kind.partition(" | ")
    group = named_in(cls, name)
    return group if rest == "None" and is_dataclass(group) and isinstance(group, type) else None


def list_group(kind: str, cls: type) -> type | None:
    """The class of settings that a type like `list[PairSource]` names in a class; None for other types."""
    group = named_in(cls, kind.removeprefix("list[").removesuffix("]")) if kind.startswith("list[") else None
    return group if is_dataclass(group) and isinstance(group, type) else None


def as_yaml(value: object) -> str:
    """A value as it is written in a YAML file."""
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


class Reference:
    """The Markdown of one config. A class of settings is explained once, where it comes first."""

    def __init__(self, anchor: str, explained: Mapping[type, tuple[str, Any]] | None = None) -> None:
        self._anchor = anchor
        self.explained = dict(explained or {})
        """For each class that is explained, the group that explains it: its name and its defaults."""

    def lines(self, schema: type) -> Iterator[str]:
        """The config's own fields, then a section for each group of settings that is new.

        A section begins with the class's docstring alone: the one under the field says the same in fewer words.
        """
        groups = [field for field in fields(schema) if is_dataclass(default_of(field))]
        lists = [field for field in fields(schema) if list_group(field_docs(schema)[field.name][0], schema)]
        yield from self._fields(schema, "", [field for field in fields(schema) if field not in [*groups, *lists]])
        known = [field for field in groups if type(default_of(field)) in self.explained]
        docs = field_docs(schema)
        for field in known:
            yield from self._group(field.name, default_of(field), docs[field.name][1])
        for field in (field for field in groups if field not in known):
            yield f"### {field.name}\n"
            yield from self._group(field.name, default_of(field), "")
        for field in lists:
            kind, doc = docs[field.name]
            member = list_group(kind, schema)
            assert member, f"{kind} is no list of groups"
            yield f"### {field.name}\n"
            yield f'<a id="{self._anchor}{field.name}"></a>{doc} Each member of the list has these settings.\n'
            yield from self._group(f"{field.name}[]", member(), "")

    def _group(self, key: str, default: Any, doc: str) -> Iterator[str]:
        """What a group is, its fields, and the groups inside it."""
        cls = type(default)
        if cls in self.explained:
            yield from _like_another(key, default, doc, *self.explained[cls])
            return
        self.explained[cls] = key, default
        yield f"{doc} {inspect.cleandoc(cls.__doc__ or '')}\n".lstrip()
        docs = field_docs(cls)
        optional = {field.name: optional_group(docs[field.name][0], cls) for field in fields(cls)}
        lists = {field.name: list_group(docs[field.name][0], cls) for field in fields(cls)}
        inner = [field for field in fields(cls) if is_dataclass(getattr(default, field.name)) or lists[field.name]]
        yield from self._fields(cls, f"{key}.", [field for field in fields(cls) if field not in inner], default)
        for field in fields(cls):
            name = f"{key}.{field.name}"
            if member := lists[field.name]:
                yield f"#### {name}\n"
                anchor = self._anchor + name.replace(".", "-")
                yield f'<a id="{anchor}"></a>{docs[field.name][1]} Each member of the list has these settings.\n'
                yield from self._group(f"{name}[]", member(), "")
                continue
            group = optional[field.name]
            value = group() if group else getattr(default, field.name)
            if not is_dataclass(value):
                continue
            if type(value) not in self.explained:
                yield f"#### {name}\n"
            yield from self._group(name, value, "" if group else docs[field.name][1])

    def _fields(self, cls: type, prefix: str, members: "list[Field[Any]]", instance: Any = None) -> Iterator[str]:
        """Fields as a list: name, type, default, and the docstring below. Each has an anchor, on GitHub too."""
        docs = field_docs(cls)
        for field in members:
            kind, doc = docs[field.name]
            value = default_of(field) if instance is None else getattr(instance, field.name)
            name = f"{prefix}{field.name}"
            anchor = self._anchor + name.replace("[]", "").replace(".", "-")
            ending = "\\" if doc else ""
            yield f'- <a id="{anchor}"></a>**`{name}`** · {_type_words(kind, cls)} · default `{as_yaml(value)}`{ending}'
            yield f"  {doc}\n" if doc else ""


def _like_another(name: str, value: Any, doc: str, like: str, explained: Any) -> Iterator[str]:
    """A group whose fields are explained already, in the group `like`: the defaults that differ from that group's."""
    names = [field.name for field in fields(value) if getattr(value, field.name) != getattr(explained, field.name)]
    differing = {field: getattr(value, field) for field in names}
    listed = ", ".join(f"`{key}: {as_yaml(item)}`" for key, item in differing.items())
    defaults = f" Defaults that differ: {listed}." if listed else ""
    yield f"- **`{name}`**\\"
    yield f"  {doc}{' ' if doc else ''}Fields as in [`{like}`](#{like.replace('[]', '').replace('.', '')}).{defaults}\n"


def _type_words(kind: str, cls: type) -> str:
    """The type of a field of a class, for a reader of YAML: the values of a Literal, `float or null`."""
    if optional_group(kind, cls):
        return "a group of settings or null"
    name, _, rest = kind.partition(" | ")
    named = named_in(cls, name)
    words = str(named) if get_origin(named) is Literal else name
    words = words.replace("typing.", "").replace("'", '"')
    if words.startswith("Literal["):
        words = " or ".join(f"`{value.strip()}`" for value in words[len("Literal[") : -1].replace('"', "").split(","))
    words += rest.replace("None", " or null")
    return (
        words.replace("tuple[str, ...]", "list of str")
        .replace("tuple[Clue, ...]", "list of str")
        .replace("tuple[float, float]", "two floats")
    )


if __name__ == "__main__":
    PAGE.write_text(page())
