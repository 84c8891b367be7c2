"""Rules for cluster/Dockerfile."""

import json
import re
import tomllib

from packaging.specifiers import SpecifierSet

from tests.cluster.reading import ROOT, SCRATCH, Faults, commands, differs, efa_versions, makefile_uv, old_drivers

ENVIRONMENT = {
    "HOME": "/home/ray",  # `ray up` reads it from the image
    "HF_HOME": "/scratch/hf",
    "HF_TOKEN_PATH": "/home/ray/.cache/huggingface/token",
    "STJ_CACHE": "/scratch/stj",
    "TMPDIR": "/scratch/tmp",
    "XDG_CACHE_HOME": "/scratch/cache",
    "TRITON_CACHE_DIR": "/scratch/cache/triton",
    "FLASHINFER_WORKSPACE_BASE": "/scratch/cache",
    "CUDA_HOME": "/usr/local/lib/python3.11/site-packages/nvidia/cu13",  # where the wheel of nvcc is
    "LC_ALL": "C.UTF-8",
}
PACKAGES = {
    **dict.fromkeys(("gcc", "g++", "libc6-dev"), "Triton compiles at run time"),
    **dict.fromkeys(("rsync", "openssh-client", "openssh-server", "sudo", "procps"), "`ray up` and SkyPilot work through them"),
    **dict.fromkeys(("curl", "wget", "patch", "netcat-openbsd"), "SkyPilot's start of a machine calls them"),
    **dict.fromkeys(("libibverbs1", "librdmacm1"), "NCCL uses InfiniBand and RoCE through them"),
}
"""Debian's packages, each with the reason."""
GLIBC = {"bookworm": 36, "trixie": 41}
"""The minor version of glibc in Debian's releases: the pinned wheels need 2.35."""
LISTS = ("/tmp/requirements/gpu.txt", "/tmp/requirements/cloud.txt")
_APT = [
    "apt-get update",
    r"&& apt-get install -y --no-install-recommends (?P<packages>.*)",
    r"&& rm -rf /var/lib/apt/lists/\*",
]
_EFA = [
    r"if \[ -n \$EFA \]",
    "; then mkdir /tmp/efa",
    "&& cd /tmp/efa",
    r"&& curl -fsSL https://efa-installer\.amazonaws\.com/aws-efa-installer-\$EFA\.tar\.gz",
    r"\| tar -xz --strip-components=1",
    "&& apt-get update",
    r"&& \./efa_installer\.sh -y --skip-kmod --skip-limit-conf --no-verify",
    r"&& find /opt/amazon -name libnccl-net\*\.so -printf %h\\n",
    r"\| sort -u",
    r"> /etc/ld\.so\.conf\.d/[\w-]+\.conf",
    "&& cd /",
    r"&& rm -rf /tmp/efa /var/lib/apt/lists/\*",
    "&& ldconfig",
    "&& ldconfig -p",
    r"\| grep libnccl-net",
    "; fi",
]
_USER = [
    "useradd --uid 1000 --gid users --create-home --shell /bin/bash ray",
    r"&& echo ray ALL=\(ALL\) NOPASSWD:ALL",
    "> /etc/sudoers.d/ray",
    "&& install -d -o ray -g users (?P<owned>.*)",
]
_PINS = [
    r"pip install --no-cache-dir uv==(?P<uv>[\d.]+)",
    f"&& uv pip install --system --no-cache --compile-bytecode --no-deps -r {LISTS[0]} -r {LISTS[1]}",
]
_PROJECT = [r"uv pip install --system --no-cache --no-deps \."]


def dockerfile(text: str) -> Faults:
    """cluster/Dockerfile."""
    code = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    steps = [(line.split()[0], line.partition(" ")[2].strip()) for line in code.splitlines() if line.strip()]
    yield from old_drivers(text)
    yield from efa_versions(text)
    kinds = "FROM SHELL RUN ARG RUN RUN COPY RUN WORKDIR COPY COPY COPY COPY RUN ENV USER"
    yield from differs("the steps: nothing runs as root at last, and they", " ".join(kind for kind, _ in steps), kinds)
    values = {kind: [rest for name, rest in steps if name == kind] for kind in set(kinds.split())}
    yield from _base(values["FROM"][0])
    yield from differs(
        "a failed part of a pipe ends the build", json.loads(values["SHELL"][0]), ["/bin/bash", "-o", "pipefail", "-c"]
    )
    yield from differs("EFA's installer, which other networks do not want,", values["ARG"], ['EFA=""'])
    facts: dict[str, str] = {}
    for step, forms in zip(values["RUN"], (_APT, _EFA, _USER, _PINS, _PROJECT), strict=True):
        yield from _step(step, forms, facts)
    yield from differs("Debian's packages", sorted(facts["packages"].split()), sorted(PACKAGES))
    yield from differs("uv", facts["uv"], makefile_uv())
    directories = ["/scratch", *(f"/scratch/{name}" for name in SCRATCH), "/home/ray/.ray", "/home/ray/stj"]
    yield from differs("ray's directories", facts["owned"].split(), directories)
    yield from _copies(values["COPY"])
    yield from differs("the directory of the project", values["WORKDIR"], ["/home/ray/stj"])
    variables = [word.partition("=") for word in values["ENV"][0].split()]
    yield from differs("ENV", sorted((name, value) for name, _, value in variables), sorted(ENVIRONMENT.items()))
    yield from differs("the user: nothing runs as root, and it", values["USER"], ["ray"])


def _base(image: str) -> Faults:
    match = re.fullmatch(r"python:(3\.\d+)-slim-(\w+)", image)
    if not match or GLIBC.get(match[2], 0) < 35:
        yield f"{image} is no Python of a Debian with glibc 2.35"
        return
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    if match[1] not in SpecifierSet(wanted) or f"/python{match[1]}/" not in ENVIRONMENT["CUDA_HOME"]:
        yield f"stj does not run on Python {match[1]}, or CUDA_HOME names another"


def _step(step: str, forms: list[str], facts: dict[str, str]) -> Faults:
    """Each command, with what joins it to the one before, has a known form; `facts` takes what the forms name."""
    first, *rest = [" ".join(part) for part in commands(step)]
    calls = [first, *(f"{joint} {call}" for joint, call in zip(rest[::2], rest[1::2], strict=True))]
    yield from differs(f"the number of commands of {step[:40]}", len(calls), len(forms))
    for call, form in zip(calls, forms, strict=False):
        match = re.fullmatch(form, call)
        if not match:
            yield f"`{call}` does not have the form `{form}`"
            continue
        facts |= match.groupdict()


def _copies(lines: list[str]) -> Faults:
    """What the image holds of the project is there, belongs to ray, and lies where the next step looks."""
    copies = [line.split() for line in lines]
    lists, *project = copies
    yield from differs(
        "the lists", [*lists[:-1], lists[-1]], ["requirements/gpu.txt", "requirements/cloud.txt", "/tmp/requirements/"]
    )
    yield from differs("the owner", {words[0] for words in project}, {"--chown=ray:users"})
    sources = [source for words in project for source in words[1:-1]]
    yield from differs("the project", sources, ["pyproject.toml", "LICENSE", "README.md", "stj", "conf", "cluster"])
    for source in [*lists[:-1], *sources]:
        if not (ROOT / source).exists():
            yield f"{source} does not exist"
    for words in project:
        yield from differs(f"the place of {words[1]}", words[-1], "./" if len(words) > 3 else f"./{words[1]}")
