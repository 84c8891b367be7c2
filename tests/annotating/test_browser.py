"""The page in a real browser: labels by keyboard, hostile texts, a restart, a change, two tabs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stj.annotating.server import AnnotateServer
from stj.annotating.session import shown_text
from tests.annotating.browser import CHROMIUM, Browser, Tab, browser
from tests.annotating.conftest import DIALOGUE, lines_of, open_pair, session_of, write_pairs
from tests.viewing.conftest import HOSTILE

pytestmark = [
    pytest.mark.engine,  # a browser takes a second to start
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    hostile = {"instruction": HOSTILE, "chosen": f"{HOSTILE} good", "rejected": f"{HOSTILE} bad"}
    long = open_pair(1, instruction=DIALOGUE, response_a="word " * 100_000)
    return write_pairs(tmp_path / "pairs.jsonl", [hostile, long, *(open_pair(n) for n in range(2, 5))])


@contextmanager
def serving(pairs: Path, name: str | None = None) -> Iterator[str]:
    """The address of a server that runs until the block ends."""
    with AnnotateServer(session_of(pairs, pairs.with_name("labels.jsonl")), name) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.url
        server.shutdown()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


def opened(chromium: Browser, url: str) -> Tab:
    tab = chromium.opened(url)
    tab.wait("document.body?.dataset.ready")
    return tab


def press(tab: Tab, key: str) -> None:
    """Presses a key that the page answers, and waits for its answer."""
    turn = tab.value("document.body.dataset.ready")
    tab.key(key)
    tab.wait(f"![undefined, {turn!r}].includes(document.body.dataset.ready)")


def text(tab: Tab, name: str) -> str:
    return str(tab.value(f"document.getElementById('{name}').innerText"))


def focused(tab: Tab) -> str:
    return str(tab.value("document.activeElement.id"))


def labels(pairs: Path) -> list[tuple[str, str]]:
    """The annotator and the text that each line calls better, or the label that is neither."""
    better = {"A": "response_a", "B": "response_b"}
    lines = lines_of(pairs.with_name("labels.jsonl"))
    return [(line["annotator"], line[better[line["label"]]] if line["label"] in better else line["label"]) for line in lines]


def test_pairs_are_labelled_by_keyboard_and_a_restart_continues(chromium: Browser, pairs: Path) -> None:
    said = []
    with serving(pairs) as url:
        tab = opened(chromium, url)
        assert focused(tab) == "name"
        for letter in "Ada":
            tab.key(letter)
        press(tab, "Enter")
        for number, key in enumerate(("1", "ArrowRight"), start=1):
            assert text(tab, "place") == f"Pair {number} of 5"
            assert focused(tab) == "place"
            said.append(str(tab.value(f"document.querySelectorAll('.response')[{number - 1}].textContent")))
            press(tab, key)
        third = text(tab, "turns")
        assert text(tab, "status") == "2 of 5 labelled. The last: response 2 is better."
    with serving(pairs) as url:
        tab = opened(chromium, url)
        for letter in "Ada":
            tab.key(letter)
        press(tab, "Enter")
        assert (text(tab, "place"), text(tab, "turns")) == ("Pair 3 of 5", third)
        press(tab, "Backspace")
        assert (text(tab, "place"), text(tab, "status")) == ("Pair 2 of 5", "2 of 5 labelled. You said: response 2 is better.")
        assert tab.value("document.querySelector('[aria-pressed=true]').dataset.choice") == "2"
        press(tab, "t")
        assert text(tab, "place") == "Pair 3 of 5"
        for key in ("u", "0", "b"):
            press(tab, key)
        assert text(tab, "place") == "All 5 pairs"
        assert tab.value("document.querySelector('[data-choice]').disabled")
        press(tab, "z")
        assert text(tab, "place") == "Pair 5 of 5"
        tab.value("location.reload()")
        tab.wait("document.body?.dataset.ready && !document.getElementById('done').hidden")  # the tab remembers the name
        assert text(tab, "who").split() == ["as", "Ada", "change"]
    kept = labels(pairs)
    assert [who for who, _ in kept] == ["Ada"] * 6
    assert [shown_text(better) for _, better in kept[:2]] == said
    assert [label for _, label in kept[2:5]] == ["tie", "unsure", "tie"]


def test_hostile_texts_are_shown_as_text(chromium: Browser, pairs: Path) -> None:
    with serving(pairs, "Ada") as url:
        tab = opened(chromium, url)
        for _ in range(5):
            if "script" in text(tab, "turns"):
                break
            press(tab, "u")
        codes = HOSTILE.replace("\u202e", "\\u202e").replace("\x00", "\ufffd").replace("\u2028", "\\u2028")
        assert tab.value("document.getElementById('turns').textContent") == codes
        responses = {tab.value(f"document.getElementById('response-{n}').textContent") for n in (1, 2)}
        assert responses == {f"{codes} good", f"{codes} bad"}
        assert tab.value("document.querySelectorAll('main img, main script, main b').length") == 0
        assert tab.value("document.title") == "stj annotate"  # the scripts did not run


def test_a_dialogue_is_shown_turn_by_turn_and_long_responses_scroll_side_by_side(chromium: Browser, pairs: Path) -> None:
    with serving(pairs, "Ada") as url:
        tab = opened(chromium, url)
        tab.command("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
        for _ in range(5):
            if text(tab, "asked") == "Dialogue":
                break
            press(tab, "u")
        assert text(tab, "turns").split("\n\n") == [part for turn in DIALOGUE for part in (turn["role"], turn["content"])]
        box = "document.getElementById('response-{}').getBoundingClientRect()"
        assert tab.value(f"{box.format(1)}.right < {box.format(2)}.left && {box.format(2)}.bottom < innerHeight")
        long = "[...document.querySelectorAll('.response')].find((box) => box.textContent.length > 1000)"
        assert tab.value(f"{long}.textContent").endswith("… (+300,000 characters)")
        tab.key("ArrowDown")
        tab.wait(f"{long}.scrollTop > 0")
        tab.command("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        tab.wait(f"{box.format(1)}.bottom < {box.format(2)}.top")
        assert tab.value("document.documentElement.scrollWidth <= 390")


def test_a_second_tab_neither_loses_nor_doubles_a_label(chromium: Browser, pairs: Path) -> None:
    with serving(pairs, "Ada") as url:
        first, second = opened(chromium, url), opened(chromium, url)
        press(first, "1")
        press(second, "2")
        assert text(second, "alert").startswith("The pair before was labelled in another tab, and that label was kept.")
        assert text(second, "place") == "Pair 2 of 5"
        press(second, "1")
        press(first, "t")
        assert text(first, "place") == "Pair 3 of 5"
        assert len(labels(pairs)) == 2
        first.command("Page.close")
        second.command("Page.close")


def test_a_second_press_of_a_key_does_not_label_the_next_pair(chromium: Browser, pairs: Path) -> None:
    with serving(pairs, "Ada") as url:
        tab = opened(chromium, url)
        turn = tab.value("document.body.dataset.ready")
        for _ in range(3):
            tab.key("1")
        tab.wait(f"![undefined, {turn!r}].includes(document.body.dataset.ready)")
        assert text(tab, "place") == "Pair 2 of 5"
        assert len(labels(pairs)) == 1


def test_what_is_not_saved_is_said(chromium: Browser, pairs: Path) -> None:
    out = pairs.with_name("labels.jsonl")
    with serving(pairs, "Ada") as url:
        tab = opened(chromium, url)
        out.write_text("no label\n")
        press(tab, "1")
        assert "labels.jsonl, line 1: no line of `stj annotate`" in text(tab, "alert")
        tab.command("Network.enable")
        network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        tab.command("Network.emulateNetworkConditions", offline=True, **network)
        press(tab, "1")
        assert text(tab, "alert").startswith("The server does not answer: is it still running? Your label may not be saved")
        assert text(tab, "place") == "Pair 1 of 5"
        tab.command("Network.emulateNetworkConditions", offline=False, **network)
        out.write_text("")
        press(tab, "1")
        assert (text(tab, "alert"), text(tab, "place")) == ("", "Pair 2 of 5")
        assert len(labels(pairs)) == 1


def test_an_address_without_its_token_shows_no_pair(chromium: Browser, pairs: Path) -> None:
    with serving(pairs, "Ada") as url:
        address = url.partition("#")[0]
        for token, message in (
            ("", "Open the address as the terminal shows it"),
            ("#guess", "this is not the server's address"),
        ):
            tab = opened(chromium, f"{address}{token}")
            assert text(tab, "alert").startswith(message)
            assert tab.value("document.getElementById('pair').hidden")
