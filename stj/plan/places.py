"""How many machines a run takes, and how many engines they hold at once."""

from stj.config import Config, ModelConfig
from stj.plan.ranks import Ranks


def training_machines(config: Config) -> int:
    """Machines over which the ranks of a training lie; one on a CPU."""
    return Ranks.of(config.train, config.hardware).machines if config.train.device == "gpu" else 1


def machines_of(config: Config) -> int:
    """Machines that hold the ranks of the training, and the fewest engines of each model that a pass needs."""
    gpus = config.hardware.gpus
    if not gpus:
        return 1
    models = config.named_models.values()
    engines = [-(-config.engine.min_replicas // _engines_of_machine(model, gpus)) for model in models if model.gpus]
    return max([training_machines(config), *(engines if config.engine.device == "gpu" else [])])


def engines_at_once(model: ModelConfig, config: Config) -> int:
    """Engines of a model that a pass has: as many as fit on the machines of the run, at most `engine.max_replicas`."""
    return min(machines_of(config) * _engines_of_machine(model, config.hardware.gpus), config.engine.max_replicas)


def _engines_of_machine(model: ModelConfig, gpus: int) -> int:
    """An engine is on one machine; one that needs a larger machine counts as one a machine."""
    return max(1, gpus // model.gpus)
