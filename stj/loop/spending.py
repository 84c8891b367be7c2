"""What a training costs: it has no ledger as a pass has."""

from stj.train_config import TrainConfig


def training_dollars(train: TrainConfig, price: float | None, seconds: float) -> float | None:
    """The GPUs of a training for some seconds at a price for an hour; None on a CPU, or without a price."""
    return None if price is None or train.device == "cpu" else seconds / 3600 * train.workers * price
