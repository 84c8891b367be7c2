"""The page in a real browser: Debian's Chromium, without a window."""

import html
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

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
        [*command, "--virtual-time-budget=5000", "--dump-dom", address], capture_output=True, text=True, timeout=600, check=True
    )
    assert 'data-ready="true"' in done.stdout, done.stdout[-2000:]
    return done.stdout


def listed(document: str) -> list[str]:
    return [html.unescape(row).rpartition("/")[2] for row in re.findall(r"<span>([^<]*)</span></a></li>", document)]


def test_the_served_page_filters_rows(url: str, tmp_path: Path) -> None:
    document = opened(f"{url}#outcome=wrong&agreement=gained", tmp_path / "browser")
    assert listed(document) == ["wrong"]
    assert ">verdict B: wrong<" in document
    assert ">verdict A: right<" in document  # by M_1
    assert "<mark>[[B]]</mark>" in document
    assert "1 of 7 rows" in document


def test_the_page_of_one_file_opens_the_row_that_its_address_names(run: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(one_file("a run", Index(sources_of(str(run), None))), encoding="utf-8")
    document = opened(f"file://{tmp_path}/page.html#row=heldout%2Fhostile", tmp_path / "browser")
    assert len(listed(document)) == 7
    assert "<title>stj view: a run</title>" in document  # the row's scripts did not run
    shown = document.partition("<article")[2].partition("</article>")[0]
    assert "&lt;img src=x onerror=" in shown
    assert "<img" not in shown


def test_a_search_in_the_page_of_one_file_looks_at_texts_alone(run: Path, tmp_path: Path) -> None:
    """Not at the names of fields, and across a verdict that is marked."""
    (tmp_path / "page.html").write_text(one_file("a run", Index(sources_of(str(run), None))), encoding="utf-8")
    for text, rows in (("finish", 0), ("judgments", 0), ("were read. [[B]]", 5), ("SING", 1)):
        document = opened(f"file://{tmp_path}/page.html#{urlencode({'text': text})}", tmp_path / "browser")
        assert f">{rows} of 7 rows" in document, text
