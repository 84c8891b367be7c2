"""Ray's own code for AWS starts the machines of cluster/aws.yaml, in an account of moto."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import boto3
import click
import pytest
from moto import mock_aws
from ray.autoscaler._private.aws import config as bootstrap
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.ray_up import CPUS
from tests.cluster.reading import CLUSTER, GPU_TYPES, read

REGION = "us-west-2"
Calls = list[tuple[str, dict[str, Any]]]


@contextmanager
def aws(account: str) -> Iterator[None]:
    """Moto, with an account of its own.

    It is not reset: the bucket of other tests of this process is moto's too, in its default account.
    """
    moto = mock_aws()
    moto.start(reset=False)
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("MOTO_ACCOUNT_ID", account)
            yield
    finally:
        moto.stop(remove_data=False)


@pytest.fixture(scope="module")
def account_id() -> str:
    """The number of an account that no other set-up of this process has used."""
    return f"{uuid.uuid4().int % 10**12:012}"


@pytest.fixture(scope="module")
def account(account_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """An empty account, and what is called there: actions as a policy names them, with their parameters."""
    made: Calls = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        made.append((f"{model.service_model.service_name}:{model.name}", dict(params)))

    caches = (bootstrap.resource_cache, bootstrap._get_subnets_or_die)
    with pytest.MonkeyPatch.context() as patch, aws(account_id):
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray makes a key for SSH
        patch.delenv("AWS_PROFILE", raising=False)
        session = boto3.Session(region_name=REGION)
        patch.setattr(boto3, "DEFAULT_SESSION", session)
        session.events.register("provide-client-params", note)
        for cache in caches:
            cache.cache_clear()
        yield made
        for cache in caches:
            cache.cache_clear()


@pytest.fixture(scope="module")
def content(account: Calls) -> dict[str, Any]:
    """The file with the account's names in the place of each YOUR-..., and Ray's defaults."""
    ec2, iam = boto3.client("ec2"), boto3.client("iam")
    assert not iam.list_roles()["Roles"]  # other tests' account, or that of an earlier set-up, would have some
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    zone = f"{REGION}a"
    subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]}
    private = ec2.create_subnet(VpcId=network, CidrBlock="172.31.200.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
    for kind in ("HEAD", "GPU"):
        iam.create_role(RoleName=f"YOUR-{kind}-ROLE", AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName=f"YOUR-{kind}-PROFILE")
        iam.add_role_to_instance_profile(InstanceProfileName=f"YOUR-{kind}-PROFILE", RoleName=f"YOUR-{kind}-ROLE")
    names = {
        "subnet-YOUR-PUBLIC": subnets[zone],
        "subnet-YOUR-PRIVATE": private,
        "sg-YOUR-GROUP": ec2.create_security_group(GroupName="stj", Description="stj", VpcId=network)["GroupId"],
        "ami-YOUR-IMAGE": ec2.describe_images()["Images"][0]["ImageId"],
    }
    text = (CLUSTER / "aws.yaml").read_text()
    for old, new in names.items():
        text = text.replace(old, new)
    made = prepare_config(read(text))
    validate_config(made)
    return made


def allowed(action: str) -> bool:
    """Whether the head's policy allows an action on some resource."""
    policy = json.loads((CLUSTER / "aws-head-policy.json").read_text())
    patterns = [statement["Action"] for statement in policy["Statement"] if statement["Effect"] == "Allow"]
    return any(fnmatchcase(action, pattern) for each in patterns for pattern in ([each] if isinstance(each, str) else each))


@pytest.mark.long
def test_the_head_starts_and_ends_the_gpu_machines_with_the_rights_of_its_role(account: Calls, content: dict[str, Any]) -> None:
    content = bootstrap.bootstrap_aws(content)
    account.clear()
    provider = AWSNodeProvider(content["provider"], "stj")
    for name in GPU_TYPES:
        config = content["available_node_types"][name]["node_config"]
        (machine,) = provider.create_node(
            config, {"ray-node-type": "worker", "ray-node-status": "up", "ray-node-name": name}, 1
        )
        provider.non_terminated_nodes({})
        assert provider.internal_ip(machine)
        provider.set_node_tags(machine, {"ray-node-status": "later"})
        provider.terminate_node(machine)
    assert not {action for action, _ in account if not allowed(action)}
    started = [params for action, params in account if action == "ec2:RunInstances"]
    assert [params.get("InstanceMarketOptions") for params in started] == [None, {"MarketType": "spot"}]
    for params in started:
        assert params["InstanceType"] == "p5.48xlarge"
        assert params["Placement"] == {"GroupName": "YOUR-PLACEMENT-GROUP"}
        assert len(params["NetworkInterfaces"]) == 32
        assert not {"SubnetId", "SecurityGroupIds"} & set(params)  # AWS refuses them beside interfaces


def test_the_role_that_the_head_may_pass_is_that_of_the_machines_profile(account_id: str, content: dict[str, Any]) -> None:
    policy = json.loads((CLUSTER / "aws-head-policy.json").read_text())
    (passed,) = [statement["Resource"] for statement in policy["Statement"] if statement["Action"] == "iam:PassRole"]
    for name in GPU_TYPES:
        profile = content["available_node_types"][name]["node_config"]["IamInstanceProfile"]["Name"]
        (role,) = boto3.client("iam").get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
        assert passed.replace("YOUR-ACCOUNT", account_id) == role["Arn"]


def test_ray_refuses_the_private_subnet_without_internal_addresses(content: dict[str, Any]) -> None:
    public = content | {"provider": content["provider"] | {"use_internal_ips": False}}
    with pytest.raises(click.ClickException, match=r"No usable subnets|not usable"):
        bootstrap.bootstrap_aws(public)


def test_the_machines_are_as_aws_describes_them(account: Calls) -> None:
    types = boto3.client("ec2").describe_instance_types(InstanceTypes=["p5.48xlarge", "m7i.4xlarge"])["InstanceTypes"]
    described = {kind["InstanceType"]: kind for kind in types}
    assert {name: kind["VCpuInfo"]["DefaultVCpus"] for name, kind in described.items()} == {
        name: CPUS[name] for name in described
    }
    gpu = described["p5.48xlarge"]
    assert sum(kind["Count"] for kind in gpu["GpuInfo"]["Gpus"]) == 8
    cards = gpu["NetworkInfo"]["NetworkCards"]
    assert [card["NetworkCardIndex"] for card in cards] == list(range(32))
    assert all("efa-only" in card["InterfaceTypes"] for card in cards)
