"""Clusters that grow, for the tests of autoscalers."""

from collections.abc import Iterator

import pytest

from stj.cluster_config import RayConfig
from stj.passes.session import joined_cluster
from tests.conftest import soon
from tests.passes.fake_autoscaler import FakeCluster, fake_cluster
from tests.passes.slow_pass import machines


@pytest.fixture(scope="module", params=["v2", pytest.param("v1", marks=pytest.mark.long)])
def growing_cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    """A head without GPUs, and at most four machines with two GPUs each: two on demand, two spot."""
    with fake_cluster(request.param) as cluster:
        yield cluster


@pytest.fixture
def joined(growing_cluster: FakeCluster) -> Iterator[FakeCluster]:
    """This process has joined the cluster, which has no machine beside the head."""
    with joined_cluster(RayConfig(address=growing_cluster.address)):
        assert soon(lambda: not machines(), 60)
        yield growing_cluster
        growing_cluster.configure()
        growing_cluster.refuse()
