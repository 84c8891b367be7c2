"""One GPU in eight minutes: our engine and our training against what the card can do, and against the plan.

    python benchmarks/gpu.py --out DIR                all parts
    python benchmarks/gpu.py --out DIR full_8b bare   only named parts
    python benchmarks/gpu.py --out DIR --tiny         tiny shapes on a CPU: shows that all of it runs, and measures nothing

environment    the rate that a plain matrix product in bf16 holds, that of copies to the host, and the card's clocks and power
full_8b        whole steps on rows of 8,192 packed tokens, with as many layers of the 8B as fit, all of them recomputed: MFU,
               the kernels that take the most time, and peak memory over the plan; then the export
selective_8b   the same, with every second layer recomputed
engine         the 8B's shape with random weights: a cold start, one sample a prompt at fixed lengths, judging with
               first_correct against all 15, a warm start
bare           the same prompts through vllm.LLM with the same settings
full_70b       as full_8b, with layers of the 70B; its vocabulary is 32,768, because the 70B's own takes half of a card
attention      attention of packed rows with the best kernel against one text at a time, forward and backward
logits         memory of the head on supervised positions, against logits of all positions and against the plan
load           an engine on the model that full_8b has exported
selective_70b  as full_70b, with every second layer recomputed

It needs one GPU, and 20 GB of disk in TMPDIR for the trainings, but no Ray and no network. If CUDA_VISIBLE_DEVICES names
several GPUs, the first one is measured; numbers are those of nvidia-smi. Each part is a process with a limit of time. Each
figure is printed at once and added to DIR/gpu.json. A part that fails or is cut keeps the figures that it has, and harms no
other part. DIR/PART.log has what its processes print. The exit status is 1 if a part failed or was left out. Random weights
write noise, so judgments get their verdicts from a coin; the share of right ones of each pair is drawn evenly from 0 to 1.

Keys at the top of gpu.json, null if not measured:

pass_over_bare_vllm      output tokens a second of our pass over those of vllm.LLM: medians of three trials with new prompts;
                         ours includes chat template and tokens, which vllm.LLM is given
mfu_full_recompute       model FLOPs (stj/train/flops.py: nothing computed again, attention within texts, the head at learned
                         tokens) over the data sheet's peak, in whole steps of eight rows with their update: the median of
                         three steps, and of the two shapes the lower one
mfu_selective_recompute  the same with every second layer recomputed
peak_memory_over_plan    peak of torch's allocator in a training, with its load, over `stj plan`: of the case farthest from 1
equal_engines            whether the first ratio compares equals: batches of one size, and KV caches of one size
goals                    of each ratio, and whether it is met; null if it was not measured, or not on a GPU

Raw figures are under `raw` by part. Named parts are added to DIR/gpu.json if it has the same card and versions. A run of all
parts on a GPU also writes benchmarks/results/gpu.json. If you have a GPU, add a line to LOG.md.
"""

import argparse
import ctypes
import faulthandler
import importlib
import importlib.util
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from gpu_machine import machine

Figures = dict[str, Any]

STARTED = time.monotonic()
ROOT = Path(__file__).parents[1]
DRIVER = Path("/dev/nvidiactl")
RESULT = ROOT / "benchmarks" / "results" / "gpu.json"
LIMIT_S = 465
"""Seconds of all parts together, with what ends them."""
HARD_LIMIT_S = 478
"""Seconds after which this process ends, whatever it waits for. Each figure was written when it came."""
TEARDOWN_S = 8
"""The most seconds that a part's processes get to die; the driver gives 80 GB back in about two."""
BOXES_S = {
    "environment": 60,
    "full_8b": 110,
    "selective_8b": 90,
    "engine": 200,
    "bare": 110,
    "full_70b": 90,
    "attention": 40,
    "logits": 40,
    "load": 70,
    "selective_70b": 80,
}
"""The most seconds of each part, in the order of their worth: if the first ones take long, the last ones are left out."""
LEAST_S = 15  # No part begins with less time than this.
DISK_GB = 20
"""What the seeds of both shapes and the export take on disk, with as many layers as fit."""
_MODULES = {"engine": "gpu_engine", "bare": "gpu_engine", "load": "gpu_engine", "attention": "gpu_row", "logits": "gpu_row"}
"""Where a part is; the others are in gpu_training."""
_WHERE, _WHERE_S = signal.SIGUSR1, 0.3  # A part that is cut writes its stack to its log at this signal, in this time.
_ROOM_TOLERANCE = 0.01  # Memory that a process before gave back late makes less of a difference.
_LOG_LINES = 15  # Lines of a failed part's log in the result.
_LOG_BYTES = 1 << 20  # More of a log is not read, and not copied.
_SET_CHILD_SUBREAPER = 36  # The number of this option in Linux's prctl.h.


