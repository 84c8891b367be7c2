"""The arrows of the house: which room may import which, read from the source files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "stj"

# Who may import these, anywhere in a file; they take seconds to import, or mean a GPU or a cluster.
HEAVY = {
    "ray": {"session.py", "passes.py", "capacity.py", "blockstats.py", "metrics.py", "train/launch.py", "train/gauges.py"},
    "vllm": {"engine/vllm.py"},
    "torch": {"train/", "mini/seed.py"},
    "deepspeed": {"train/"},
    "datasets": {"sources/hub.py"},
    "fastapi": {"serve.py"},
}

# What each room may import of stj itself, beside what lies in the same room. The order is from the bottom to the top.
BASE = {"errors", "verdict", "rows", "randomness", "prompts"}
ENGINE = BASE | {"engine"}
SETTINGS = ENGINE | {"config", "storage", "artifacts", "models", "chat"}
ROOMS = {
    "errors": set(),
    "verdict": set(),
    "randomness": set(),
    "prompts": {"verdict"},
    "rows": {"verdict"},
    "chat": {"errors", "rows"},
    "engine": BASE | {"config", "models", "chat"},
    "config": {"engine", "errors", "rows"},
    "load": {"config", "errors"},
    "stamp": set(),
    "storage": {"errors", "stamp"},
    "artifacts": {"errors", "storage"},
    "models": {"artifacts", "config", "errors", "stamp", "storage"},
    "stages": BASE | {"engine", "config"},
    "sources": BASE | {"config", "storage"},
    "train": BASE | {"progress", "config", "stamp", "storage", "artifacts", "models", "chat"},
    "evals": BASE | {"storage"},
    "benchmarks": BASE | {"config", "storage", "artifacts", "sources", "evals"},
    "show": BASE | {"artifacts"},
    "mini": BASE,
    "plan": SETTINGS | {"sources"},
    "judge": SETTINGS | {"stages", "sources"},
    "reward": {"judge"},
    "jury": {"verdict", "evals"},
    "judge_file": SETTINGS | {"stages", "sources", "session", "lease", "passes", "jury"},
    "serve": SETTINGS | {"stages", "judge"},
    "session": {"config", "errors"},
    "finished": set(),
    "sorting": {"rows", "storage"},
    "ledger": ENGINE | {"storage"},
    "progress": ENGINE,
    "metrics": {"progress"},
    "commit": SETTINGS | {"finished", "ledger"},
    "capacity": {"errors"},
    "blockstats": set(),
    "ward": {"ledger", "stages"},
    "passes": SETTINGS | {"stages", "ward", "finished", "ledger", "progress", "metrics", "commit", "capacity", "blockstats"},
    "run": SETTINGS | {"stages", "sources", "benchmarks"},
    "status": SETTINGS | {"run", "load"},
    "lease": {"errors", "storage"},
    "outcome": SETTINGS | {"run", "stages", "evals", "progress"},
    "examples": SETTINGS | {"run", "outcome", "sorting", "stages"},
    "selection": SETTINGS | {"run", "stages", "sources", "passes", "train", "evals"},
    "iterate": SETTINGS
    | {"run", "status", "session", "lease", "outcome", "passes", "examples", "selection", "stages", "train", "evals"},
    "score": BASE | {"benchmarks", "evals"},
    "compare": BASE | {"artifacts", "benchmarks", "evals"},
    "evaluate": SETTINGS | {"benchmarks", "stages", "passes", "session", "lease"},
    "cli": SETTINGS
    | {"load", "iterate", "run", "status", "show", "plan", "mini", "progress"}
    | {"benchmarks", "score", "compare", "evaluate", "judge_file", "serve"},
}


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names if node.module == "stj")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_only_where_they_belong(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    for module in imports(path):
        allowed = HEAVY.get(module.split(".")[0])
        if allowed is not None:
            assert any(place == room or (room.endswith("/") and place.startswith(room)) for room in allowed), (
                f"{place} imports {module}"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_downward(path: Path) -> None:
    place = path.relative_to(PACKAGE)
    room = place.parts[0].removesuffix(".py")
    assert room in ROOMS, f"{place}: a room that tests/test_layers.py does not know"
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "stj" and len(parts) > 1 and parts[1] not in {room, "__version__"}:
            assert parts[1] in ROOMS[room], f"{place} imports {module}"
            if parts[1] == "engine" and room in {"stages", "config"}:
                assert module == "stj.engine", f"{place} imports {module}: what a stage may ask, not who answers"


def test_no_room_imports_itself_through_others() -> None:
    """The rooms form no circle, but for the pair config and engine: a config holds Sampling, an engine is configured."""
    below = {room: set(ROOMS[room]) for room in ROOMS}
    below["engine"] -= {"config", "models"}
    while below:
        ground = {room for room, needed in below.items() if not needed & below.keys()}
        assert ground, f"a circle among {sorted(below)}"
        below = {room: needed for room, needed in below.items() if room not in ground}
