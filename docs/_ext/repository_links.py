"""Links between the repository's files: each leads somewhere, and on the built site a source file opens as a page.

Sphinx checks the links between the pages of docs/. This module checks the links of all Markdown files that people read,
including those that GitHub shows. If a page links a file outside docs/, the site gets a page with that file's text. Nothing
needs the network.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_LINK = re.compile(r"!?\[(?:[^\[\]]|\\.)*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~|:::).*?^\1", re.MULTILINE | re.DOTALL)
_OUTSIDE_PAGE = re.compile(r"\]\((\.\./[\w./-]+\.md)(?:#[\w-]+)?\)")
_FAR = ("http://", "https://", "mailto:")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".toml": "toml", ".md": "markdown", ".txt": "text"}
_SHOWN = "_repository/"
log = logging.getLogger(__name__)


def markdown_files(root: Path = ROOT) -> list[Path]:
    """The Markdown files that people read: at the top, in docs/, cluster/, benchmarks/ and .github/."""
    folders = (root, root / "docs", root / "cluster", root / "benchmarks", root / ".github")
    return sorted(file for folder in folders for file in folder.glob("*.md"))


def links_of(page: Path) -> list[str]:
    """Targets of the links and pictures of a page, without those in blocks of code."""
    return _LINK.findall(_FENCE.sub("", page.read_text()))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(root: Path = ROOT) -> Iterator[str]:
    """A line for each link to a file or heading that does not exist."""
    for page in markdown_files(root):
        for link in links_of(page):
            if not link.startswith(_FAR) and (reason := _broken(page, link, root)):
                yield f"{page.relative_to(root)}: the link {link} {reason}"


def _broken(page: Path, link: str, root: Path) -> str | None:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists():
        return "leads to no file"
    if not target.is_relative_to(root):
        return "leads out of the repository"
    if anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
        return "leads to no heading"
    return None


def _check(app: Sphinx) -> None:
    for line in broken_links():
        log.warning(line)


def _mark_outside_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Makes MyST treat a Markdown file outside docs/ as a file, not as a page of this site."""
    source[0] = _OUTSIDE_PAGE.sub(r"](path:\1)", source[0])


def _link_to_shown_file(app: Sphinx, doctree: nodes.document) -> None:
    """Turns links to the repository's files, which would be downloads, into links to their pages."""
    for node in list(doctree.findall(download_reference)):
        target = (DOCS / node["reftarget"]).resolve()
        if target.is_relative_to(ROOT):
            link = nodes.reference("", "", *node.children, refuri=f"{_SHOWN}{target.relative_to(ROOT)}.html", internal=True)
            node.replace_self(link)


def _shown_files(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file outside docs/ that a page links."""
    targets = {
        (DOCS / link.partition("#")[0]).resolve() for page in DOCS.glob("*.md") for link in links_of(page) if link[:3] == "../"
    }
    for target in sorted(filter(Path.is_file, targets)):
        name = str(target.relative_to(ROOT))
        text = app.builder.highlighter.highlight_block(target.read_text(), _LANGUAGES.get(target.suffix, "text"))
        yield f"{_SHOWN}{name}", {"title": name, "body": f"<h1>{name}</h1>{text}"}, "page.html"


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.connect("builder-inited", _check)
    app.connect("source-read", _mark_outside_pages)
    app.connect("doctree-read", _link_to_shown_file)
    app.connect("html-collect-pages", _shown_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
