"""Runs the shell scripts of cluster/ with SLURM, containers and Ray replaced by small programs, and says what they do wrong."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tests.cluster_rules import INSTALLS, differs, old_drivers

FAKES = {
    "scontrol": "printf 'node1\\nnode2\\n'",
    "srun": """[ -z "${STEP_LIVES:-}" ] || case "$*" in
        *mkdir*) shift 2; exec "$@" ;;
        *run_on_nodes*) /bin/sleep 6 & echo $! > "$STEP_LIVES/driver.pid"; echo started >> "$LOG"; wait $!; exit 143 ;;
    esac
    case "$*" in
        *getent*) echo "srun $*" >> "$LOG"; echo "${HEAD_ADDRESS-10.0.0.1 STREAM node1}" ;;
        *mkdir*) echo "srun $*" >> "$LOG" ;;
        *) echo "$RAY_AUTH_MODE $RAY_JOB_STOP_WAIT_TIME_S $HF_HOME $HF_TOKEN_PATH ${PATH%%:*}" >> "$LOG"
           printf '[%s]\\n' "$@" >> "$LOG"
           exit "${STEP_CODE:-0}" ;;
    esac""",
    "ray": """case $1 in
        start) echo "ray $*" >> "$LOG"; [ -z "${RAY_FAILS:-}" ] || { echo "ray cannot start"; exit 1; }
               echo $$ > "$LOG.ray"; exec /bin/sleep "${RAY_LIVES:-2}" ;;
        *) echo "ray $*" >> "$LOG" ;;
    esac""",
    "timeout": """[ "$1 $2 $3 $5 $6" = "5 bash -c 10.0.0.1 6379" ] && [ "$4" = 'exec 3<> "/dev/tcp/$0/$1"' ] || exit 1
        echo x >> "$LOG.checks"; checks=$(wc -l < "$LOG.checks")
        looks=0  # a machine that is busy starts programs in any order
        while [ "$checks" -ge "${RAY_AFTER:-1000}" ] && [ ! -e "$LOG.ray" ] && [ $((looks += 1)) -lt 100 ]; do
            /bin/sleep 0.02
        done
        case " ${HEAD_MISSES:-} " in *" $checks "*) exit 1 ;; esac
        [ "$checks" -gt "${HEAD_IS_LATE:-0}" ] && [ "$checks" -le "${HEAD_ANSWERS:-20}" ]""",
    "python": 'echo "python $*" >> "$LOG"; exit "${MACHINES_MISSING:-0}"',
    "sleep": 'echo x >> "$LOG.sleeps"; [ "$(wc -l < "$LOG.sleeps")" -le 30 ] && exec /bin/sleep 0.02',  # so no loop is endless
    "tail": '[ "$1 $2" = "-n 20" ] && exec /usr/bin/tail "$@"',
    "job": 'echo "job $RAY_ADDRESS $*" >> "$LOG"; exit "${CODE:-0}"',
}
SLURM = {
    "SLURM_NODELIST": "node[1-2]",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_NNODES": "2",
    "SLURM_JOB_ID": "12345",
    "SLURM_CPUS_PER_TASK": "96",
    "SLURM_GPUS_ON_NODE": "8",
    "USER": "me",
}
HEADER = {
    "--job-name=stj",
    "--nodes=4",
    "--ntasks-per-node=1",
    "--gpus-per-node=8",
    "--cpus-per-task=96",
    "--exclusive",
    "--time=24:00:00",
    "--requeue",
    "--open-mode=append",
    "--signal=B:TERM@150",
}


class Desk:
    """A directory with a script and the programs that it calls."""

    def __init__(self, directory: Path, text: str) -> None:
        self.directory = directory
        self.script = directory / "script.sh"
        self.script.write_text(text)
        self.script.chmod(0o755)
        self.programs = directory / "programs"
        self.programs.mkdir()
        for name, body in FAKES.items():
            (self.programs / name).write_text(f"#!/bin/bash\n{body}\n")
            (self.programs / name).chmod(0o755)
        self.runs = 0

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Runs the script. Returns its exit code, what it called, and what it printed on stderr."""
        with self.start(*words, **environment) as script:
            _, message = script.communicate(timeout=8)
        return script.returncode, (self.directory / f"log{self.runs}").read_text(), message

    def start(self, *words: str, **environment: str) -> "subprocess.Popen[str]":
        """Starts the script."""
        self.runs += 1
        log = self.directory / f"log{self.runs}"
        log.touch()
        place = {"HOME": str(self.directory / "home"), "LOG": str(log), "PATH": f"{self.programs}:/usr/bin:/bin"}
        return subprocess.Popen(
            ["bash", self.script, *words],
            cwd=self.directory,
            env=place | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def slurm(text: str, directory: Path) -> Iterator[str]:
    """cluster/slurm.sh."""
    yield from differs("the header", set(re.findall(r"^#SBATCH (\S+)$", text, re.MULTILINE)), HEADER)
    yield from old_drivers(text, r"NVIDIA driver\n# (\d[\d.]*\d)")
    if INSTALLS.search(text.replace("make install", "")) or re.search(r"ray stop|symmetric-run", text):
        yield "a node installs packages, or another job's Ray is stopped"
    yield from differs("a wrong command ends the script at once", "\nset -euo pipefail\n" in text, True)
    yield from differs("nobody else can read the token while it is written", "(umask 077 &&" in text, True)
    desk = Desk(directory, text)
    code, calls, message = desk.run()
    usage = "usage: sbatch cluster/slurm.sh CONF.yaml run_root=/shared/path [key=value ...]\n"
    yield from differs("a call without words", (code, calls, message), (2, "", usage))
    yield from _bare_machines(desk)
    yield from _containers(desk)
    yield from _notice(desk)
    token = directory / "home" / ".ray" / "auth_token"
    token.chmod(0o644)
    code, _, message = desk.run("c.yaml", **SLURM, STEP_CODE="7")
    yield from differs("the rights to an older token", token.stat().st_mode & 0o777, 0o600)
    yield from differs("the exit code of a failed run", code, 7)
    code, _, message = desk.run("c.yaml", **SLURM, HEAD_ADDRESS="")
    yield from differs("an unknown head", (code, message), (1, "node2 does not know the address of node1\n"))


def _bare_machines(desk: Desk) -> Iterator[str]:
    scratch = desk.directory / "disk" / "stj-me"
    code, calls, message = desk.run("conf/p.yaml", "run_root=/shared/a b", **SLURM, SCRATCH=str(desk.directory / "disk"))
    needed = [
        "srun --nodes=1 --ntasks=1 --nodelist=node2 getent ahostsv4 node1",
        f"srun --nodes=2 --ntasks=2 mkdir -p {scratch} "
        + " ".join(f"{scratch}/{name}" for name in ("cache", "hf", "ray", "stj", "tmp")),
        f"token 120 {scratch}/hf {desk.directory}/home/.cache/huggingface/token {desk.directory}/.venv/bin",
        *("[--nodes=2]", "[--ntasks=2]", "[--kill-on-bad-exit=1]", "[bash]", "[-c]"),
        '[exec cluster/run_on_nodes.sh "$1" "$2" "$3" "$SLURM_PROCID" "${@:4}"]',
        *("[run]", f"[{scratch}]", "[10.0.0.1:22345]", "[2]", "[--num-cpus=96 --num-gpus=8]"),
        *("[stj]", "[run]", "[conf/p.yaml]", "[run_root=/shared/a b]"),
    ]
    yield from differs("a run on bare machines", (code, calls.splitlines(), message), (0, needed, ""))
    token = desk.directory / "home" / ".ray" / "auth_token"
    yield from differs(
        "the token", (token.stat().st_mode & 0o777, bool(re.fullmatch("[0-9a-f]{64}", token.read_text()))), (0o600, True)
    )


def _notice(desk: Desk) -> Iterator[str]:
    """SLURM's notice reaches the command alone, and the script ends with the command's code."""
    disk = desk.directory / "disk"
    with desk.start("c.yaml", **SLURM, SCRATCH=str(disk), STEP_LIVES=str(disk / "stj-me")) as script:
        log = desk.directory / f"log{desk.runs}"
        deadline = time.monotonic() + 10
        while "started" not in log.read_text() and script.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        script.terminate()
        try:
            yield from differs("the exit code after a notice", script.wait(5), 143)
        finally:
            script.kill()


def _containers(desk: Desk) -> Iterator[str]:
    here, home = desk.directory, desk.directory / "home"
    mounts = f"{here}:{here},{here}/disk/stj-me:/scratch,{home}/.ray:{home}/.ray,/shared:/shared"
    settings = SLURM | {"SCRATCH": str(here / "disk"), "MOUNTS": "/shared:/shared", "IMAGE": "the image"}
    code, calls, _ = desk.run("c.yaml", **settings, CONTAINER="pyxis")
    words = calls.splitlines()
    inside = [
        "[--container-image=the image]",
        f"[--container-mounts={mounts}]",
        "[--no-container-mount-home]",
        f"[--container-workdir={here}]",
    ]
    yield from differs("a container of pyxis", (code, words[6:10], words[10]), (0, inside, "[bash]"))
    yield from differs("its scratch", words[14], "[/scratch]")
    code, calls, _ = desk.run("c.yaml", **settings, CONTAINER="apptainer")
    inside = [
        "[apptainer]",
        "[exec]",
        "[--nv]",
        "[--no-home]",
        "[--pwd]",
        f"[{here}]",
        "[--bind]",
        f"[{mounts}]",
        "[the image]",
    ]
    words = calls.splitlines()
    yield from differs("a container of apptainer", (code, words[6:15], words[15]), (0, inside, "[bash]"))
    yield from differs("its scratch", words[19], "[/scratch]")
    for wrong, start in (
        ({"CONTAINER": "pyxis"}, "IMAGE is not set"),
        ({"CONTAINER": "docker", "IMAGE": "x"}, "CONTAINER=docker: name"),
    ):
        code, calls, message = desk.run("c.yaml", **SLURM, **wrong)
        yield from differs(f"{wrong}", (code, calls, message.startswith(start)), (2, "", True))


def run_on_nodes(text: str, directory: Path) -> Iterator[str]:
    """cluster/run_on_nodes.sh."""
    if re.search(r"^[^#]*(ray stop|symmetric-run)", text, re.MULTILINE) or INSTALLS.search(text):
        yield "another Ray of the machine is stopped, or packages are installed"
    yield from differs("a wrong command ends the script at once", "\nset -euo pipefail\n" in text, True)
    yield from differs("the time for a start", "RAY_raylet_start_wait_time_s=120" in text, True)
    if not all(part in text for part in ("int(sys.argv[2])", "ray.init(sys.argv[1]", 'node["Alive"]', "sys.exit(f")):
        yield "the head does not wait for all machines"
    desk = Desk(directory, text)
    yield from _head(desk)
    yield from _others(desk)


def _head(desk: Desk) -> Iterator[str]:
    disk = desk.directory / "disk"
    words = (str(disk), "10.0.0.1:6379", "2")
    code, calls, _ = desk.run(*words, "0", "--num-cpus=96 --num-gpus=8", "job", "a b", CODE="3", RAY_AFTER="1")
    start = f"ray start --head --block --node-ip-address=10.0.0.1 --port=6379 --dashboard-host=127.0.0.1 --temp-dir={disk}/ray"
    needed = [f"{start} --num-cpus=96 --num-gpus=8", "python - 10.0.0.1:6379 2", "job 10.0.0.1:6379 a b"]
    yield from differs("the head", (code, sorted(calls.splitlines())), (3, sorted(needed)))
    yield from differs("the head's Ray lives on", _lives(desk), False)
    yield from differs("the id of the command's process", (disk / "driver.pid").read_text().strip().isdigit(), True)
    code, calls, message = desk.run(*words, "0", "--bad", "job", RAY_FAILS="1", HEAD_ANSWERS="0")
    yield from differs("a head whose Ray does not start", (code, "job " in calls), (1, False))
    yield from differs("its cause", "ray cannot start" in message and "rank 0 of 2" in message, True)
    code, calls, message = desk.run(*words, "0", "", "job", MACHINES_MISSING="1")
    yield from differs("a machine that does not join", (code, "job " in calls, "did not join" in message), (1, False, True))


def _others(desk: Desk) -> Iterator[str]:
    words = (str(desk.directory / "disk"), "10.0.0.1:6379", "2")
    code, calls, _ = desk.run(*words, "1", "--num-cpus=96 --num-gpus=8", "job", HEAD_ANSWERS="3", RAY_AFTER="2")
    needed = ["ray start --block --address=10.0.0.1:6379 --num-cpus=96 --num-gpus=8"]
    yield from differs("another machine", (code, calls.splitlines()), (0, needed))
    yield from differs("its Ray lives on", _lives(desk), False)
    code, calls, _ = desk.run(*words, "1", "", "job", HEAD_IS_LATE="2", HEAD_ANSWERS="8", HEAD_MISSES="5 7", RAY_AFTER="4")
    checks = (desk.directory / f"log{desk.runs}.checks").read_text().split()
    yield from differs("a machine before its head is there, and whose head misses two calls", (code, len(checks)), (0, 11))
    code, _, message = desk.run(*words, "1", "", "job", RAY_LIVES="0", HEAD_ANSWERS="25")
    yield from differs("a machine whose Ray ends", (code, "rank 1 of 2" in message and "has ended" in message), (1, True))


def _lives(desk: Desk) -> bool:
    """Whether the last Ray that the script started still runs; it is ended then."""
    process = int((desk.directory / f"log{desk.runs}.ray").read_text())
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


SCRIPTS = {"slurm.sh": slurm, "run_on_nodes.sh": run_on_nodes}


def script_faults(name: str, text: str, directory: Path) -> list[str]:
    """What is wrong with a script: the first rule that it breaks, since each run of it takes time."""
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    if checked.returncode:
        return [f"bash refuses it: {checked.stderr}"]
    try:
        return list(islice(SCRIPTS[name](text, directory), 1))
    except (subprocess.TimeoutExpired, OSError, ValueError, IndexError) as error:
        return [f"it hangs, or calls nothing: {type(error).__name__}"]
