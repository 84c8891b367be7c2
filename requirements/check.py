"""Checks a list of pinned packages: `python requirements/check.py requirements/gpu.txt`, as `make lock` does.

1. Each requirement of each package is met by a line of the list, on every Python that stj supports.
2. No two packages own the same file. The one that is installed last would win, without a word.

Only the index and the ends of the wheels are read, where their file names are. Nothing is installed.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from packaging.pylock import PackageWheel, Pylock
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name
from remotezip import RemoteZip

PYTHONS = ((3, 11), (3, 12), (3, 13))
GLIBC = 35  # of Ubuntu 22.04, which the images of our machines have
HARMLESS = {"build_backend.py": "two build backends that their wheels hold by mistake; nothing imports them"}
"""Files that may have several owners, each with the reason."""
_CONNECTIONS = 8
_PLACES = {"purelib": PurePosixPath(), "platlib": PurePosixPath(), "scripts": PurePosixPath("bin")}


def main(names: Iterable[str]) -> int:
    """Checks lists of packages and prints each fault. Returns the exit code."""
    faults = [f"{name}: {fault}" for name in names for fault in faults_of(Path(name))]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def faults_of(list_file: Path) -> list[str]:
    """What is wrong with a list, a line each."""
    faults: dict[str, None] = {}
    wheels: dict[str, PackageWheel] = {}
    for version in PYTHONS:
        name = ".".join(map(str, version))
        try:
            lock = resolved(list_file, name)
        except subprocess.CalledProcessError as error:
            faults[f"Python {name}: {' '.join(error.stderr.split())}"] = None
            continue
        faults |= dict.fromkeys(f"{package} is needed, and no line pins it" for package in unpinned(list_file, lock))
        wheels |= wheels_of(lock, version)
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        contents = dict(zip(wheels, pool.map(files_of, wheels.values()), strict=True))
    return [*faults, *clashes(contents)]


def resolved(list_file: Path, python: str) -> Pylock:
    """What would be installed from a list. Raises CalledProcessError if its lines contradict each other or do not exist."""
    uv = Path(sys.executable).with_name("uv")
    # With this Python alone: uv would look for the others, or even fetch them.
    platform = ["--python", sys.executable, "--python-version", python, "--python-platform", f"x86_64-manylinux_2_{GLIBC}"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pylock.toml"
        command: list[str | Path] = [uv, "pip", "compile", "-q", *platform, "--format", "pylock.toml", list_file, "-o", file]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return Pylock.from_dict(tomllib.loads(file.read_text()))


def unpinned(list_file: Path, lock: Pylock) -> list[str]:
    """The packages that would be installed without a line in the list."""
    lines = [line.split("#")[0].strip() for line in list_file.read_text().splitlines()]
    pinned = {canonicalize_name(Requirement(line).name) for line in lines if line}
    return sorted(package.name for package in lock.packages if package.name not in pinned)


def wheels_of(lock: Pylock, python: tuple[int, int]) -> dict[str, PackageWheel]:
    """The wheels that this Python would install, by package and version. Packages without a wheel are built where they go."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)] + ["manylinux2014_x86_64", "linux_x86_64"]
    interpreter = "cp{}{}".format(*python)
    tags = [*cpython_tags(python, platforms=platforms), *compatible_tags(python, interpreter, platforms)]
    version = ".".join(map(str, python))
    environment = {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": "linux"}
    chosen = lock.select(environment=environment, tags=tags)  # type: ignore[arg-type]
    return {
        f"{package.name} {artifact.filename}": artifact for package, artifact in chosen if isinstance(artifact, PackageWheel)
    }


def files_of(wheel: PackageWheel) -> dict[PurePosixPath, ZipInfo]:
    """The files that a wheel installs, by their paths in the environment."""
    with RemoteZip(wheel.url) if wheel.url and not wheel.url.startswith("file:") else ZipFile(_local(wheel)) as content:
        entries = [entry for entry in content.infolist() if not entry.is_dir()]
    return {path: entry for entry in entries if (path := installed_path(entry.filename)) is not None}


def installed_path(name: str) -> PurePosixPath | None:
    """Where a file of a wheel goes, below the environment; None for its metadata, which no other package has."""
    top, *below = PurePosixPath(name).parts
    if top.endswith(".dist-info"):
        return None
    if top.endswith(".data"):
        return _PLACES.get(below[0], PurePosixPath(below[0])).joinpath(*below[1:])
    return PurePosixPath(name)


def clashes(contents: Mapping[str, Mapping[PurePosixPath, ZipInfo]]) -> list[str]:
    """The files that several packages own with different contents, a line for each group of packages."""
    owners: defaultdict[PurePosixPath, dict[str, ZipInfo]] = defaultdict(dict)
    for wheel, files in contents.items():
        for path, entry in files.items():
            owners[path][wheel] = entry
    shared: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for path, entries in owners.items():
        packages = sorted({wheel.split()[0] for wheel in entries})
        contents_differ = len({(entry.CRC, entry.file_size) for entry in entries.values()}) > 1
        if len(packages) > 1 and contents_differ and str(path) not in HARMLESS:
            shared[tuple(packages)].append(str(path))
    return [
        f"{' and '.join(packages)} share {min(paths)} and {len(paths) - 1:,} other files with different contents: "
        "ask for another version of one"
        for packages, paths in sorted(shared.items())
    ]


def _local(wheel: PackageWheel) -> Path:
    return Path(wheel.path or (wheel.url or "").removeprefix("file://"))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
