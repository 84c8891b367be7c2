"""Rules for the files in cluster/, which no schema knows. Each rule names what would go wrong on the machines."""

from collections.abc import Callable

import yaml

from tests.cluster.aws import aws, aws_policy
from tests.cluster.dockerfile import dockerfile
from tests.cluster.gcp import gcp
from tests.cluster.kuberay import kuberay
from tests.cluster.reading import Faults
from tests.cluster.sky import sky

RULES: dict[str, Callable[[str], Faults]] = {
    "Dockerfile": dockerfile,
    "aws.yaml": aws,
    "aws-head-policy.json": aws_policy,
    "gcp.yaml": gcp,
    "kuberay.yaml": kuberay,
    "sky.yaml": sky,
}


def faults(name: str, text: str) -> Faults:
    """What is wrong with a file of cluster/; the slow checks come last."""
    try:
        yield from RULES[name](text)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        yield f"it has not the expected form: {type(error).__name__} {error}"
