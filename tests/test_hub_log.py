"""What the hub's client logs: its lines come once, whether or not the program has a log of its own, and hold no signature."""

import io
import logging

import huggingface_hub.utils.logging
import pytest

from stj.hub_log import quiet_hub

CLIENT = logging.getLogger("huggingface_hub")
REQUESTS = logging.getLogger("huggingface_hub.utils._http")
LINE = "HTTP Error 503 thrown while requesting PUT https://store/x?X-Amz-Signature=abc"


@pytest.fixture
def own_log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the client's own handler prints."""
    stream = io.StringIO()
    monkeypatch.setattr(CLIENT, "handlers", [logging.StreamHandler(stream)])
    monkeypatch.setattr(REQUESTS, "filters", [])
    huggingface_hub.utils.logging.set_verbosity_warning()
    return stream


def test_a_retry_is_one_line_without_the_signature(own_log: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    quiet_hub()
    quiet_hub()
    REQUESTS.warning(LINE)
    REQUESTS.warning("Retrying in %ss [Retry %s/5].", 1, 2)
    assert caplog.messages == [
        "HTTP Error 503 thrown while requesting PUT https://store/x?...",
        "Retrying in 1s [Retry 2/5].",
    ]
    assert own_log.getvalue() == ""


def test_without_a_log_the_clients_own_is_kept(own_log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    quiet_hub()
    REQUESTS.warning(LINE)
    assert own_log.getvalue() == "HTTP Error 503 thrown while requesting PUT https://store/x?...\n"
