"""Why vLLM did not start, from its log: the first exception that is not a report about another one.

An engine has several processes, which all write to one log. The process that fails first names the cause. The others then
report that a process has failed ("Engine core initialization failed. See root cause above."). Within one process, a chain of
exceptions ends with the one that says the most.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname

from stj.config import EngineConfig, ModelConfig
from stj.errors import CapacityError, ConfigError, ModelError, StjError

_PREFIX = re.compile(r"^(?P<process>\([\w.@-]+ pid=\d+\)) (?:[A-Z]+ [\d-]+ [\d:]+ \[[^\]]*\] ?)?")
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning)?(?:: .*)?$")
_REPORT = re.compile(
    r"root cause|initialization failed|failed to start|background process|: cancelled$|executor failed", re.IGNORECASE
)
_MAY_HEAL = re.compile(
    r"out ?of ?memory|MemoryError|Free memory on device|Error in memory profiling|CUDA error|NCCL|"  # a GPU that others use
    r"Connection|Timeout|timed out|Broken ?pipe|Address already in use|Dist(?:Network|Store|Backend)Error|"  # the network
    r"No space left|Too many open files|Resource temporarily unavailable|\bkilled\b",  # the machine
    re.IGNORECASE,
)
_KV_CACHE = re.compile(r"max seq len \((\d+)\).*?\(?([\d.]+) GiB KV cache is needed.*?maximum model length is (\d+)", re.DOTALL)
_VALIDATION = re.compile(
    r"^(?:[\w.]+\.)?ValidationError: \d+ validation errors? for \w+ (?:Value error, )?"
)  # pydantic's words
_LONGEST = 500  # Characters of a cause in the one line of an error; the log holds the rest.


def start_error(model: ModelConfig, config: EngineConfig, reported: str, log: Path) -> StjError:
    """The error of an engine that did not start, from the exception that its process got, if any, and from its log.

    A CapacityError may heal: memory that another process still holds, a port, a lost connection, a process that was killed. It
    is worth another start. A ModelError or ConfigError cannot heal: the model's files or the settings are wrong.
    """
    cause = root_cause(reported, log.read_text(errors="replace") if log.exists() else "")
    where = f"(log: {log} on {gethostname()})"
    if kv := _KV_CACHE.search(cause):
        return ConfigError(f"{model.label}: {_kv_remedy(config, *kv.groups())} {where}")
    if not cause:
        return CapacityError(f"{model.label}: the engine's process ended while it started; is memory short? {where}")
    text = cause if len(cause) <= _LONGEST else f"{cause[:_LONGEST]}..."
    if _MAY_HEAL.search(cause) or _REPORT.search(cause):
        return CapacityError(f"{model.label}: the engine did not start: {text} {where}")
    return ModelError(f"{model.label}: vLLM cannot load it: {text} {where}")


def death_cause(log: Path) -> str:
    """Why the processes of a running engine ended, from their log, which a process that was killed leaves empty."""
    cause = root_cause("", log.read_text(errors="replace") if log.exists() else "")
    if not cause:
        return "its process was killed; is memory short?"
    return f"{cause if len(cause) <= _LONGEST else f'{cause[:_LONGEST]}...'} (log: {log} on {gethostname()})"


def root_cause(reported: str, log: str) -> str:
    """The exception that names the cause: the one reported, or the first in the log if that one only points to another."""
    if reported and not _REPORT.search(reported):
        return _VALIDATION.sub("", reported)
    for chain in _chains(log):
        for exception in reversed(chain):
            if not _REPORT.search(exception):
                return exception
    return reported


def _kv_remedy(config: EngineConfig, length: str, needed: str, fitting: str) -> str:
    """What to set if one sequence of full length does not fit. vLLM rounds to 0.01 GiB, so one more is asked for."""
    asked = math.ceil(float(needed) * 100 + 1) / 100
    more = (
        f"engine.kv_cache_gib={asked:g} or more (it is {config.kv_cache_gib:g})"
        if config.device == "cpu"
        else "a higher engine.gpu_memory_utilization or tensor_parallel_size"
    )
    return (
        f"a sequence of max_model_len={length} tokens needs up to {asked:g} GiB of KV cache on each device: set {more}, "
        f"or max_model_len={fitting} or less"
    )


def _chains(log: str) -> Iterator[list[str]]:
    """The exceptions of each traceback in a log, a chain of them as one list, in the order in which the chains begin."""
    chains: list[list[str]] = []
    open_chain: dict[str, list[str]] = {}  # The chain that each process is writing.
    in_traceback: dict[str, bool] = {}
    for raw in log.splitlines():
        prefix = _PREFIX.match(raw)
        process = prefix["process"] if prefix else ""
        line = raw[prefix.end() :] if prefix else raw
        if line.startswith(_TRACEBACK):
            if process not in open_chain:
                open_chain[process] = []
                chains.append(open_chain[process])
            in_traceback[process] = True
        elif in_traceback.get(process) and _EXCEPTION.match(line):
            open_chain[process].append(" ".join(line.split()))
            in_traceback[process] = False
        elif line.strip() and not line.startswith((" ", *_CHAINED)) and not in_traceback.get(process):
            open_chain.pop(process, None)
    yield from chains
