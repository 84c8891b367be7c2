"""What the hub's client logs: a line for a retry, once, and never the signature of an address."""

import logging
import re

_REQUESTS = ("httpx", "httpx2")  # The HTTP libraries that the client happens to use.
_SIGNED = re.compile(r"\?\S+")  # With the signature in the address of a file anyone may write or read it.


def quiet_hub() -> None:
    """Keeps the hub's client from logging every request, signed addresses, and each line twice.

    The client has a handler of its own and also hands its lines to the root logger's. Where that has one, ours is enough.
    """
    import huggingface_hub.utils.logging  # noqa: F401  # adds the handler

    for name in _REQUESTS:
        logging.getLogger(name).setLevel(logging.WARNING)
    client = logging.getLogger("huggingface_hub")
    if logging.getLogger().handlers:
        for handler in [handler for handler in client.handlers if type(handler) is logging.StreamHandler]:
            client.removeHandler(handler)
    logging.getLogger("huggingface_hub.utils._http").addFilter(_without_signature)


def unsigned(text: str) -> str:
    """A text without what follows the question mark in its addresses."""
    return _SIGNED.sub("?...", text)


def _without_signature(record: logging.LogRecord) -> bool:
    record.msg, record.args = unsigned(record.getMessage()), ()
    return True
