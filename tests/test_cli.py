"""The command line, as programs and readers see it: exit codes, errors of one line, help with examples, JSON, colours."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from stj import __version__
from stj.cli import main
from stj.cli.verbs import app
from stj.errors import ConfigError
from stj.text import CLEAR_LINE
from tests.conftest import on_terminal, running

ROOT = Path(__file__).parents[1]
MINI = str(ROOT / "conf" / "mini.yaml")
STJ = [sys.executable, "-m", "stj.cli"]
WAIT = "from tests.waiting import wait_for_a_signal\n"
VERBS = [
    *("init", "plan", "doctor", "run", "iterate", "status", "watch", "show"),
    *("ls", "clean"),
    *("eval", "score", "compare", "attack", "agree"),
    *("judge", "grade", "serve", "view", "trace", "explain", "annotate"),
    *("calibrate", "winrate"),
    *("merge", "export"),
    "mini build-seed",
]
HEAVY = ("ray", "torch", "vllm", "transformers", "deepspeed", "datasets", "rich")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "nowhere.yaml"], 2, "nowhere.yaml: no such config file"),
        (["run", MINI, "trian.lr=3"], 2, "did you mean 'train'?"),
        (["run", MINI, "models.seed.path=/nope"], 2, "model /nope: the directory does not exist"),
        (["run", MINI, "source.path=/nope.jsonl"], 2, "source.path=/nope.jsonl"),
        (["iterate", MINI, "iteration=9"], 2, "iteration=9: must be 1 to iterations=3"),
        (["run", "seed=1"], 2, "no config file given"),
        (["run", MINI, "iteration=2"], 2, "`stj iterate` does one"),
        (["run", MINI, f"run_root={MINI}"], 2, "mini.yaml is a file; name a directory"),
        (["run", MINI, "--dry-run", "run_root=s3://"], 2, "run_root=s3://: names no bucket: give s3://BUCKET/PATH"),
        (["doctor", MINI, "run_root=gs://"], 2, "run_root=gs://: names no bucket: give gs://BUCKET/PATH"),
        (["run", MINI, "run_root=s3:/b/p"], 2, "run_root=s3:/b/p: a URI has two slashes: write s3://b/p"),
        (["plan", MINI, "run_root=S3://b/p"], 2, "run_root=S3://b/p: not a path or URI that stj can use: write a directory"),
        (["plan", MINI, "run_root=memory://"], 2, "run_root=memory://: not a path or URI"),
        (["plan", MINI, "run_root=http://b/p"], 2, "run_root=http://b/p: not a path or URI"),
        (["status", "gs://"], 2, "gs://: names no bucket"),
        (["run", MINI, "models.seed.path=" + "x" * 300], 2, "File name too long"),
        (["status", "runs/mini", "seed=1"], 2, "seed=1: a run's directory knows its config"),
        (["status", "/nowhere"], 2, "no run here"),
        (["show", "/nowhere"], 2, "no artifact here"),
        (["show", "/no\nwhere\x1b[1m"], 2, "/no\\nwhere\\x1b[1m: no artifact here"),
        (["show", "/\udcff"], 2, "/\\udcff: not UTF-8"),
        (["plan", MINI, "run_root=\udcff"], 2, "run_root=\\udcff: not UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    printed = capsys.readouterr()
    assert message in printed.err
    *opening, error = printed.err.splitlines()
    assert error.startswith("stj: ")
    assert [line[:13].strip() for line in opening] in ([], ["run_root", "reads", "", "log", "elsewhere"])
    assert not opening or words[0] in ("run", "iterate"), "only a run says first what it is"
    assert printed.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing command. See `stj --help`"),
        (["fly"], "No such command 'fly'. See `stj --help`"),
        (["shwo", "runs"], "No such command 'shwo'. Did you mean 'show'? See `stj --help`"),
        (["fly", "--help"], "No such command 'fly'. See `stj --help`"),
        (["mini"], "Missing command. See `stj mini --help`"),
        (["mini", "seed"], "No such command 'seed'."),
        (["--jsno"], "No such option: --jsno. See `stj --help`"),
        (["run"], "Missing argument 'CONF.yaml'. See `stj run --help`"),
        (["run", MINI, "--dry-rnu"], "No such option: --dry-rnu (Possible options: --dry-run). See `stj run --help`"),
        (["show", "x", "--json=yes"], "Option '--json' does not take a value."),
        (["show", "x", "y"], "Got unexpected extra argument(s) (y). See `stj show --help`"),
        (["show", "x", "seed=1"], "Got unexpected extra argument(s) (seed=1). See `stj show --help`"),
        (["show", "x", "--limit"], "Option '--limit' requires an argument. See `stj show --help`"),
        (["show", "x", "--limit", "-1"], "Invalid value for '--limit': '-1' is not a whole number, 0 or more."),
        (["show", "x", "--limit", "five"], "Invalid value for '--limit': 'five' is not a whole number, 0 or more."),
        (["serve", "m", "--port", "http"], "Invalid value for '--port': 'http' is not a whole number, 0 or more."),
        (["serve", "m", "--port", "65536"], "Invalid value for '--port': 65536 is no port; the last is 65535."),
        (["mini", "build-seed", "d", "--seed", "-1"], "'-1' is not a whole number, 0 or more."),
        (["score", "f"], "Missing option '--benchmark'. See `stj score --help`"),
        (["score", "f", "--benchmark", "hhh", "--parser", "lax"], "'lax' is not one of 'strict', 'distinct', 'paper'."),
        (
            ["judge", "f", "model=m", "--prompts", "figure9"],
            "vote.prompt=figure9: no such prompt or file (did you mean 'figure8'?); known prompts: figure8, arena",
        ),
        (["judge", "f", "--jury"], "--jury: give at least one value after it"),
        (["judge", "f", "--jury", "--overwrite"], "--jury: give at least one value after it"),
        (["judge", "f", "--jury", "vote.votes=3"], "--jury: give at least one value after it"),
        (["judge", "f", "--out", "--overwrite"], "--out: give its value before --overwrite"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("stj: ")
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_an_iteration_without_the_ones_before_is_refused(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["iterate", MINI, "iteration=2", f"run_root={tmp_path}/run", *flags]) == 1
    assert "iteration 2 rests on pairs, which is not done: run iteration=1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("key", ["source.path", "heldout.path"])
@pytest.mark.parametrize(("content", "said"), [("", "holds no"), ("{'a': 1}\n", "not JSON"), ('{"x": 1}\n', "no field")])
def test_bad_rows_are_reported_before_anything_starts(
    key: str, content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    for flags in ([], ["--dry-run"]):
        assert main(["run", MINI, f"run_root={tmp_path}/run", f"{key}={tmp_path}/bad.jsonl", *flags]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_one_iteration_in_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iterate", MINI, f"run_root={tmp_path}/run", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "iteration_1/model" in text
    assert "iteration_2/model" not in text


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_has_one_line_per_verb_in_the_order_of_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    commands = text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in commands] == [*VERBS[:-1], "mini"]
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_has_examples_that_parse(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^Read more: docs/[a-z-]+\.md", text, re.MULTILINE)
    examples = re.findall(r"^  (?:ray job submit .* -- )?stj (.+)$", text.partition("\nExample")[2], re.MULTILINE)
    assert examples
    for example in examples:
        assert example.startswith(verb)
        parse(shlex.split(example))


def parse(words: list[str]) -> dict[str, Any]:
    """The arguments of a verb, which is not called."""
    command: Any = get_command(app)
    context = command.make_context("stj", words)
    words = [*context._protected_args, *context.args]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return dict(command.make_context("verb", words).params)


@pytest.mark.parametrize(
    ("words", "files", "jury", "prompts"),
    [
        ("--jury A B C", None, ["A", "B", "C"], None),
        ("--jury A B vote.votes=3", ["vote.votes=3"], ["A", "B"], None),
        ("vote.votes=3 --jury A B seed=1", ["vote.votes=3", "seed=1"], ["A", "B"], None),
        ("--jury A --overwrite seed=1", ["seed=1"], ["A"], None),
        ("--jury A --jury B", None, ["A", "B"], None),
        ("--jury=A", None, ["A"], None),
        (
            "conf.yaml --jury A B --prompts arena figure8 --out x seed=1",
            ["conf.yaml", "seed=1"],
            ["A", "B"],
            ["arena", "figure8"],
        ),
        ("model=m --prompts figure8 arena seed=1", ["model=m", "seed=1"], None, ["figure8", "arena"]),
        ("--out x model=m conf.yaml", ["conf.yaml", "model=m"], None, None),
    ],
)
def test_several_values_follow_one_flag_and_settings_stand_anywhere(
    words: str, files: list[str] | None, jury: list[str] | None, prompts: list[str] | None
) -> None:
    read = parse(["judge", "pairs.jsonl", *words.split()])
    assert read["file"] == "pairs.jsonl"
    assert (read["conf"] or None, read["jury"] or None, read["prompts"] or None) == (files, jury, prompts)


@pytest.mark.parametrize(
    ("words", "file", "out"),
    [
        ("model=m pairs.jsonl", "pairs.jsonl", None),
        ("model=m seed=1 --out a=b pairs.jsonl", "pairs.jsonl", "a=b"),
        ("--out=a=b model=m -- pairs.jsonl", "pairs.jsonl", "a=b"),
        ("model=m data/split=test/pairs.jsonl", "data/split=test/pairs.jsonl", None),
        ("model=m -- a=b.jsonl", "a=b.jsonl", None),
    ],
)
def test_a_setting_before_the_file_is_not_taken_for_it(words: str, file: str, out: str | None) -> None:
    read = parse(["judge", *words.split()])
    assert (read["file"], read["out"], "model=m" in read["conf"]) == (file, out, True)


@pytest.mark.slow
@pytest.mark.parametrize("named", [["--model", "m"], ["--model=m"], ["model=m"]])
@pytest.mark.parametrize(("verb", "rest"), [("judge", ["f"]), ("eval", ["pairs:f"]), ("serve", []), ("calibrate", ["f"])])
def test_a_model_is_named_alike_in_each_verb(verb: str, rest: list[str], named: list[str]) -> None:
    read = parse([verb, *rest, *named, "seed=1"])
    assert read == parse([verb, *named, *rest, "seed=1"])
    assert read["model"] == "m" if "model" in read else read["conf"] == ["model=m", "seed=1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["judge", "f", "--model"], "--model: give its value after it"),
        (["eval", "--model", "--json", "pairs:f"], "--model: give its value after it"),
        (["judge", "f", "model=a", "--model", "b"], "model=a and model=b: give one model"),
    ],
)
def test_a_model_has_one_name(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(words)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_verbs_and_prompts(shell: str) -> None:
    def completed(**environment: str) -> str:
        return subprocess.run(STJ, env=os.environ | environment, capture_output=True, text=True, check=True).stdout

    script = completed(_STJ_COMPLETE=f"source_{shell}")
    assert f"_STJ_COMPLETE=complete_{shell}" in script
    assert ("complete -o default -F" if shell == "bash" else "compdef _stj_completion stj") in script
    for words, answer in (
        ("stj it", "iterate"),
        ("stj judge pairs.jsonl --prompts ar", "arena"),
        ("stj run --dr", "--dry-run"),
    ):
        number = str(len(words.split()) - 1)
        assert answer in completed(
            _STJ_COMPLETE=f"complete_{shell}", COMP_WORDS=words, COMP_CWORD=number, _TYPER_COMPLETE_ARGS=words
        )


@pytest.mark.slow
def test_the_completion_script_can_be_shown_and_installed(tmp_path: Path) -> None:
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    shown = subprocess.run([*STJ, "--show-completion", "zsh"], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("#compdef stj")
    subprocess.run([*STJ, "--install-completion", "bash"], env=environment, capture_output=True, check=True)
    assert "_STJ_COMPLETE" in (tmp_path / ".bash_completions" / "stj.sh").read_text()
    assert "stj.sh" in (tmp_path / ".bashrc").read_text()


def raising(error: BaseException) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "stj: interrupted; run the same command again to resume from what is committed\n"),
        (FileNotFoundError(2, "No such file", "/gone"), 1, "stj: [Errno 2] No such file: '/gone'\n"),
        (OSError(28, "No space left on device"), 1, "stj: [Errno 28] No space left on device\n"),
        (SystemExit(143), 143, ""),
    ],
)
def test_what_interrupts_a_verb_has_its_own_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.loop.iterate.run_all", raising(error))
    assert main(["run", MINI]) == code
    said = capsys.readouterr().err.splitlines(keepends=True)
    assert "".join(line for line in said if line.startswith("stj: ")) == message


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stj.loop.planning.run_plan", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["plan", MINI])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "code", "message"), [(signal.SIGTERM, 143, "stopped by SIGTERM"), (signal.SIGINT, 130, "interrupted")]
)
@pytest.mark.parametrize(
    ("verb", "work", "remedy"),
    [
        ("run", "stj.loop.iterate.run_all", "; run the same command again to resume from what is committed"),
        ("plan", "stj.loop.planning.run_plan", ""),  # It commits nothing that could be resumed.
    ],
)
def test_a_signal_ends_a_verb_with_its_code_and_a_line(
    verb: str, work: str, remedy: str, signum: int, code: int, message: str
) -> None:
    program = (
        f"{WAIT}import signal, sys, {work.rpartition('.')[0]}\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        f"{work} = lambda *_, **__: print('ready', flush=True) or wait_for_a_signal()\n"
        f"from stj.cli import main; sys.exit(main([{verb!r}, {MINI!r}]))"
    )
    with running([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == code
    said = [line for line in errors.splitlines() if line.startswith("stj: ") or verb == "plan"]
    assert said == [f"stj: {message}{remedy}"]


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_a_verb_at_once(signum: int, code: int) -> None:
    """The verb cleans up for a minute; the first signal's code stays, and its clean-up ends."""
    program = (
        f"{WAIT}import signal, sys, stj.loop.planning\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        "def work(*_):\n"
        "    try:\n"
        "        print('ready', flush=True); wait_for_a_signal()\n"
        "    finally:\n"
        "        print('cleaning up', flush=True); wait_for_a_signal()\n"
        "stj.loop.planning.run_plan = work\n"
        f"from stj.cli import main; sys.exit(main(['plan', {MINI!r}]))"
    )
    with running([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in ("ready\n", "cleaning up\n"):
            assert process.stdout.readline() == line
            process.send_signal(signum)
        output, errors = process.communicate(timeout=600)
    assert process.returncode == code
    assert output == ""
    assert errors.endswith(f"stj: ended at once by {'Ctrl-C' if signum == signal.SIGINT else 'SIGTERM'}\n")
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["atexit.register(end)", "threading.Thread(target=end).start()"])
def test_a_signal_once_a_verb_is_over_does_not_change_its_exit_code(moment: str, signum: int) -> None:
    """Libraries clean up at Python's end, which takes a while: the verb has finished, whoever wants to stop it now."""
    program = (
        f"{WAIT}import atexit, signal, sys, threading, time, stj.loop.planning\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        "def end():\n"
        "    while threading.main_thread().is_alive(): time.sleep(0.01)\n"  # until Python waits for the other threads
        "    print('at its end', flush=True); wait_for_a_signal()\n"
        "def work(*_):\n"
        f"    {moment}\n"
        "    raise stj.errors.ConfigError('no')\n"
        "stj.loop.planning.run_plan = work\n"
        f"from stj.cli import main; sys.argv[1:] = ['plan', {MINI!r}]; sys.exit(main())"
    )
    with running([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at its end\n"
        process.send_signal(signum)
        _, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (2, "stj: no\n")


@pytest.mark.slow
def test_a_closed_terminal_stops_a_verb_as_sigterm_does() -> None:
    """Standard output and standard error are the terminal that is closed: nothing can be written any more."""
    program = (
        f"{WAIT}import os, sys, stj.loop.iterate\n"
        "stj.loop.iterate.run_all = lambda *_, **__: print('ready', flush=True) or wait_for_a_signal()\n"
        f"from stj.cli import main; sys.exit(main(['run', {MINI!r}]))"
    )
    screen, terminal = pty.openpty()
    options = {"stdin": terminal, "stdout": terminal, "stderr": terminal, "start_new_session": True}
    opened = (
        "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup\n"
    )
    with running([sys.executable, "-c", opened + program], cwd=ROOT, **options) as process:
        os.close(terminal)
        shown = b""
        while b"ready" not in shown:
            shown += os.read(screen, 100)
        os.close(screen)
        assert process.wait(600) == 143


@pytest.mark.slow
def test_a_reader_that_closes_the_pipe_is_no_failure() -> None:
    status = subprocess.run(
        ["bash", "-c", f"{shlex.join([*STJ, 'status', MINI])} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )
    assert (status.stdout, status.stderr) == ("0\n", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "redirect", "code", "message"),
    [
        (["plan", MINI], ">&-", 0, ""),
        (["plan", "nope.yaml"], "2>&-", 2, ""),
        (["plan", "nope.yaml"], "2> /dev/full", 2, ""),
        (["--help"], "> /dev/full", 1, "stj: [Errno 28] No space left on device\n"),
        (["plan", MINI, "--json"], "> /dev/full", 1, "stj: [Errno 28] No space left on device\n"),
        (["--help"], "| true; exit ${PIPESTATUS[0]}", 0, ""),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_that_cannot_be_written_leave_the_code_as_it_is(
    words: list[str], redirect: str, code: int, message: str, unbuffered: str
) -> None:
    command = f"{shlex.join([*STJ, *words])} {redirect}"
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    status = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert (status.returncode, status.stderr) == (code, message)


@pytest.mark.slow
def test_a_file_opened_later_does_not_get_the_output_of_a_closed_stream(tmp_path: Path) -> None:
    program = f"from stj.cli import main; main(['nope']); open({str(tmp_path / 'file')!r}, 'w').fileno() > 2 or exit(3)"
    command = f"{shlex.join([sys.executable, '-c', program])} >&- 2>&-"
    assert subprocess.run(["bash", "-c", command]).returncode == 0


@pytest.mark.slow
def test_an_encoding_without_a_character_gets_its_code(tmp_path: Path) -> None:
    words = [*STJ, "run", MINI, "--dry-run", f"run_root={tmp_path}/数据"]
    status = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (status.returncode, status.stdout.splitlines()[0]) == (0, f"run_root {tmp_path}/\\u6570\\u636e")


@pytest.mark.slow
def test_a_directory_that_was_deleted_is_named(tmp_path: Path) -> None:
    command = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {shlex.join([*STJ, 'show', 'x'])}"
    environment = os.environ | {"PYTHONPATH": str(Path(MINI).resolve().parents[1])}
    status = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert (status.returncode, status.stderr) == (
        1,
        "stj: the working directory does not exist any more; change to another one\n",
    )


@pytest.mark.slow
def test_a_terminal_gets_colours_and_a_pipe_plain_text(tmp_path: Path) -> None:
    words = [*STJ, "status", MINI, f"run_root={tmp_path}/run"]
    plain = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert plain.splitlines()[0] == "pairs                        absent  "
    coloured = on_terminal(words)
    assert "\x1b[2mabsent" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == plain.split()
    assert "\x1b" not in on_terminal(words, TERM="dumb")


def test_an_error_replaces_the_live_line_of_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for term, start in (("xterm", CLEAR_LINE), ("dumb", "")):
        monkeypatch.setenv("TERM", term)
        assert main(["fly"]) == 2
        assert capsys.readouterr().err.startswith(f"{start}stj: No such command")


@pytest.mark.slow
def test_a_plan_fits_the_width_of_the_terminal() -> None:
    lines = on_terminal([*STJ, "plan", str(ROOT / "conf" / "paper.yaml")], columns=60, NO_COLOR="1").splitlines()
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(map(len, lines)) <= 60
    assert all(line[:13].strip() == "" or line[12] == " " for line in lines)


def test_a_dry_run_prints_phases_and_plan_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", MINI, f"run_root={tmp_path}/run", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "iteration_3/model            absent" in text
    assert "ZeRO-3 over 2 ranks" in text
    assert not (tmp_path / "run").exists()


def test_the_papers_plan_needs_neither_weights_nor_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(ROOT / "conf" / "paper.yaml"), "--dry-run", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    names = [phase["name"] for phase in printed["phases"]]
    assert [name for name in names if not name.startswith("benchmarks_")][:4] == [
        *("pairs", "heldout_0", "iteration_1/examples", "iteration_1/model")
    ]
    assert "benchmarks_0/mtbench" in names
    assert printed["plan"]


def test_status_of_a_config_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", MINI, f"run_root={tmp_path}/run", "--json"]) == 0
    states = json.loads(capsys.readouterr().out)
    assert {state["state"] for state in states} == {"absent"}
    assert len(states) == 10


@pytest.mark.slow
def test_help_needs_neither_ray_nor_torch() -> None:
    """The command line answers at once: nothing heavy is imported before a verb needs it."""
    code = (
        "import sys; from stj.cli import main; main(['--help']); main(['run', '--help'])\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert printed.stderr.strip() == "[]"


@pytest.mark.engine
def test_more_cpus_than_there_are_is_said_before_anything_starts(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "stj.cli", "run", MINI, f"run_root={tmp_path}/run", "train.workers=999"]
    printed = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert printed.returncode == 1
    assert "train.workers=999: the cluster can hold" in printed.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["driver.lock", "progress.json"]


WITH_PLACES = ("show", "status", "compare", "view", "annotate", "score --benchmark pairs", "winrate", "agree")


@pytest.mark.slow
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("words", WITH_PLACES)
def test_a_place_that_holds_nothing_is_bad_input(
    words: str, there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    if there:
        place.mkdir()
    verb, *options = words.split()
    assert main([verb, *[str(place)] * (2 if verb == "compare" else 1), *options]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(place) in line
