"""Sphinx's settings. `make docs` builds the pages into docs/_build/html, without network; a warning is an error."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "_ext")]

from stj import __version__  # noqa: E402  (the path must be set first)

project = "stj"
author = "the stj maintainers"
project_copyright = "the stj maintainers; Apache-2.0"
release = version = __version__
html_title = f"stj {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "repository_links"]
exclude_patterns = ["_build", "README.md"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
default_role = "literal"  # docstrings write `name` for code
nitpick_ignore_regex = [
    ("py:.*", r"(?!stj\.).*"),  # other projects' pages are on the network
    ("py:.*", r"stj\.(\w*config|model_settings|generate|engine|verdict|rows)\..*"),  # settings have their own page
]

highlight_language = "text"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["stj.css"]
html_copy_source = False
html_show_sphinx = False
