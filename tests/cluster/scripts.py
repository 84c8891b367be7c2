"""Rules for the shell scripts of cluster/."""

import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from tests.cluster.run_on_nodes import run_on_nodes
from tests.cluster.slurm import slurm

SCRIPTS: dict[str, Callable[[str, Path], Iterator[str]]] = {"slurm.sh": slurm, "run_on_nodes.sh": run_on_nodes}


def script_faults(name: str, text: str, directory: Path) -> list[str]:
    """What is wrong with a script: the first rule that it breaks, since each run of it takes time."""
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    if checked.returncode:
        return [f"bash refuses it: {checked.stderr}"]
    try:
        return list(islice(SCRIPTS[name](text, directory), 1))
    except (subprocess.TimeoutExpired, OSError, KeyError, ValueError, IndexError) as error:
        return [f"it hangs, or calls something else: {type(error).__name__} {error}"]
