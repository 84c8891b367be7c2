"""A small real HTTP server that speaks chat completions, or misbehaves as a test asks."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-secret-0123456789"


@dataclass
class Reply:
    """What the server sends: a body, or less than it promises, late, or nothing at all."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0
    torn: bool = False
    """Break off in the middle of the body."""
    drip: bool = False
    """Send a byte at a time and never end."""


def said(text: str | None, finish_reason: str | None = "stop", **message: Any) -> Reply:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return Reply({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage})


def refused(status: int, message: str, code: str | None = None, param: str | None = None, **headers: str) -> Reply:
    """An error in OpenAI's form."""
    error = {"message": message, "type": "error", "code": code, "param": param}
    return Reply({"error": error}, status, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class Api:
    """A running server: its address, and the bodies, keys and accounts of all requests."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    accounts: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0


@contextmanager
def api(answer: Callable[[dict[str, Any], int], Reply]) -> Iterator[Api]:
    """Serves `answer(body, number of the request)` on a port of this machine."""
    lock = threading.Lock()
    open_requests = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal open_requests
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                open_requests += 1
                running.most_at_once = max(running.most_at_once, open_requests)
                number = len(running.requests)
                running.requests.append(body)
                running.keys.append(self.headers.get("Authorization"))
                running.accounts += [self.headers.get(f"OpenAI-{name}") for name in ("Organization", "Project")]
                running.times.append(time.monotonic())
            reply = answer(body, number)
            time.sleep(reply.wait_s)
            with lock:
                open_requests -= 1  # before the client has its answer, and sends another request
            with suppress(BrokenPipeError, ConnectionResetError):
                self._send(reply)

        def _send(self, reply: Reply) -> None:
            is_text = isinstance(reply.body, str | bytes)
            content = reply.body if is_text else json.dumps(reply.body)
            data = content.encode() if isinstance(content, str) else content
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if reply.torn:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                return
            for start in range(len(data)) if reply.drip else ():
                self.wfile.write(data[start : start + 1])
                time.sleep(0.05)
            if not reply.drip:
                self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Prints nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients may break off."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Api(url=f"http://127.0.0.1:{server.server_address[1]}/v1")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
