"""Runs a shell script of cluster/ with SLURM, containers, Ray and waits replaced by small programs that note their calls."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FAKES = {
    "scontrol": """[ "$*" = "show hostnames node[1-2]" ] && printf 'node1\\nnode2\\n'""",
    "srun": """case "$*" in
        *getent*) echo "srun $*" >> "$LOG"; echo "${HEAD_ADDRESS-10.0.0.1 STREAM node1}" ;;
        *mkdir*) echo "srun $*" >> "$LOG"; shift 2; exec "$@" ;;
        *) note_environment
           printf '[%s]\\n' "$@" >> "$LOG"
           [ -z "${DRIVER:-}" ] || { bash -c "$DRIVER" "$LOG"; exit; }
           exit "${STEP_CODE:-0}" ;;
    esac""",
    "ray": """note_environment
        echo "ray $*" >> "$LOG"
        [ -z "${RAY_FAILS:-}" ] || { echo "ray cannot start" >&2; exit 1; }
        echo $$ > "$LOG.ray"
        trap '/bin/sleep 0.1; exit 0' TERM
        /bin/sleep "${RAY_LIVES:-60}" & wait $!""",
    "tail": '[ "$1 $2" = "-n 20" ] && exec /usr/bin/tail "$@"',
    "job": """printf '[%s]' job "$RAY_ADDRESS" "$@" >> "$LOG"; echo >> "$LOG"
        note_environment
        [ -z "${DRIVER_PID:-}" ] || for _ in {1..300}; do
            [ "$(cat "$DRIVER_PID" 2> /dev/null)" = $$ ] && { echo "its process is known" >> "$LOG"; break; }
            /bin/sleep 0.01
        done
        /bin/sleep "${JOB_LIVES:-0}"; exit "${CODE:-0}\"""",
}
_FUNCTIONS = """
note_environment() {  # as it was at the start of this program
    /bin/cat /proc/$$/environ > "$LOG.${0##*/}.environ"
}
timeout() {
    [ "$1 $2 $3 $5 $6" = "5 bash -c 10.0.0.1 6379" ] && [ "$4" = 'exec 3<> "/dev/tcp/$0/$1"' ] || return 1
    local checks=0 looks=0  # a machine that is busy starts programs in any order
    read -r checks 2> /dev/null < "$LOG.checks" || true
    echo $((checks += 1)) > "$LOG.checks"
    while [ "$checks" -ge "${RAY_AFTER:-1000}" ] && [ ! -e "$LOG.ray" ] && [ $((looks += 1)) -lt 200 ]; do
        /bin/sleep 0.01
    done
    case " ${HEAD_MISSES:-} " in *" $checks "*) return 1 ;; esac
    [ "$checks" -gt "${HEAD_IS_LATE:-0}" ] && [ "$checks" -le "${HEAD_ANSWERS:-1000}" ]
}
sleep() {  # no loop is endless, and none spins at first
    local waits
    echo "$*" >> "$LOG.sleeps"
    mapfile -t waits < "$LOG.sleeps"
    [ ${#waits[@]} -gt 10 ] || /bin/sleep 0.02
    [ ${#waits[@]} -le 150 ]
}
"""
"""Calls that a script makes a hundred times are functions in its own shell: a program takes milliseconds to start."""
_SHELL_S = {"_", "OLDPWD", "SHLVL"}
"""Variables that bash changes by itself."""
_PYTHON = """
import os, sys, time
from types import SimpleNamespace
now = 0.0
def sleep(seconds):
    global now
    now += seconds
    if now > 1000:  # no loop is endless
        raise TimeoutError
def nodes():  # a machine was lost before, and the second joins after 5 s
    joined = now >= 5 and not os.environ.get("MACHINES_MISSING")
    return [{"Alive": True}, {"Alive": False}, *[{"Alive": True}] * joined]
def note(*words):
    with open(os.environ["LOG"], "a") as log:
        print(*words, file=log)
time.sleep, time.monotonic = sleep, lambda: now
sys.modules["ray"] = SimpleNamespace(init=lambda address, **options: note("ray.init", address, options), nodes=nodes)
sys.argv = sys.argv[1:]
try:
    exec(compile(sys.stdin.read(), "-", "exec"))
finally:
    note("waited", now, "s for machines")
"""


class Desk:
    """A directory with a script and the programs that it calls."""

    def __init__(self, directory: Path, text: str) -> None:
        self.directory = directory
        self.script = _program(directory / "script.sh", text)
        self.programs = directory / "programs"
        self.programs.mkdir()
        for name, body in _FAKES.items():
            _program(self.programs / name, f"#!/bin/bash\n{body}\n")
        (directory / "python.py").write_text(_PYTHON)
        _program(self.programs / "python", f'#!/bin/bash\nexec {sys.executable} -IS {directory}/python.py "$@"\n')
        (directory / "functions.sh").write_text(_FUNCTIONS)
        self.runs = 0
        self.given: dict[str, str] = {}
        self.ray_lives_on = False

    @property
    def log(self) -> Path:
        """What the last run of the script called."""
        return self.directory / f"log{self.runs}"

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Runs the script. Returns its exit code, what it called, and what it printed on stderr."""
        with self.started(*words, **environment) as script:
            _, message = script.communicate(timeout=600)
        return script.returncode, self.log.read_text(), message

    @contextmanager
    def started(self, *words: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
        """Starts the script; at the end of the block all that it started is ended."""
        self.runs += 1
        self.log.touch()
        place = {"HOME": str(self.directory / "home"), "LOG": str(self.log), "PATH": f"{self.programs}:/usr/bin:/bin"}
        place["BASH_ENV"] = str(self.directory / "functions.sh")
        self.given = place | environment
        script = subprocess.Popen(
            ["bash", self.script, *words],
            cwd=self.directory,
            env=self.given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield script
        finally:
            self.ray_lives_on = self._ray_lives()
            with suppress(ProcessLookupError):
                os.killpg(script.pid, signal.SIGKILL)
            script.communicate()

    def environment(self, program: str) -> dict[str, str]:
        """The variables that the last start of a program found; PWD is the directory that the script was in."""
        lines = Path(f"{self.log}.{program}.environ").read_text().split("\0")
        variables = dict(line.split("=", 1) for line in lines if line)
        return {name: value for name, value in variables.items() if name not in _SHELL_S}

    def has_called(self, words: str, seconds: float = 8) -> bool:
        """Whether the script calls this within the time."""
        deadline = time.monotonic() + seconds
        while words not in self.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        return words in self.log.read_text()

    def sleeps(self) -> list[str]:
        """The waits of the last run, in seconds."""
        return _lines(Path(f"{self.log}.sleeps"))

    def looks(self) -> int:
        """How often the last run looked whether the head answers."""
        return int("".join(_lines(Path(f"{self.log}.checks"))) or 0)

    def _ray_lives(self) -> bool:
        process = "".join(_lines(Path(f"{self.log}.ray")))
        try:
            return str(self.programs / "ray") in Path(f"/proc/{process or 'none'}/cmdline").read_text()
        except OSError:
            return False


def _program(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o755)
    return file


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