def main() -> None:
    """Runs the parts; as the process of one part, measures it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", choices=[*BOXES_S, []], metavar="PART", help="parts to measure; all if none is named"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.json and the logs")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--pipe", type=int, help=argparse.SUPPRESS)  # The process of a part writes its figures there.
    options = parser.parse_args()
    if options.pipe is not None:
        measure(options.parts[0], options.pipe, options.out, tiny=options.tiny)
    if not options.tiny and not DRIVER.exists():
        parser.error("this machine has no NVIDIA GPU: --tiny runs everything on a CPU")
    if not options.tiny and (short := short_of_disk(options.parts or BOXES_S)):
        parser.error(short)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stj-gpu-") as scratch:
        end_at_last(Path(scratch), HARD_LIMIT_S)
        say(here := machine())
        result = Result(options.out / "gpu.json", here, tiny=options.tiny, whole=not options.parts)
        words = [sys.executable, __file__, f"--out={scratch}", *(["--tiny"] if options.tiny else [])]
        boxes = {part: BOXES_S[part] for part in options.parts or BOXES_S}
        run_parts(boxes, lambda part: [*words, part], Path(scratch), result)
        say(result.top(), indent=1)
        if not options.tiny and not options.parts:
            keep(result.path)
    sys.exit(any(result.parts[part]["outcome"] != "done" for part in boxes))


def short_of_disk(parts: Iterable[str]) -> str:
    """What is wrong with TMPDIR, where trainings write their seeds and an export; empty if nothing is."""
    folder = tempfile.gettempdir()
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb >= DISK_GB or not any(part.startswith(("full", "selective")) for part in parts):
        return ""
    return f"TMPDIR={folder} has {free_gb:.1f} GB free, and trainings need {DISK_GB} GB: name a directory of a larger disk"


def keep(path: Path) -> None:
    """Copies the result of a whole run beside the results of other benchmarks, if this checkout can be written."""
    try:
        shutil.copyfile(path, RESULT)
    except OSError as error:
        print(f"{RESULT} is not written ({error.strerror}): copy {path} there", file=sys.stderr)


def measure(part: str, pipe: int, scratch: Path, *, tiny: bool) -> None:
    """Measures a part in this process, which then ends; each of its figures becomes a line of JSON in the pipe."""
    faulthandler.enable()
    faulthandler.register(_WHERE)
    module = importlib.import_module(_MODULES.get(part, "gpu_training"))
    sizes = importlib.import_module("gpu_sizes").sizes(tiny=tiny)
    with os.fdopen(pipe, "w") as lines:
        for figures in getattr(module, part)(sizes, scratch):
            print(json.dumps(figures, allow_nan=False), file=lines, flush=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Threads of collectives may abort a process that Python ends.


def say(figures: Figures, indent: int | None = None) -> None:
    """Prints figures. If nobody reads them any more, the run continues: they are in the file too."""
    try:
        print(json.dumps(figures, indent=indent), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Result:
    """gpu.json, whole after each figure. One of only some parts begins with what is there of the same machine."""

    def __init__(self, path: Path, here: Figures, *, tiny: bool, whole: bool = False) -> None:
        self.path = path
        self._here = json.loads(json.dumps({**here, "tiny": tiny}))
        before = {} if whole else self._before()
        self.raw: dict[str, Figures] = before.get("raw", {})
        self.parts: dict[str, Figures] = before.get("parts", {})

    def _before(self) -> Figures:
        try:
            before: Figures = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return before if self._here.items() <= before.items() else {}

    def begin(self, part: str) -> None:
        """Forgets what is known of a part. If this process is killed while the part runs, the file says so."""
        self.raw.pop(part, None)
        self.parts[part] = {"outcome": "cut with the whole run"}
        self._write()

    def add(self, part: str, figures: Figures) -> None:
        """Prints new figures of a part and merges them."""
        say({part: figures})
        self.raw.setdefault(part, {}).update(figures)
        self._write()

    def end(self, part: str, outcome: Figures) -> None:
        """Prints how a part ended, and notes it."""
        say({part: outcome})
        self.parts[part] = outcome
        self._write()

    def top(self) -> Figures:
        """The ratios, and whether they meet their goals."""
        ratios = headline(self.raw)
        equal = equal_engines(self.raw)
        met = {key: self._met(ratios[key], reached) for key, (_, reached) in GOALS.items()}
        if equal is False and met["pass_over_bare_vllm"]:
            met["pass_over_bare_vllm"] = False  # a ratio of unequal engines meets nothing
        goals = {key: {"goal": words, "met": met[key]} for key, (words, _) in GOALS.items()}
        return {**ratios, "equal_engines": equal, "goals": goals}

    def _met(self, ratio: float | None, reached: Callable[[float], bool]) -> bool | None:
        return None if ratio is None or self._here["tiny"] else reached(ratio)

    def _write(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({**self.top(), **self._here, "parts": self.parts, "raw": self.raw}, indent=1) + "\n")
        temporary.rename(self.path)


GOALS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "pass_over_bare_vllm": (">= 0.97", lambda ratio: ratio >= 0.97),
    "mfu_full_recompute": (">= 0.50", lambda mfu: mfu >= 0.50),
    "mfu_selective_recompute": (">= 0.58", lambda mfu: mfu >= 0.58),
    "peak_memory_over_plan": ("within 10% of 1", lambda ratio: abs(ratio - 1) <= 0.10),
}
"""What each ratio must reach. With full recomputation 0.60 of the rate of a plain product is about the most."""


def headline(raw: Mapping[str, Figures]) -> dict[str, float | None]:
    """The ratios at the top, from the raw figures of all parts; None if what they need was not measured."""
    trainings = [figures for figures in raw.values() if "recomputed_every" in figures]
    ours, bare = (_median(raw.get(part, {}).get("tokens_per_s")) for part in ("engine", "bare"))
    memory = [training["peak_over_plan"] for training in trainings]
    return {
        "pass_over_bare_vllm": round(ours / bare, 4) if ours and bare else None,
        "mfu_full_recompute": _lowest_mfu(trainings, every=1),
        "mfu_selective_recompute": _lowest_mfu(trainings, every=2),
        "peak_memory_over_plan": max(memory, key=lambda ratio: abs(ratio - 1), default=None),
    }


def equal_engines(raw: Mapping[str, Figures]) -> bool | None:
    """Whether our engine and vllm.LLM read batches of one size, with the same room to one percent; None if that is unknown."""
    ours, bare = (raw.get(part, {}).get("log", {}) for part in ("engine", "bare"))
    pairs = [(ours.get(name), bare.get(name)) for name in ("batch_tokens", "kv_cache_tokens")]
    if any(size is None for pair in pairs for size in pair):
        return None
    batches, room = pairs
    return batches[0] == batches[1] and abs(room[0] / room[1] - 1) <= _ROOM_TOLERANCE


def _lowest_mfu(trainings: Sequence[Figures], *, every: int) -> float | None:
    return min((training["mfu"] for training in trainings if training["recomputed_every"] == every), default=None)


def _median(rates: Sequence[float] | None) -> float | None:
    return statistics.median(rates) if rates else None


Command = Callable[[str], Sequence[str]]
"""The command of a part's process, without the pipe."""


