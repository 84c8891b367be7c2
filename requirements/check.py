"""Checks a list of pinned packages: `python requirements/check.py requirements/gpu.txt`, as `make lock` does.

1. Each line pins a version, and what the packages need is pinned, on every Python that stj supports.
2. No two packages that are installed together own the same file or command. The last one would win, without a word.

Only the index, the file names at the ends of the wheels and their entry points are read. Nothing is installed.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from packaging.pylock import PackageWheel, Pylock, PylockSelectError
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name
from packaging.version import Version
from remotezip import RemoteZip

Python = tuple[int, int]
PYTHONS: tuple[Python, ...] = ((3, 11), (3, 12), (3, 13))
GLIBC = 35  # of Ubuntu 22.04, which the images of our machines have
HARMLESS = {"build_backend.py": "two build backends that their wheels hold by mistake; nothing imports them"}
"""Files that may have several owners, each with the reason."""
_CONNECTIONS = 8


def main(names: Sequence[str]) -> int:
    """Checks lists of packages and prints each fault. Returns the exit code."""
    faults = [f"{name}: {fault}" for name in names for fault in faults_of(Path(name))]
    if not names:
        faults = ["name the lists to check: python requirements/check.py requirements/gpu.txt"]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def faults_of(list_file: Path) -> list[str]:
    """What is wrong with a list, a line each."""
    try:
        pins = pins_of(list_file)
    except (OSError, ValueError) as error:
        return [str(error)]
    faults: list[str] = []
    missing: defaultdict[str, list[str]] = defaultdict(list)
    wheels: dict[Python, dict[str, PackageWheel]] = {}
    for python in PYTHONS:
        try:
            lock = resolved(list_file, python)
            wheels[python] = wheels_of(lock, python)
        except (ValueError, PylockSelectError) as error:
            faults.append(f"Python {_words(python)}: {error}")
            continue
        for package in unpinned(pins, lock, python):
            missing[package].append(_words(python))
    for package, pythons in missing.items():
        faults.append(f"{package} is needed on Python {', '.join(pythons)}, and no line pins it there")
    return [*faults, *shared_files(wheels)]


def pins_of(list_file: Path) -> list[tuple[Requirement, Version]]:
    """The lines of a list with their versions. Raises ValueError at a line that does not say which one version it wants."""
    text = list_file.read_text(encoding="utf-8").replace("\\\n", " ")
    pins = []
    for line in filter(None, (line.split("#")[0].strip() for line in text.splitlines())):
        try:
            pin = Requirement(line)
            pins.append((pin, Version(str(pin.specifier).removeprefix("=="))))
        except ValueError:
            raise ValueError(f"a line must be a pin such as name==1.0, without options: {line[:100]}") from None
    if not pins:
        raise ValueError("it pins no package")
    return pins


def resolved(list_file: Path, python: Python) -> Pylock:
    """What would be installed from a list. Raises ValueError if its lines contradict each other or do not exist."""
    uv = Path(sys.executable).with_name("uv")
    # With this Python alone: uv would look for the others, or even fetch them.
    platform = ["--python", sys.executable, "--python-version", _words(python)]
    platform += ["--python-platform", f"x86_64-manylinux_2_{GLIBC}"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pylock.toml"
        command: list[str | Path] = [uv, "pip", "compile", "-q", *platform, "--format", "pylock.toml", list_file, "-o", file]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        if ran.returncode:
            raise ValueError(" ".join(ran.stderr.split()))
        return Pylock.from_dict(tomllib.loads(file.read_text()))


def unpinned(pins: Iterable[tuple[Requirement, Version]], lock: Pylock, python: Python) -> list[str]:
    """The packages of which this Python would install a version that no line pins for it."""
    for_python = [(pin, version) for pin, version in pins if not pin.marker or pin.marker.evaluate(_environment(python))]
    pinned = {(canonicalize_name(pin.name), version) for pin, version in for_python}
    return sorted(package.name for package in lock.packages if (package.name, package.version) not in pinned)


def wheels_of(lock: Pylock, python: Python) -> dict[str, PackageWheel]:
    """The wheels that this Python would install, by package. Packages without a wheel are built where they go.

    Raises PylockSelectError if a package has only wheels for others.
    """
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)] + ["manylinux2014_x86_64", "linux_x86_64"]
    interpreter = "cp{}{}".format(*python)
    tags = [*cpython_tags(python, platforms=platforms), *compatible_tags(python, interpreter, platforms)]
    chosen = lock.select(environment=_environment(python), tags=tags)  # type: ignore[arg-type]
    return {package.name: artifact for package, artifact in chosen if isinstance(artifact, PackageWheel)}


def shared_files(wheels: Mapping[Python, Mapping[str, PackageWheel]]) -> list[str]:
    """A line for each group of packages that own a file together on some Python."""
    files = {wheel.filename: wheel for chosen in wheels.values() for wheel in chosen.values()}
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        contents = dict(zip(files, pool.map(files_of, files.values()), strict=True))
    shared: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for python, chosen in wheels.items():
        site = PurePosixPath(f"lib/python{_words(python)}/site-packages")
        for packages, path in clashes({name: installed(contents[wheel.filename], site) for name, wheel in chosen.items()}):
            shared[packages].add(str(path.relative_to(site) if path.is_relative_to(site) else path))
    lines = []
    for packages, paths in sorted(shared.items()):
        if first := min(paths - HARMLESS.keys(), default=None):
            others = len(paths - HARMLESS.keys()) - 1
            more = f" and {others:,} other files" if others else ""
            lines.append(
                f"{' and '.join(packages)} share {first}{more} with different contents: ask for another version of one"
            )
    return lines


def files_of(wheel: PackageWheel) -> dict[str, str]:
    """What each file of a wheel holds, by name: a digest. A console script is one of them, and holds its target."""
    with RemoteZip(wheel.url) if wheel.url and not wheel.url.startswith("file:") else ZipFile(_local(wheel)) as content:
        files = {entry.filename: f"{entry.CRC} {entry.file_size}" for entry in content.infolist() if not entry.is_dir()}
        tables = [name for name in files if re.fullmatch(r"[^/]+\.dist-info/entry_points\.txt", name)]
        entry_points = ConfigParser(delimiters="=", interpolation=None)
        entry_points.optionxform = str  # type: ignore[assignment,method-assign]  # the case of names stays
        for table in tables:
            entry_points.read_string(content.read(table).decode())
    for group in {"console_scripts", "gui_scripts"} & entry_points.keys():
        files |= {f"{wheel.filename}.data/scripts/{name}": target for name, target in entry_points[group].items()}
    return files


def installed(files: Mapping[str, str], site: PurePosixPath) -> dict[PurePosixPath, str]:
    """The contents of a wheel's files by their paths below the environment, without its metadata, which no other wheel has."""
    paths = {}
    for name, content in files.items():
        top, *below = PurePosixPath(name).parts
        if top.endswith(".data"):
            places = {"purelib": site, "platlib": site, "scripts": PurePosixPath("bin"), "data": PurePosixPath()}
            place = places.get(below[0], PurePosixPath("include", top))  # headers have a folder for each package
            paths[place.joinpath(*below[1:])] = content
        elif not top.endswith(".dist-info"):
            paths[site / name] = content
    return paths


def clashes(contents: Mapping[str, Mapping[PurePosixPath, str]]) -> Iterator[tuple[tuple[str, ...], PurePosixPath]]:
    """Groups of packages, each with a path at which they have different files, or one a file and another a folder."""
    owners: defaultdict[PurePosixPath, dict[str, str]] = defaultdict(dict)
    for package, files in contents.items():
        for path, content in files.items():
            owners[path][package] = content
    folders = {folder for path in owners for folder in path.parents}
    for path, files_there in owners.items():
        if len(set(files_there.values())) > 1:
            yield tuple(sorted(files_there)), path
    for path in folders & owners.keys():
        below = {package for inner, packages in owners.items() if path in inner.parents for package in packages}
        yield tuple(sorted(below | owners[path].keys())), path


def _words(python: Python) -> str:
    return ".".join(map(str, python))


def _environment(python: Python) -> dict[str, str]:
    version = _words(python)
    return {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": "linux"}


def _local(wheel: PackageWheel) -> Path:
    return Path(wheel.path or (wheel.url or "").removeprefix("file://"))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
