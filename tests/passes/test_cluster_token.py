"""A cluster that wants a token says so at once, whatever is wrong with the token; no message holds it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from stj.cluster_config import RayConfig
from stj.errors import ConfigError
from stj.passes import cluster_token, session
from stj.passes.cluster import cluster_findings
from tests.conftest import soon

TOKEN = "token-of-the-cluster"


class _Guarded(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers a call of Ray's only with the token, if the cluster wants one."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def service(self, call: Any) -> Any:
        if call.method not in cluster_token._CALLS.values():
            return None
        given = dict(call.invocation_metadata).get("authorization")
        return grpc.unary_unary_rpc_method_handler(self._answer if given == f"Bearer {self._token}" else self._refuse)

    def _answer(self, request: bytes, context: Any) -> bytes:
        return b""

    def _refuse(self, request: bytes, context: Any) -> bytes:
        if self._token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: Authentication token is missing or incorrect")
        return b""


def serving(token: str | None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Guarded(token)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The address of a cluster that wants a token."""
    yield from serving(TOKEN)


@pytest.fixture(autouse=True)
def no_token_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def fake_header(monkeypatch: pytest.MonkeyPatch, header: dict[str, str]) -> None:
    """Ray reads its settings once in a process, so a test says what it would send."""
    monkeypatch.setattr(cluster_token, "token_header", lambda: header)


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("mode", [None, "disabled"])
def test_a_token_that_is_not_sent(guarded: str, scheme: str, mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(ConfigError) as refusal, session.joined_cluster(RayConfig(address=f"{scheme}{guarded}")):
        pass
    line = str(refusal.value)
    assert line.startswith(
        f"ray.address={scheme}{guarded}: this cluster wants a token, and RAY_AUTH_MODE is {mode or 'not set'}. "
    )
    assert "RAY_AUTH_MODE=token, and give the cluster's token in RAY_AUTH_TOKEN" in line
    assert TOKEN not in line


def test_a_wrong_token(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another-secret")
    fake_header(monkeypatch, {"authorization": "Bearer another-secret"})
    with pytest.raises(ConfigError, match=r"this cluster wants another token than that of RAY_AUTH_TOKEN\. ") as refusal:
        cluster_token.check_token(guarded)
    assert "another-secret" not in str(refusal.value)
    fake_header(monkeypatch, {"authorization": f"Bearer {TOKEN}"})
    cluster_token.check_token(guarded)


def test_no_proxy_of_the_environment_is_asked_or_gets_the_token(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray itself asks none."""
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with pytest.raises(ConfigError, match="this cluster wants a token"):
            cluster_token.check_token(guarded)


def test_a_cluster_without_tokens_and_one_that_does_not_answer_are_rays_business() -> None:
    for address in serving(None):
        cluster_token.check_token(address)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster_token._TIMEOUT_S, before = 0.2, cluster_token._TIMEOUT_S
        cluster_token.check_token(f"127.0.0.1:{silent.getsockname()[1]}")
        cluster_token._TIMEOUT_S = before


@pytest.mark.long
def test_a_token_that_ray_cannot_read(guarded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray's own answers, in a process that has read no settings yet."""
    (tmp_path / "empty").touch()
    for path, cause in (
        ("/nowhere", "the file /nowhere cannot be read"),
        (f"{tmp_path}/empty", "is empty"),
        ("", "there is none"),
    ):
        environment = os.environ | {"RAY_AUTH_MODE": "token"} | ({"RAY_AUTH_TOKEN_PATH": path} if path else {})
        program = f"from stj.passes.cluster_token import check_token\ncheck_token({guarded!r})"
        told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=600)
        assert f"ray.address={guarded}: Ray needs the cluster's token, and " in told.stderr
        assert cause in told.stderr


def test_a_file_that_others_can_read_is_warned_of(
    guarded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    fake_header(monkeypatch, {"authorization": f"Bearer {TOKEN}"})
    for mode, warnings in ((0o600, 0), (0o644, 1)):
        file.chmod(mode)
        cluster_token.check_token(guarded)
        assert len(caplog.records) == warnings
    assert f"{file}: other users can read the cluster's token; chmod 600 it" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("mode", ["tokn", "", "true"])
def test_a_mode_that_ray_would_take_as_disabled(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(ConfigError, match=f"RAY_AUTH_MODE={mode}: must be token or disabled"):
        session._connect(RayConfig(address="local"))


def test_auto_is_the_address_that_the_environment_names(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", guarded)
    with pytest.raises(ConfigError, match=f"ray.address={guarded}: this cluster wants a token"):
        session._connect(RayConfig(address="auto"))


def test_doctor_lists_it_as_wrong(guarded: str) -> None:
    (finding,) = cluster_findings(RayConfig(address=guarded), [], None, "runs")
    assert not finding.ok
    assert "wants a token" in finding.words


@pytest.mark.long
def test_a_real_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls that ask are Ray's own, and a new version may answer them to anybody."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    words = ["start", "--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", "--block", "--num-cpus=1"]
    with (tmp_path / "log").open("w") as log:
        ray = str(Path(sys.executable).with_name("ray"))
        head = subprocess.Popen([ray, *words], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        soon(lambda: cluster_token._refuses(address, {}), seconds=60)
        assert cluster_token._refuses(address, {"authorization": "Bearer wrong"})
        assert not cluster_token._refuses(address, {"authorization": f"Bearer {TOKEN}"})
    finally:
        head.terminate()
        head.wait(600)
