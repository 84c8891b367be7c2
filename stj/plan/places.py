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
    models = (config.models.generator, config.models.first_judge, config.models.seed)
    engines = [_machines_for(config.engine.min_replicas, model.gpus, gpus) for model in models if model.gpus]
    return max([training_machines(config), *(engines if config.engine.device == "gpu" else [])])


def engines_at_once(model: ModelConfig, config: Config) -> int:
    """Engines of a model that a pass has: as many as fit on the machines of the run, at most `engine.max_replicas`."""
    gpus = config.hardware.gpus
    fit = machines_of(config) * gpus // model.gpus if model.gpus > gpus else machines_of(config) * (gpus // model.gpus)
    return max(1, min(fit, config.engine.max_replicas))


def _machines_for(engines: int, gpus: int, of_machine: int) -> int:
    """An engine that is smaller than a machine is on one machine."""
    if gpus > of_machine:
        return -(-engines * gpus // of_machine)
    return -(-engines // (of_machine // gpus))
