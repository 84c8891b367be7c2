"""Debian's Chromium without a window, driven over a pipe: real keys, in a real page."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# The browser reads commands from descriptor 3 and writes to 4. Pipes that have these numbers are moved out of the way first.
_LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Backspace": 8, "Enter": 13, "Tab": 9}


class NotNow(Exception):
    """The browser refuses a command, for instance while a page is loading."""


class Tab:
    """One tab of a browser."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser = browser
        self._session = session

    def command(self, method: str, **params: Any) -> Any:
        """Sends a command of Chrome's protocol to this tab and returns its result."""
        return self._browser.command(method, self._session, **params)

    def value(self, expression: str) -> Any:
        """The value of an expression of JavaScript; a promise is awaited."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise NotNow(answer)
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until an expression is true. A page that is still loading has nothing in which it could be."""
        deadline = time.monotonic() + 600
        while not self._is_true(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)

    def _is_true(self, condition: str) -> bool:
        try:
            return bool(self.value(condition))
        except NotNow:
            return False

    def key(self, key: str) -> None:
        """Presses and releases a key."""
        event: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": _CODES.get(key, ord(key[0].upper()))}
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.command("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.command("Input.dispatchKeyEvent", type="keyUp", **event)


class Browser:
    """A browser with a profile of its own; what was stored in it is gone with its directory."""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self._commands = commands
        self._answers = answers
        self._number = 0
        self._rest = b""

    def command(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Sends a command and waits for its result; events that come meanwhile are left out."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise NotNow(answer)
                return answer["result"]

    def opened(self, address: str) -> Tab:
        """A new tab at an address."""
        target = self.command("Target.createTarget", url=address)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Tab(self, session)

    def _message(self) -> bytes:
        while b"\0" not in self._rest:
            part = os.read(self._answers.fileno(), 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser that runs until the block ends."""
    assert CHROMIUM
    (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, str(their_read), str(their_write), CHROMIUM, *options, "about:blank"],
        pass_fds=(their_read, their_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_read)
    os.close(their_write)
    with process, open(our_write, "wb", buffering=0) as commands, open(our_read, "rb", buffering=0) as answers:
        try:
            yield Browser(commands, answers)
        finally:
            process.kill()
