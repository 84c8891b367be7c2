"""What the driver shows of a training, from the files that it finds: no Ray and no ranks run in these tests."""

import logging
import os
import pty
import re
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stj.storage.folder import Folder
from stj.text import LiveLine
from stj.train import watch
from stj.train.job import METRICS
from stj.train.progress import EXPORTING, TAKING_STEPS, clear_progress, write_progress, write_restarts
from stj.train.watch import TrainingWatch
from tests.conftest import soon

LINE = (
    '{{"step": {step}, "epoch": 0, "loss": 0.5, "preferred": null, "lr": 1e-06, "grad_norm": 0.8, "tokens_per_s": 8412.3, '
    '"mfu": null}}\n'
)
COLORS = re.compile(r"\x1b\[[0-9;]*m")
SHOWN = "iteration_1/model: step {step}/9 | loss 0.500 | grad_norm 0.80 | lr 1.0e-06 | 8,412 tok/s"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LOOK_S", 0.02)
    monkeypatch.setattr(watch, "_LOOK_IN_STORE_S", 0.02)


def write_steps(folder: Folder, last: int, torn: str = "") -> None:
    folder.write(METRICS, ("".join(LINE.format(step=step) for step in range(1, last + 1)) + torn).encode())


@contextmanager
def watching(folder: Folder, log_every_s: float = 0) -> Iterator[None]:
    training_watch = TrainingWatch("iteration_1/model", folder, LiveLine(), log_every_s)
    try:
        yield
    finally:
        training_watch.close()


def has(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(record.getMessage().startswith(text) for record in list(caplog.records))


@pytest.fixture(params=["disk", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return Folder.at(tmp_path)
    bucket: str = request.getfixturevalue("bucket")
    return Folder.at(bucket) / tmp_path.name


def test_a_log_gets_what_the_ranks_wait_for_then_steps_and_the_last_one_at_the_end(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_steps(folder, 8)  # A killed run: some of these steps are made again.
    with watching(folder):
        assert has(caplog, "iteration_1/model: starting ranks")
        write_progress(folder, "loading the model")
        assert soon(lambda: has(caplog, "iteration_1/model: loading the model"))
        assert not has(caplog, "iteration_1/model: step")
        folder.write(METRICS, b"")
        write_progress(folder, TAKING_STEPS, steps=9)
        assert soon(lambda: has(caplog, "iteration_1/model: waiting for the first step"))
        write_steps(folder, 1)
        assert soon(lambda: has(caplog, SHOWN.format(step=1)))
        write_steps(folder, 2, torn='{"step": 3')
        assert soon(lambda: has(caplog, SHOWN.format(step=2) + " | eta "))
        write_steps(folder, 9)
        write_progress(folder, EXPORTING, steps=9)
        assert soon(lambda: has(caplog, "iteration_1/model: exporting the model"))
    assert caplog.messages[-1].startswith(SHOWN.format(step=9) + " | eta 0s")


def test_a_log_gets_few_lines_but_always_the_first_and_the_last(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folder = Folder.at(tmp_path)
    with watching(folder, log_every_s=3600):
        write_progress(folder, TAKING_STEPS, steps=9)
        write_steps(folder, 9)
    first, last = caplog.messages
    assert (first, last) == ("iteration_1/model: starting ranks", SHOWN.format(step=9))


def test_a_log_gets_a_wait_for_machines_as_soon_as_it_begins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with watching(Folder.at(tmp_path), log_every_s=3600):
        for count in (3, 2, 1):
            write_progress(Folder.at(tmp_path), f"starting ranks: waiting for {count} of 3 ranks")
            time.sleep(0.1)
        assert soon(lambda: has(caplog, "iteration_1/model: starting ranks: waiting for"))
    waits = [record for record in caplog.records if "waiting for" in record.getMessage()]
    assert len(waits) == 1


def test_each_restart_is_one_line_with_its_cause(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    first, second = "ranks restart (attempt 2 of 4) from step 3: rank 1 died", "ranks restart from step 6: rank 0 died"
    write_restarts(folder, ["ranks of an earlier run"])
    clear_progress(folder)
    with watching(folder):
        write_restarts(folder, [first])
        assert soon(lambda: has(caplog, f"iteration_1/model: {first}"))
        write_restarts(folder, [first, second])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"iteration_1/model: {first}", f"iteration_1/model: {second}"]


def test_a_damaged_file_and_a_folder_that_cannot_be_read_do_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = Folder.at(tmp_path)
    (folder / "checkpoints").write("progress.json", b'{"activ')
    with watching(folder):
        write_progress(folder, TAKING_STEPS, steps=9)
        write_steps(folder, 3)
        assert soon(lambda: has(caplog, SHOWN.format(step=3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("checkpoints/restarts.json", '{"restarts": null}'),
        ("checkpoints/restarts.json", '{"restarts": 3}'),
        ("checkpoints/restarts.json", "[]"),
        ("checkpoints/restarts.json", "[" * 100_000),
        ("checkpoints/progress.json", '{"activity": {}}'),
        ("checkpoints/progress.json", "\x00"),
        (METRICS, LINE.format(step="null")),
        (METRICS, LINE.format(step="Infinity")),
        (METRICS, LINE.format(step=4).replace("0.5", "null")),
        (METRICS, LINE.format(step=4).replace("0.5", '"low"')),
        (METRICS, "[]\n"),
        (METRICS, "\n\n"),
        (METRICS, '{"step": 1}\n'),
        (METRICS, "\udcff\n"),
    ],
)
def test_no_content_of_a_file_ends_the_watch_or_the_training(
    name: str, content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = Folder.at(tmp_path)
    with watching(folder):
        write_progress(folder, TAKING_STEPS, steps=9)
        write_steps(folder, 2)
        assert soon(lambda: has(caplog, SHOWN.format(step=2)))
        (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
        time.sleep(0.1)
        write_progress(folder, TAKING_STEPS, steps=9)
        write_steps(folder, 3)
        assert soon(lambda: has(caplog, SHOWN.format(step=3)))
        write_restarts(folder, ["ranks restart"])
    assert "iteration_1/model: ranks restart" in caplog.messages


def test_a_store_that_answers_late_leaves_the_terminal_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    asked, answer = threading.Event(), threading.Event()
    monkeypatch.setattr(watch, "_CLOSE_S", 0.05)
    monkeypatch.setattr(watch._TrainingState, "look", lambda state: asked.set() or answer.wait(600))
    line = LiveLine()
    monkeypatch.setattr(line, "show", shown.append)
    training_watch = TrainingWatch("iteration_1/model", Folder.at(tmp_path), line)
    assert asked.wait(600)
    training_watch.close()
    before = list(shown)
    answer.set()
    training_watch.join(600)
    assert shown == before


def test_on_a_terminal_one_line_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    master, slave = pty.openpty()
    screen: list[bytes] = []

    def shows(text: str) -> bool:
        if select.select([master], [], [], 0.1)[0]:
            screen.append(os.read(master, 1 << 16))
        return text in COLORS.sub("", b"".join(screen).decode())

    folder = Folder.at(tmp_path)
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with watching(folder):
            assert soon(lambda: shows("iteration_1/model: starting ranks"))
            write_progress(folder, TAKING_STEPS, steps=9)
            for step in (1, 2):
                write_steps(folder, step)
                assert soon(lambda step=step: shows(SHOWN.format(step=step)))  # type: ignore[misc]
    assert "\n" not in b"".join(screen).decode(), "every line stands in the place of the one before"
    os.close(master)
