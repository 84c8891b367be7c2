"""Rules for cluster/slurm.sh: what it starts on bare machines and in containers, and what becomes of SLURM's notice."""

import re
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.desk import Desk
from tests.cluster.dockerfile import ENVIRONMENT
from tests.cluster.reading import INSTALLS, SCRATCH, STOP_NOTICE_S, differs, limits, old_drivers, run_config

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
_IMAGE_S = {*ENVIRONMENT} - {"HOME"} | {"PYTHONHOME", "PYTHONPATH"}
"""Variables that a container does not take over from the user's shell."""


def slurm(text: str, directory: Path) -> Iterator[str]:
    """cluster/slurm.sh."""
    yield from _header(text)
    if INSTALLS.search(text.replace("make install", "")) or re.search(r"ray stop|symmetric-run", text):
        yield "a node installs packages, or another job's Ray is stopped"
    yield from limits(text, ["umask 077"])
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
    usages = re.findall(r"^# .*sbatch --nodes=(\d+) cluster/slurm.sh (conf/.*)$", before, re.MULTILINE)
    yield from differs("the lines that show a use", len(usages), 2)
    for nodes, words in [(options["--nodes"], usages[0][1]), *usages]:
        yield from differs("the run's ranks", run_config(["stj", "run", *words.split()]).train.workers, 8 * int(nodes))
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
        yield from differs("the directories on each node", made, f"srun --nodes=2 --ntasks=2 mkdir -p -m 700 {directories}")
        caches = {name: place for name, place in ENVIRONMENT.items() if place.startswith("/scratch/")}
        needed = {name: f"{scratch}{place.removeprefix('/scratch')}" for name, place in caches.items()}
        needed["HF_TOKEN_PATH"] = (
            settings.get("HF_TOKEN_PATH") or f"{settings.get('HF_HOME', home / '.cache/huggingface')}/token"
        )
        needed["PATH"] = f"{desk.directory}/.venv/bin:{desk.given['PATH']}"
        yield from differs("the variables", desk.environment("srun"), desk.given | _rays(desk) | needed)
        yield from _step(rest, str(scratch), [])
        yield from differs("a run on bare machines", (code, message), (0, ""))
    user = f"test-{uuid.uuid4().hex}"
    calls = desk.run("c.yaml", **_JOB | {"USER": user})[1]
    yield from differs("the disk without settings", f" mkdir -p -m 700 /tmp/stj-{user} " in calls, True)
    shutil.rmtree(f"/tmp/stj-{user}", ignore_errors=True)


def _rays(desk: Desk) -> dict[str, str]:
    """What Ray reads, and the directory of the step."""
    return {
        "PWD": str(desk.directory),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": f"{desk.directory}/home/.ray/auth_token",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_NOTICE_S),
    }


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
    usual, other = home / ".cache" / "huggingface" / "token", desk.directory / "hf" / "token"
    for token in (usual, other):
        token.parent.mkdir(parents=True)
        token.touch()
    mounts = [f"{here}:{here}", f"{here}/disk/stj-me:/scratch", f"{home}/.ray:{home}/.ray"]
    gated = "/home/ray/.cache/huggingface/token"
    settings = _JOB | {"SCRATCH": str(here / "disk"), "IMAGE": "the image"}
    shell = {name: f"/mine/{name}" for name in _IMAGE_S - {"LC_ALL"}} | {"LC_ALL": "C", "HF_TOKEN_PATH": str(other)}
    for more, extra in (
        ([f"{usual}:{gated}", "/shared:/shared"], {"MOUNTS": "/shared:/shared"}),
        ([f"{other}:{gated}"], {"HF_HOME": str(other.parent)}),
        ([f"{other}:{gated}"], shell),
        ([], {"HF_TOKEN_PATH": "/mine/none"}),
    ):
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
            kept = {name: value for name, value in desk.given.items() if name not in _IMAGE_S}
            yield from differs("the image's places are its own: the shell's", desk.environment("srun"), kept | _rays(desk))
            yield from _step(calls.splitlines()[2:], "/scratch", inside, ("c.yaml",))
    usual.unlink()


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
    code, _, _ = desk.run("c.yaml", **_JOB, STEP_CODE="7")
    yield from differs("an older token", (token.stat().st_mode & 0o777, token.read_text()), (0o600, made))
    yield from differs("the exit code of a failed run", code, 7)


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
