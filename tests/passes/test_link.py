"""Machines that sum numbers together before a training needs them to."""

import time
from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster

from stj.passes import link
from stj.passes.link import link_findings


@pytest.fixture(scope="module")
def two_machines() -> Iterator[None]:
    """Two nodes of Ray on this machine."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.engine
@pytest.mark.usefixtures("two_machines")
def test_machines_that_reach_each_other_and_those_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = link_findings("cpu")
    assert finding.ok, finding
    assert finding.words.startswith("2 machines (")
    assert finding.words.endswith("sum numbers together")
    assert link_findings("gpu") == []  # no machine here has a GPU
    monkeypatch.setattr(link, "_join", lambda *_: time.sleep(3600))
    (late,) = link_findings("cpu", answer_s=1)
    assert not late.ok
    assert "NCCL_SOCKET_IFNAME" in late.words
