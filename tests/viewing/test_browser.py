"""The page in a real browser: Debian's Chromium, without a window."""

import html
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stj.viewing.index import Index
from stj.viewing.page import one_file
from stj.viewing.place import sources_of
from stj.viewing.server import ViewServer

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.engine,  # a browser takes a second to start
    pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine"),
]


@pytest.fixture
def url(run: Path) -> Iterator[str]:
    with ViewServer("a run", Index(sources_of(str(run), None))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.url
        server.shutdown()


def opened(address: str, profile: Path) -> str:
    """The document after its scripts have run."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=5000", "--dump-dom", address], capture_output=True, text=True, timeout=60, check=True
    )
    assert 'data-ready="true"' in done.stdout, done.stdout[-2000:]
    return done.stdout


def listed(document: str) -> list[str]:
    return [html.unescape(row).rpartition("/")[2] for row in re.findall(r"<span>([^<]*)</span></a></li>", document)]


@pytest.mark.parametrize("kind", ["served", "one file"])
def test_the_page_lists_filters_and_opens_rows(kind: str, url: str, run: Path, tmp_path: Path) -> None:
    address = url
    if kind == "one file":
        (tmp_path / "page.html").write_text(one_file("a run", Index(sources_of(str(run), None))), encoding="utf-8")
        address = f"file://{tmp_path}/page.html"
    wrong = opened(f"{address}#outcome=wrong&agreement=gained", tmp_path / "browser")
    assert listed(wrong) == ["wrong"]
    assert ">verdict B: wrong<" in wrong
    assert ">verdict A: right<" in wrong  # by M_1
    assert "<mark>[[B]]</mark>" in wrong
    hostile = opened(f"{address}#row=heldout%2Fhostile", tmp_path / "browser")
    assert len(listed(hostile)) == 7
    assert "<title>stj view: a run</title>" in hostile
    assert "&lt;img src=x onerror=" in hostile
    assert "<img" not in hostile.partition("<script")[0].partition("<article")[2]
