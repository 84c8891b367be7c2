"""Rules for cluster/slurm.sh: what it starts on bare machines and in containers, and what becomes of SLURM's notice."""

import re
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.desk import Desk
from tests.cluster.reading import INSTALLS, SCRATCH, STOP_NOTICE_S, differs, old_drivers, run_config

_JOB = {
    "SLURM_NODELIST": "node[1-2]",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_NNODES": "2",
    "SLURM_JOB_ID": "12345",
    "SLURM_CPUS_PER_TASK": "96",
    "SLURM_GPUS_ON_NODE": "8",
    "USER": "me",
}
_HEADER = {
    "--job-name": "stj",
    "--nodes": "4",
    "--ntasks-per-node": "1",
    "--gpus-per-node": "8",
    "--cpus-per-task": "96",
    "--exclusive": "",
    "--time": "24:00:00",
    "--requeue": "",
    "--open-mode": "append",
    "--signal": "B:TERM@430",
}


def slurm(text: str, directory: Path) -> Iterator[str]:
    """cluster/slurm.sh."""
    yield from _header(text)
    if INSTALLS.search(text.replace("make install", "")) or re.search(r"ray stop|symmetric-run", text):
        yield "a node installs packages, or another job's Ray is stopped"
    yield from differs("a wrong command ends the script at once", "\nset -euo pipefail\n" in text, True)
    desk = Desk(directory, text)
    usage = "usage: sbatch cluster/slurm.sh CONF.yaml run_root=/shared/path [key=value ...]\n"
    yield from differs("a call without words", desk.run(), (2, "", usage))
    yield from _bare_machines(desk)
    yield from _containers(desk)
    yield from _wrong_settings(desk)
    yield from _token(desk, text)
    yield from _notice(desk)


def _header(text: str) -> Iterator[str]:
    lines = re.findall(r"^#SBATCH (\S+)$", text, re.MULTILINE)
    yield from differs("the lines for sbatch", sorted(lines), sorted(set(lines)))
    options = {name: value for name, _, value in (line.partition("=") for line in lines)}
    yield from differs("the header", options, _HEADER)
    notice = int(options["--signal"].rpartition("@")[2])
    yield from differs("the notice is longer than the time that a run takes to stop", notice > STOP_NOTICE_S, True)
    before = text.partition("\nset -")[0]
    yield from differs("sbatch reads its lines before the first command", before.count("#SBATCH"), len(lines))
    for words in re.findall(r"^# .*cluster/slurm.sh (conf/.*)$", before, re.MULTILINE):
        yield from differs(
            "the run's nodes", run_config(["stj", "run", *words.split()]).train.workers, 8 * int(options["--nodes"])
        )
    yield from old_drivers(text)


def _bare_machines(desk: Desk) -> Iterator[str]:
    home = desk.directory / "home"
    for settings, disk in (
        ({"SCRATCH": str(desk.directory / "disk")}, desk.directory / "disk"),
        ({"SLURM_TMPDIR": str(desk.directory / "job"), "HF_HOME": "/nfs/hf"}, desk.directory / "job"),
        ({"SCRATCH": str(desk.directory / "disk"), "HF_TOKEN_PATH": "/nfs/token"}, desk.directory / "disk"),
    ):
        scratch = disk / "stj-me"
        code, calls, message = desk.run("conf/p.yaml", "run_root=/shared/a b", **_JOB, **settings)
        address, made, *rest = calls.splitlines()
        yield from differs("the head's address", address, "srun --nodes=1 --ntasks=1 --nodelist=node2 getent ahostsv4 node1")
        directories = " ".join([str(scratch), *(f"{scratch}/{name}" for name in sorted({*SCRATCH, "ray"}))])
        yield from differs("the directories on each node", made, f"srun --nodes=2 --ntasks=2 mkdir -p {directories}")
        variables, words = dict(line.split("=", 1) for line in rest[:9]), rest[9:]
        caches = {"HF_HOME": "hf", "STJ_CACHE": "stj", "TMPDIR": "tmp", "XDG_CACHE_HOME": "cache"}
        needed = {name: f"{scratch}/{place}" for name, place in caches.items()}
        yield from differs("the places on the nodes' disks", {name: variables[name] for name in caches}, needed)
        token = settings.get("HF_TOKEN_PATH") or f"{settings.get('HF_HOME', home / '.cache' / 'huggingface')}/token"
        yield from differs("the token for gated models", variables["HF_TOKEN_PATH"], token)
        yield from differs("the programs", variables["PATH"].split(":")[0], f"{desk.directory}/.venv/bin")
        yield from _step(words, str(scratch), [])
        yield from differs("a run on bare machines", (code, message), (0, ""))
    user = f"test-{uuid.uuid4().hex}"
    calls = desk.run("c.yaml", **_JOB | {"USER": user})[1]
    yield from differs("the disk without settings", f" mkdir -p /tmp/stj-{user} " in calls, True)
    shutil.rmtree(f"/tmp/stj-{user}", ignore_errors=True)


