"""Grafana's dashboard and Prometheus' files fit what runs and servers really export."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from stj.cluster_config import RayConfig
from stj.monitoring import METRICS, SERVER_METRICS, table
from stj.passes.ledger import Ledger
from stj.passes.metrics import PassMetrics
from stj.passes.session import joined_cluster
from stj.train.gauges import TrainingGauges
from stj.train.metrics import StepMetrics
from tests.conftest import running, soon
from tests.judging.mini_server import mini_server

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
DASHBOARD = json.loads((CLUSTER / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
VARIABLES = {"job": ".*", "run": ".*", "server": ".*", "__rate_interval": "1m"}
BY_PROMETHEUS = {"job", "instance", "le"}
"""Labels that Prometheus itself adds, and that of buckets."""
UNKNOWN_ON_CPUS = {"ray_stj_train_mfu", "ray_stj_pass_dollars"}
"""A CPU has neither a known peak nor a price."""
UNITS = {"none", "s", "h", "percent", "percentunit", "bytes", "Bps", "currencyUSD"}
ONLY_ON_GPUS = {"ray_node_gpus_utilization", "ray_node_gram_used", "ray_node_gram_available"}


@dataclass
class Query:
    """What a PromQL expression names."""

    metrics: dict[str, set[str]] = field(default_factory=dict)
    """The labels that its selectors match, by metric."""
    rated: set[str] = field(default_factory=set)
    """Metrics inside `rate`."""
    grouped: list[str] = field(default_factory=list)
    """The labels that the outermost aggregation keeps."""


def parsed(expression: str) -> Query:
    """The query; fails for what is no PromQL."""
    promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed (requirements/dev.txt)")
    for name, value in VARIABLES.items():
        expression = expression.replace(f"${name}", value)
    query = Query()
    _read(promql.parse(expression), query, inside="")
    return query


def _read(node: Any, query: Query, inside: str) -> None:
    if selector := getattr(node, "vector_selector", None):  # with a range
        node = selector
    if hasattr(node, "matchers"):
        query.metrics.setdefault(node.name, set()).update(matcher.name for matcher in node.matchers.matchers)
        if inside == "rate":
            query.rated.add(node.name)
        return
    if (modifier := getattr(node, "modifier", None)) and hasattr(modifier, "labels") and not query.grouped:
        query.grouped = list(modifier.labels)
    function = getattr(getattr(node, "func", None), "name", inside)
    for child in (*getattr(node, "args", ()), *(getattr(node, name, None) for name in ("expr", "lhs", "rhs"))):
        if child is not None:
            _read(child, query, function)


def test_the_dashboard_has_panels_that_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert DASHBOARD["schemaVersion"] >= 39
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Run",
        "Passes",
        "Training",
        "Server",
        "Machines",
    ]
    for first, second in combinations((panel["gridPos"] for panel in panels), 2):
        beside = first["x"] + first["w"] <= second["x"] or second["x"] + second["w"] <= first["x"]
        below = first["y"] + first["h"] <= second["y"] or second["y"] + second["h"] <= first["y"]
        assert beside or below
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_each_panel_has_a_unit_a_description_and_the_data_source() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert names == {"datasource", "job", "run", "server"}
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["description"]
        for place in (panel, *panel["targets"]):
            assert place["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for _, target in QUERIES:
        used = set(re.findall(r"\$(\w+)", target["expr"]))
        assert used - {"__rate_interval"} <= names
        assert "job" in used


@pytest.mark.parametrize(("title", "target"), QUERIES, ids=[f"{title}-{target['refId']}" for title, target in QUERIES])
def test_queries_fit_the_declared_metrics(title: str, target: dict[str, Any]) -> None:
    query = parsed(target["expr"])
    declared = {metric.exported: metric for metric in METRICS}
    for name, labels in query.metrics.items():
        if "stj_" in name:
            metric = declared[name]
            assert labels <= {*metric.labels, *BY_PROMETHEUS}
            assert {*query.grouped} <= {*metric.labels, *BY_PROMETHEUS}
            assert name not in query.rated or metric.kind == "counter"
        assert name not in query.rated or name.endswith(("_total", "_bucket"))
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= {*query.grouped, "instance"}


def test_every_metric_has_a_panel() -> None:
    shown = {name for _, target in QUERIES for name in parsed(target["expr"]).metrics}
    assert {metric.exported for metric in METRICS} == {name for name in shown if "stj_" in name}


def test_the_docs_have_the_table_of_the_metrics() -> None:
    assert table() in (ROOT / "docs" / "clusters.md").read_text(), "docs/clusters.md needs what stj.monitoring.table() returns"


def test_gpu_metrics_are_those_of_ray() -> None:
    """A machine without a GPU does not export them."""
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    assert {name.removeprefix("ray_") for name in ONLY_ON_GPUS} <= METRICS_GAUGES.keys()


def test_prometheus_takes_the_configuration() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    words = [promtool, "check", "config", "--syntax-only", str(CLUSTER / "prometheus.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_prometheus_finds_the_machines_and_keeps_the_key_in_a_file() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    jobs = {job["job_name"]: job for job in yaml.safe_load((CLUSTER / "prometheus.yaml").read_text())["scrape_configs"]}
    [found] = jobs["ray"]["file_sd_configs"]
    assert found["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]
    assert jobs["stj-serve"]["authorization"].keys() == {"type", "credentials_file"}
    monitor = yaml.safe_load((CLUSTER / "podmonitor.yaml").read_text())
    assert (monitor["kind"], monitor["apiVersion"]) == ("PodMonitor", "monitoring.coreos.com/v1")
    [rule] = monitor["spec"]["selector"]["matchExpressions"]
    assert (rule["key"], rule["values"]) == ("ray.io/node-type", ["head", "worker"])
    assert [place["port"] for place in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]


Exported = dict[str, tuple[str, list[dict[str, str]]]]
"""The type and the labels of every series, by the name of its samples."""


def read_metrics(text: str, into: Exported) -> None:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = into.setdefault(sample.name, (family.type, []))[1]
            if sample.labels not in series:
                series.append(sample.labels)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """What Ray exports while a small run goes from its first pass to the last one."""
    home = Path(os.environ.get("TMPDIR", "/tmp")) / f"stj-seen-{os.getpid()}"  # short: Ray's sockets lie below
    home.mkdir()
    run_root = tmp_path_factory.mktemp("monitoring") / "run"
    words = [sys.executable, "-m", "stj.cli", "run", str(ROOT / "conf" / "mini.yaml"), f"run_root={run_root}"]
    words += ["source.limit=160", "heldout.limit=12", "iterations=1"]
    words += ["train.checkpoint_every_steps=4"]
    series: Exported = {}
    with running(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"RAY_TMPDIR": str(home)}) as run:
        while run.poll() is None:
            time.sleep(0.5)
            for port in home.glob("stj-*/ray/session_latest/metrics_export_port_*"):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text()}/metrics", timeout=600) as answer:
                        read_metrics(answer.read().decode(), series)
                except (OSError, ValueError):  # it has not started, or it ends
                    continue
        assert run.stderr
        assert run.returncode == 0, run.stderr.read()
    yield series
    shutil.rmtree(home)


@pytest.mark.engine
@pytest.mark.long
def test_a_run_exports_what_the_dashboard_shows(exported: Exported) -> None:
    expected = {metric.exported: metric for metric in METRICS if metric.by_ray}
    assert {name for name in exported if name.startswith("ray_stj_")} == expected.keys() - UNKNOWN_ON_CPUS
    for name, metric in expected.items():
        kind, series = exported.get(name, (metric.kind, []))
        assert kind == metric.kind
        for labels in series:
            assert {*metric.labels} <= labels.keys()
    for title, target in QUERIES:
        for name, labels in parsed(target["expr"]).metrics.items():
            if name.startswith("ray_") and name not in UNKNOWN_ON_CPUS | ONLY_ON_GPUS:
                assert name in exported, f"{title}: {name}"
                assert labels - BY_PROMETHEUS <= exported[name][1][0].keys(), f"{title}: {name}"


@pytest.mark.engine
def test_what_is_unknown_on_cpus_is_exported_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    series: Exported = {}
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        with joined_cluster(RayConfig(address="local")):
            step = StepMetrics(step=1, epoch=1, loss=1, preferred=None, lr=1, grad_norm=1, tokens_per_s=1, mfu=0.5)
            TrainingGauges("/run/iteration_1").show(step, 0)
            PassMetrics("pairs", "/run").show_cost(Ledger(), 0.5)
            port = ray.nodes()[0]["MetricsExportPort"]

            def seen() -> bool:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=600) as answer:
                    read_metrics(answer.read().decode(), series)
                return series.keys() >= UNKNOWN_ON_CPUS

            assert soon(seen)
    labels = {metric.exported: {*metric.labels} for metric in METRICS}
    assert all(labels[name] <= series[name][1][0].keys() for name in UNKNOWN_ON_CPUS)


@pytest.mark.engine
@pytest.mark.long
def test_labels_name_the_run_its_phases_and_the_states(exported: Exported) -> None:
    def values(name: str, label: str) -> set[str]:
        return {labels[label] for labels in exported[name][1]}

    late = {"heldout_1"}  # the last pass may be over before Ray shows it
    phases = values("ray_stj_run_phase", "phase")
    assert phases | late == {"pairs", "iteration_1/examples", "iteration_1/model", *late}
    assert values("ray_stj_pass_rows", "state") == {"done", "failed", "dropped", "in_flight", "total"}
    assert values("ray_stj_pass_rows", "pass") | late == {"pairs", *late}
    assert values("ray_stj_pass_engines", "state") == {"waiting", "starting", "running"}
    assert values("ray_stj_pass_tokens_total", "kind") == {"prompt", "computed", "output"}
    assert values("ray_stj_train_loss", "training") == values("ray_stj_train_restarts", "training") == {"iteration_1"}
    runs = {run for name in exported if name.startswith("ray_stj_") for run in values(name, "run")}
    assert len(runs) == 1, runs


@pytest.mark.engine
def test_a_server_exports_what_the_dashboard_shows(tmp_path: Path) -> None:
    body = json.dumps({"instruction": "Is the sky blue?", "response_a": "yes", "response_b": "no"}).encode()
    headers = {"Authorization": "Bearer secret-of-the-server", "Content-Type": "application/json"}
    series: Exported = {}
    with mini_server(tmp_path / "log", "secret-of-the-server") as server:
        urllib.request.urlopen(urllib.request.Request(f"{server}/v1/judge", body, headers), timeout=600).close()
        with urllib.request.urlopen(urllib.request.Request(f"{server}/metrics", headers=headers), timeout=600) as answer:
            read_metrics(answer.read().decode(), series)
    for metric in SERVER_METRICS:
        kind, samples = series[metric.exported]
        assert (kind, samples[0].keys()) == (metric.kind, {*metric.labels})
    for title, target in QUERIES:
        query = parsed(target["expr"])
        for name in query.metrics:
            if not name.startswith("ray_"):
                labels = series[name][1][0].keys()
                assert {*query.grouped} <= {*labels, *BY_PROMETHEUS}, f"{title}: {name}"
                assert name not in query.rated or series[name][0] in ("counter", "histogram"), f"{title}: {name}"