def run_parts(
    parts: Mapping[str, float], command: Command, scratch: Path, result: Result, end: float = STARTED + LIMIT_S
) -> None:
    """Runs parts one after another, each in its box of seconds, and all of them before the end."""
    adopt_orphans()
    for part, box_s in parts.items():
        left = end - TEARDOWN_S - time.monotonic()
        result.begin(part)
        if left < LEAST_S:
            result.end(part, {"outcome": "no time left"})
        else:
            result.end(part, run_part(part, command(part), min(box_s, left), scratch, result))


def run_part(part: str, command: Sequence[str], box_s: float, scratch: Path, result: Result) -> Figures:
    """Runs a part as a process, adds its figures as they come, and ends all that it leaves; returns its outcome."""
    started = time.monotonic()
    log = result.path.with_name(f"{part}.log")
    reading, writing = os.pipe()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--pipe", str(writing)], stdout=file, stderr=file, pass_fds=(writing,), env=_environment(scratch)
        )
    os.close(writing)
    try:
        for line in _lines(process, reading, started + box_s):
            result.add(part, json.loads(line))
    finally:
        os.close(reading)
        if (ended := process.poll()) is None:
            process.send_signal(_WHERE)
            time.sleep(_WHERE_S)
        left = end_children(TEARDOWN_S)
    outcome: Figures = {"outcome": "done" if ended == 0 else "out of time" if ended is None else "failed"}
    outcome |= {"seconds": round(time.monotonic() - started, 1), "box_s": round(box_s, 1)}
    if left:
        outcome["do_not_die"] = left
    if ended != 0:
        outcome |= {"exit": ended, "log": _tail(log).decode(errors="replace").splitlines()[-_LOG_LINES:]}
    _keep_engine_logs(scratch, log, failed=ended != 0)
    return outcome