def _step(
    words: list[str], directory: str, inside: list[str], command: tuple[str, ...] = ("conf/p.yaml", "run_root=/shared/a b")
) -> Iterator[str]:
    """The words of the step that runs the command on all nodes."""
    run = [
        *("--nodes=2", "--ntasks=2", "--cpus-per-task=96", "--kill-on-bad-exit=1", *inside, "bash", "-c"),
        'exec cluster/run_on_nodes.sh "$1" "$2" "$3" "$SLURM_PROCID" "${@:4}"',
        *("run", directory, "10.0.0.1:22345", "2", "--num-cpus=96 --num-gpus=8", "stj", "run", *command),
    ]
    yield from differs("the step", words, [f"[{word}]" for word in run])


def _containers(desk: Desk) -> Iterator[str]:
    here, home = desk.directory, desk.directory / "home"
    token = home / ".cache" / "huggingface" / "token"
    token.parent.mkdir(parents=True)
    token.touch()
    mounts = [f"{here}:{here}", f"{here}/disk/stj-me:/scratch", f"{home}/.ray:{home}/.ray"]
    gated = f"{token}:/home/ray/.cache/huggingface/token"
    settings = _JOB | {"SCRATCH": str(here / "disk"), "IMAGE": "the image"}
    for more, extra in (([gated, "/shared:/shared"], {"MOUNTS": "/shared:/shared"}), ([gated], {})):
        joined = ",".join([*mounts, *more])
        for container, inside in (
            (
                "pyxis",
                [
                    *("--container-image=the image", f"--container-mounts={joined}", "--no-container-mount-home"),
                    f"--container-workdir={here}",
                ],
            ),
            ("apptainer", ["apptainer", "exec", "--nv", "--no-home", "--pwd", str(here), "--bind", joined, "the image"]),
        ):
            code, calls, message = desk.run("c.yaml", **settings, **extra, CONTAINER=container)
            yield from differs(f"a run with {container}", (code, message), (0, ""))
            rest = calls.splitlines()[2:]
            variables = dict(line.split("=", 1) for line in rest[:9])
            yield from differs("the image's places are its own", (variables["HF_HOME"], variables["TMPDIR"]), ("", ""))
            yield from _step(rest[9:], "/scratch", inside, ("c.yaml",))
    token.unlink()


def _wrong_settings(desk: Desk) -> Iterator[str]:
    for wrong, start in (
        ({"CONTAINER": "pyxis"}, "IMAGE is not set"),
        ({"CONTAINER": "docker", "IMAGE": "x"}, "CONTAINER=docker: name"),
    ):
        code, calls, message = desk.run("c.yaml", **_JOB, **wrong)
        yield from differs(f"{wrong}", (code, calls, message.startswith(start)), (2, "", True))
    code, _, message = desk.run("c.yaml", **_JOB, HEAD_ADDRESS="")
    yield from differs("an unknown head", (code, message), (1, "node2 does not know the address of node1\n"))


def _token(desk: Desk, text: str) -> Iterator[str]:
    token = desk.directory / "home" / ".ray" / "auth_token"
    made = token.read_text()
    yield from differs(
        "a new token", (token.stat().st_mode & 0o777, re.fullmatch("[0-9a-f]{64}", made) is not None), (0o600, True)
    )
    yield from differs("nobody else can read the token while it is written", "(umask 077 &&" in text, True)
    token.chmod(0o644)
    code, calls, _ = desk.run("c.yaml", **_JOB, STEP_CODE="7")
    yield from differs("an older token", (token.stat().st_mode & 0o777, token.read_text()), (0o600, made))
    yield from differs("the exit code of a failed run", code, 7)
    variables = dict(line.split("=", 1) for line in calls.splitlines()[2:11])
    needed = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_NOTICE_S)}
    yield from differs("what Ray reads", {name: variables[name] for name in needed}, needed)


def _notice(desk: Desk) -> Iterator[str]:
    """SLURM's notice reaches the command alone, and the script waits for the step and ends with its code."""
    disk = desk.directory / "disk"
    pid = disk / "stj-me" / "driver.pid"
    for code in (143, 0):
        stop = f'trap "/bin/sleep 0.4; echo stopped >> $0; exit {code}" TERM'
        driver = f"{stop}; echo $$ > {pid}; echo ready >> $0; while :; do /bin/sleep 0.05; done"
        with desk.started("c.yaml", **_JOB, SCRATCH=str(disk), DRIVER=driver) as script:
            yield from differs("a step starts", desk.has_called("ready"), True)
            script.send_signal(signal.SIGTERM)
            yield from differs("the exit code after a notice", script.wait(5), code)
            yield from differs("the command stops by itself", "stopped" in desk.log.read_text(), True)
    pid.unlink()
    driver = "echo ready >> $0; /bin/sleep 0.6; exit 5"
    with desk.started("c.yaml", **_JOB, SCRATCH=str(disk), DRIVER=driver) as script:
        yield from differs("a step starts", desk.has_called("ready"), True)
        script.send_signal(signal.SIGTERM)
        yield from differs("a notice before the command has started", script.wait(5), 5)
