"""Secrets that no program should write down, and a search for them in all that a command left behind."""

import base64
import gzip
import os
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SECRETS = (
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "OPENAI_API_KEY",
    "STJ_TEST_ENDPOINT_KEY",
    "VLLM_API_KEY",
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
"""Variables whose whole value is a secret; the last one usually names a file, and some people put its content there."""


def value_of(name: str) -> str:
    """A secret with characters that URLs, JSON and base64 write in other ways, around letters that they all leave alone."""
    return f"{mark_of(name)}/+\"='{mark_of(name)}"


def mark_of(name: str) -> str:
    """Letters that stand in the secret of this name and nowhere else: "nary", so that this text is no hit itself."""
    return f"Ca{'nary'}{name.replace('_', '').lower()}Zq7"


def key_of(name: str) -> str:
    """A secret of visible ASCII without quotes, as a header can hold it."""
    return f"{mark_of(name)}/+="


def secrets_in_environment(home: Path) -> dict[str, str]:
    """An environment full of secrets, and places of its own for all that programs write. Makes the folders, and a ~/.netrc."""
    for name in ("home", "tmp", "cache"):
        (home / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    (home / "home" / ".netrc").write_text(f"machine example.com login me password {value_of('netrc')}\n")
    values = {name: key_of(name) for name in SECRETS}
    values["GOOGLE_APPLICATION_CREDENTIALS"] = f'{{"private_key": "{mark_of("GOOGLE_APPLICATION_CREDENTIALS")}"}}'
    proxy = f"http://me:{mark_of('proxy')}@127.0.0.1:9"
    return values | {
        "HTTPS_PROXY": proxy,
        "HTTP_PROXY": proxy,
        "NO_PROXY": "127.0.0.1,localhost",
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "tmp"),
        "RAY_TMPDIR": str(home / "tmp"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HF_HOME": str(home / "cache" / "hf"),
        "HF_HUB_OFFLINE": "1",
        "STJ_CACHE": str(home / "cache" / "stj"),
    }


def leaks(folders: list[Path], texts: Mapping[str, bytes]) -> list[str]:
    """Where a secret stands: files by path, printed texts by name. A planted ~/.netrc is no leak."""
    needles = {name: _forms(name) for name in (*SECRETS, "netrc", "proxy", "RAY_AUTH_TOKEN")}
    found = []
    for where, content in (*_contents(folders), *texts.items()):
        found += [f"{name} in {where}" for name, forms in needles.items() if any(form in content for form in forms)]
    return found


def _forms(name: str) -> list[bytes]:
    """The mark, plain (also inside URLs and JSON) and as any base64 text that holds it."""
    mark = mark_of(name).encode()
    forms = [mark, mark.hex().encode()]
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + mark)
            forms.append(text[4 : len(text) // 4 * 4 - 4])  # without the ends, which depend on the neighbours
    return forms


def _contents(folders: list[Path]) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.name != ".netrc":
                with suppress(OSError):
                    yield str(path), path.read_bytes()
                yield from _unpacked(path)


def _unpacked(path: Path) -> Iterator[tuple[str, bytes]]:
    """What stands in a compressed file."""
    with suppress(OSError, pa.ArrowInvalid, zipfile.BadZipFile, EOFError):
        if path.suffix == ".parquet":
            yield f"{path} (unpacked)", str(pq.read_table(path).to_pylist()).encode()
            yield f"{path} (metadata)", str(pq.read_schema(path).metadata).encode()
        elif path.suffix in (".zip", ".whl", ".pt"):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path}:{name}", archive.read(name)
        elif path.suffix == ".gz":
            yield f"{path} (unpacked)", gzip.decompress(path.read_bytes())


class Titles(threading.Thread):
    """Collects the command lines of all processes that hold a mark in their environment, while it runs."""

    def __init__(self, mark: str) -> None:
        super().__init__(daemon=True)
        self._mark = mark.encode()
        self._ended = threading.Event()
        self.seen: set[bytes] = set()

    def run(self) -> None:
        """Looks twice a second."""
        while not self._ended.wait(0.5):
            for process in marked_processes(self._mark):
                with suppress(OSError):
                    self.seen.add(Path(f"/proc/{process}/cmdline").read_bytes())

    def end(self) -> bytes:
        """All command lines, one a line."""
        self._ended.set()
        self.join()
        return b"\n".join(sorted(self.seen))


def marked_processes(mark: bytes) -> list[int]:
    """Processes that hold a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


@contextmanager
def new_shared_files() -> Iterator[list[Path]]:
    """The files that appear in /dev/shm during the block and stay."""
    before = set(os.listdir("/dev/shm"))
    new: list[Path] = []
    yield new
    new += [Path("/dev/shm") / name for name in os.listdir("/dev/shm") if name not in before]