def _lines(process: "subprocess.Popen[bytes]", reading: int, end: float) -> Iterator[bytes]:
    """Whole lines from the pipe until the process has ended or its time is over. Its children may hold the pipe open longer."""
    pending, ended = b"", os.pidfd_open(process.pid)
    os.set_blocking(reading, False)
    watched = [reading, ended]
    try:
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select(watched, [], [], left)
            chunk = b""
            if reading in watched:
                with suppress(BlockingIOError):
                    chunk = os.read(reading, 1 << 16)
                    watched = watched if chunk else [ended]
            *whole, pending = (pending + chunk).split(b"\n")
            yield from whole
            if ended in ready and not chunk:
                process.wait()
                return
    finally:
        os.close(ended)


def adopt_orphans() -> None:
    """Makes this process the parent of all processes whose parents end: engines and their workers stay within reach."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)


def end_children(seconds: float) -> list[int]:
    """Kills all processes below this one, so that the next part has the whole card; returns those that do not die in time."""
    end = time.monotonic() + seconds
    while (children := psutil.Process().children(recursive=True)) and time.monotonic() < end:
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=0.5)
    return [child.pid for child in children]


def end_at_last(scratch: Path, limit_s: float) -> None:
    """Has this process end after so many seconds since its start, even if it waits for a disk or for processes."""

    def end(*_: object) -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        subprocess.Popen(["rm", "-rf", scratch], start_new_session=True)
        os._exit(1)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit_s - (time.monotonic() - STARTED))


def _environment(scratch: Path) -> dict[str, str]:
    """Nothing is downloaded; what is compiled is in the scratch folder, so a cold start is cold, and a warm one finds it."""
    caches = {name: str(scratch / name.lower()) for name in ("VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # vLLM 0.25 ends with an error on a GPU if it may use Flashinfer's sampler and Flashinfer is not there.
    vllm = {} if importlib.util.find_spec("flashinfer") else {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
    vllm["VLLM_LOGGING_LEVEL"] = "INFO"  # Its log has the sizes that both engines must share.
    cuda = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # The card that gpu_machine.py asks about.
    return {**os.environ, **caches, **vllm, **cuda, "PYTHONPATH": path, "TMPDIR": str(scratch), "HF_HUB_OFFLINE": "1"}


def _tail(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        return file.read()


def _keep_engine_logs(scratch: Path, log: Path, *, failed: bool) -> None:
    """Copies the logs of a failed part's engines beside the part's log, and removes them: the next part has its own."""
    for engine in scratch.glob("stj-*/*.log"):
        if failed:
            log.with_name(f"{log.stem}-{engine.name}").write_bytes(_tail(engine))
        engine.unlink()


if __name__ == "__main__":
    main()
