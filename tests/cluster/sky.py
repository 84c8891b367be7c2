"""Rules for cluster/sky.yaml."""

import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema

from tests.cluster.reading import INSTALLS, ROOT, Faults, commands, differs, efa_versions, old_drivers, read, run_config, says

SCHEMA = json.loads((ROOT / "tests" / "schemas" / "skypilot-task-0.14.1.json").read_text())

_LAUNCH = "sky launch cluster/sky.yaml -c stj --secret RAY_AUTH_TOKEN --env RUN_ROOT=s3://YOUR-BUCKET/paper"


def sky(text: str) -> Faults:
    """cluster/sky.yaml."""
    task = read(text)
    yield from old_drivers(text)
    yield from efa_versions(text)
    yield from says(text, "\n#   export RAY_AUTH_TOKEN=$(openssl rand -hex 32)\n", f"\n#   {_LAUNCH} ")
    yield from differs("the keys", set(task), {"name", "workdir", "num_nodes", "resources", "envs", "secrets", "run"})
    if not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", task["name"]):
        yield f"SkyPilot refuses the name {task['name']}"
    yield from differs("workdir", task["workdir"], ".")
    yield from differs("num_nodes", task["num_nodes"], 4)
    needed = {
        "accelerators": "H100:8",
        "image_id": "docker:YOUR-IMAGE",
        "network_tier": "best",
        "disk_tier": "best",
        "disk_size": 3000,
        "use_spot": False,
    }
    yield from differs("resources", task["resources"], {**needed, "autostop": {"idle_minutes": 10, "down": True}})
    yield from differs(
        "envs",
        task["envs"],
        {"RUN_ROOT": "s3://YOUR-BUCKET/paper", "RAY_AUTH_MODE": "token", "RAY_JOB_STOP_WAIT_TIME_S": "30"},
    )
    yield from differs("secrets", task["secrets"], {"RAY_AUTH_TOKEN": None, "HF_TOKEN": ""})
    yield from _run(task)
    if INSTALLS.search(text):
        yield "a new machine installs packages"
    try:
        jsonschema.validate(task, SCHEMA)
    except jsonschema.ValidationError as error:
        yield f"SkyPilot refuses the file: {error.message}"


def _run(task: Mapping[str, Any]) -> Faults:
    """The image's programs are found first, and each machine joins a Ray that is not SkyPilot's (port 6380, agent 52365)."""
    text = re.sub(r"  #.*", "", task["run"])
    path, head, run, *more = [words for line in text.replace("\\\n", " ").splitlines() for words in [line.split()] if words]
    yield from differs("the image's programs come first", path, ["export", "PATH=/usr/local/bin:$PATH"])
    yield from differs("the head", " ".join(head), 'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)')
    yield from differs("what else runs", more, [])
    (words,) = commands(" ".join(run))
    yield from differs(
        "the start",
        words[:6],
        ["bash", "cluster/run_on_nodes.sh", "/scratch", "$head:6379", "$SKYPILOT_NUM_NODES", "$SKYPILOT_NODE_RANK"],
    )
    options = ["--num-gpus=$SKYPILOT_NUM_GPUS_PER_NODE", "--dashboard-agent-listen-port=52366"]
    yield from differs("Ray's options", words[6].split(), options)
    config = run_config([word.replace("$RUN_ROOT", task["envs"]["RUN_ROOT"]) for word in words[7:]])
    yield from differs(
        "the run and its ranks", (config.run_root, config.train.workers), ("s3://YOUR-BUCKET/paper", 8 * task["num_nodes"])
    )
