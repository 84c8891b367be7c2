"""Says that a Ray cluster wants a token, before Ray joins it: Ray tries for 20 s, and then says that it failed to connect."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from ray.exceptions import AuthenticationError

from stj.errors import ConfigError
from stj.passes.ray_private import token_header

log = logging.getLogger(__name__)

_MODE, _TOKEN, _PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_MODES = ("token", "disabled")
_HOW = f"Set {_MODE}=token, and give the cluster's token in {_TOKEN}, in a file that {_PATH} names, or in ~/.ray/auth_token"
_CALLS = {"": "/ray.rpc.NodeInfoGcsService/GetClusterId", "ray://": "/ray.rpc.RayletDriver/ClusterInfo"}
"""Calls that a cluster answers only to those who have its token, by the scheme of its address."""
_TIMEOUT_S = 5
_FOR_OTHERS = 0o077
_NO_PROXY = ("grpc.enable_http_proxy", 0)  # As Ray: a proxy may not reach the cluster, and would see the token.


def check_auth_mode() -> None:
    """Raises ConfigError if the variable that turns Ray's tokens on has a wrong value: Ray takes any as `disabled`."""
    mode = os.environ.get(_MODE)
    if mode is not None and mode.lower() not in _MODES:
        raise ConfigError(f"{_MODE}={mode}: must be token or disabled; Ray would take it as disabled")


def check_token(address: str) -> None:
    """Raises ConfigError if the cluster at host:port, or at ray://host:port, wants a token that Ray would not send.

    The message never holds the token.
    """
    if not _refuses(address, {}):
        return
    if os.environ.get(_MODE, "").lower() != "token":
        mode = os.environ.get(_MODE, "not set")
        raise ConfigError(f"ray.address={address}: this cluster wants a token, and {_MODE} is {mode}. {_HOW}")
    header = checked_header(address)
    if _refuses(address, header):
        raise ConfigError(f"ray.address={address}: this cluster wants another token than that of {_origin()}. {_HOW}")


def checked_header(address: str) -> dict[str, str]:
    """The header with Ray's token. Raises ConfigError if there is none, or if its file cannot be read."""
    try:
        return token_header()
    except AuthenticationError as error:
        raise no_token(address, error) from None
    finally:
        _warn_of_readers()


def no_token(address: str, error: AuthenticationError) -> ConfigError:
    """The error for a token that is missing or cannot be read."""
    path = os.environ.get(_PATH)
    cause = f"the file {path} cannot be read, or is empty" if path and path in str(error) else "there is none"
    return ConfigError(f"ray.address={address}: Ray needs the cluster's token, and {cause}. {_HOW}")


def _refuses(address: str, header: Mapping[str, str]) -> bool:
    """Whether the cluster refuses a call with this header for its token; not if it answers, or not at all."""
    import grpc  # it takes 0.2 s

    scheme = "ray://" if address.startswith("ray://") else ""
    with grpc.insecure_channel(address.removeprefix(scheme), [_NO_PROXY]) as channel:
        try:
            channel.unary_unary(_CALLS[scheme])(b"", timeout=_TIMEOUT_S, metadata=list(header.items()))
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAUTHENTICATED)
    return False


def _origin() -> str:
    return _TOKEN if os.environ.get(_TOKEN) else str(_file())


def _file() -> Path:
    return Path(os.environ.get(_PATH) or Path.home() / ".ray" / "auth_token")


def _warn_of_readers() -> None:
    """Warns if other users of the machine can read the token: it lets them run code on the cluster."""
    file = _file()
    if not os.environ.get(_TOKEN) and file.is_file() and file.stat().st_mode & _FOR_OTHERS:
        log.warning("%s: other users can read the cluster's token; chmod 600 it", file)
