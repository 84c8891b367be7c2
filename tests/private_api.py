"""Finds names of other packages in their source, without importing them: vLLM takes ten seconds to import.

An upgrade that removes a private API then fails one test with that API's name.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def exists(dotted: str) -> bool:
    """Whether a package defines a dotted name: a module, class, function, parameter, field, or attribute set on `self`.

    The name must be the one of the place that defines it, not of a module that imports it from there.
    """
    package, *names = dotted.split(".")
    spec = find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0])
    while names and (path / names[0]).is_dir():
        path /= names.pop(0)
    if names and (path / f"{names[0]}.py").is_file():
        path /= f"{names.pop(0)}.py"
    source = path if path.is_file() else path / "__init__.py"
    return source.is_file() and _defines(_parsed(source), names)


@cache
def _parsed(source: Path) -> ast.Module:
    return ast.parse(source.read_text())


def _defines(node: ast.AST, names: list[str]) -> bool:
    if not names:
        return True
    return any(_defines(inner, names[1:]) for name, inner in _definitions(node) if name == names[0])


def _definitions(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The names that a module, a class or a function defines, with their nodes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            yield argument.arg, argument
    elif isinstance(node, ast.Module | ast.ClassDef | ast.If | ast.Try):
        for statement in node.body:
            yield from _defined_by(statement)
            if isinstance(node, ast.ClassDef) and isinstance(statement, ast.FunctionDef):
                yield from _set_on_self(statement)


def _defined_by(statement: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement.name, statement
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            if isinstance(target, ast.Name):
                yield target.id, statement
    elif isinstance(statement, ast.If | ast.Try):
        yield from _definitions(statement)


def _set_on_self(method: ast.FunctionDef) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr, node


def private_names(source: Path, package: str) -> set[str]:
    """Private names that a file uses: imports from private modules of a package, and other objects' private attributes."""
    return {name for node in ast.walk(_parsed(source)) for name in _private_names(node, package)}


def _private_names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package and "._" in node.module:
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.startswith(f"{package}.") and "._" in alias.name)
    elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
        yield from [] if ast.unparse(node.value) in ("self", "cls", "os") else [node.attr]
