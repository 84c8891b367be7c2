"""A server of one page, for this machine alone unless an address is given.

It answers only if the Host header names this machine: a page of another site, whose name was made to point here (DNS
rebinding), gets nothing. A server on another address has no known name, so what it serves needs a secret of its own.
"""

import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stj.errors import ConfigError

ADDRESS = "127.0.0.1"
HTML, JSON, PLAIN = "text/html", "application/json", "text/plain"
_LOCAL_NAMES = (ADDRESS, "localhost", "::1")
_EVERY_ADDRESS = ("0.0.0.0", "::", "")
_HTTP_PORT = 80  # Browsers leave it out of the Host header.
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class LocalServer(ThreadingHTTPServer):
    """Listens on one address. Its port is chosen by the system if none is given."""

    daemon_threads = True

    def __init__(self, handler: "type[PageHandler]", port: int = 0, host: str = ADDRESS) -> None:
        self.host = host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), handler)
        except OSError as error:
            raise ConfigError(_refusal(host, port, error)) from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that left before its answer was whole, as each reload does."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in _LOCAL_NAMES

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        host = socket.gethostname() if self.host in _EVERY_ADDRESS else self.host
        return f"http://{_in_address(host)}:{self.server_port}/"

    def knows(self, host: str | None) -> bool:
        """Whether a Host header names this server as its own user does; any name does for one that is not local."""
        if not self.is_local:
            return True
        names = {_in_address(name) for name in _LOCAL_NAMES}
        with_port = {f"{name}:{self.server_port}" for name in names}
        return host in (with_port | names if self.server_port == _HTTP_PORT else with_port)


class PageHandler(BaseHTTPRequestHandler):
    """Answers with the headers that keep a page to itself."""

    server: LocalServer
    server_version, sys_version = "stj", ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds without a request, after which a connection is closed

    def policy(self) -> str:
        """The Content-Security-Policy of every answer."""
        raise NotImplementedError

    def host_is_known(self) -> bool:
        """Whether the request is meant for this server; if not, it has got its answer."""
        known = self.server.knows(self.headers.get("Host"))
        if not known:
            self.send_content(HTTPStatus.MISDIRECTED_REQUEST, b"this server answers only to 127.0.0.1 and localhost", PLAIN)
        return known

    def send_content(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        """Sends a whole answer."""
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Security-Policy": f"{self.policy()}; frame-ancestors 'none'"}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal shows only where the page is."""


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _refusal(host: str, port: int, error: OSError) -> str:
    if host != ADDRESS and isinstance(error, socket.gaierror):
        return f"--host {host}: no address of this machine: {error.strerror}; leave it out to serve this machine alone"
    place = f"--port {port}" if host == ADDRESS else f"--host {host} --port {port}"
    return f"{place}: cannot be used: {error.strerror}; leave it out to take a free one"
