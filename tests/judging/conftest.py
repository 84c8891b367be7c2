"""A real server, which the tests of its answers and those of its door ask."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judging.mini_server import mini_server

SEED_MODEL = Path(__file__).parents[2] / "stj/mini/seed_model"
KEY = "secret-of-the-server"
FULL_PRECISION = "model.dtype=float32"
"""Greedy texts repeat. In bf16 they may depend on what a prompt is batched with, because two tokens can be nearly equal."""
CHAT_SETTINGS = ["model.thinking=off", "model.chat_template_kwargs={effort: low}", "model.template_date=2024-03-05"]


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini seed, with a chat template that asks for the date and may think if its system message is "Options".

    It shows a message that comes in parts in another way, as Gemma 4's does. Only its config.json names the token that ends an
    answer.
    """
    folder = tmp_path_factory.mktemp("serve") / "model"
    shutil.copytree(SEED_MODEL, folder, ignore=shutil.ignore_patterns("generation_config.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    template = folder / "chat_template.jinja"
    options = "{{ strftime_now('%d %b %Y') }}{% if enable_thinking is false %} quick{% endif %} {{ effort }}"
    shown = f"{{% if messages[0]['content'] == 'Options' %}}{options}{{% endif %}}"
    parts = (
        "{% for m in messages %}{% if m.content is not string %}{% for p in m.content %}{{ p.text }}, {% endfor %}{% endif %}"
    )
    template.write_text(shown + parts + "{% endfor %}" + template.read_text())
    return folder


@pytest.fixture(scope="package")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server prints."""
    return tmp_path_factory.mktemp("serve") / "log"


@pytest.fixture(scope="package")
def server(model: Path, server_log: Path) -> Iterator[str]:
    """The address of a server with this model and a key: one for all tests, for it takes half a minute to start."""
    with mini_server(server_log, KEY, model, [*CHAT_SETTINGS, FULL_PRECISION]) as address:
        yield address
