"""Put the updates of several sites together, by Flower's own strategies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg
from numpy.typing import NDArray

_TRIM = 0.2
"""Share of the updates that is left out at each end, number by number."""
_COUNT = "num-examples"
_STRATEGIES: Mapping[str, Callable[[], FedAvg]] = {
    "fedavg": FedAvg,
    "median": FedMedian,
    "trimmed": lambda: FedTrimmedAvg(beta=_TRIM),
}

Update = Mapping[str, NDArray[np.generic]]


def combine(
    strategy: str, updates: Sequence[Update], weights: Sequence[float]
) -> dict[str, NDArray[np.float32]]:
    """One update of several.

    Args:
        strategy: ``fedavg`` (McMahan et al., AISTATS 2017), ``median`` or ``trimmed`` (Yin et al.,
            ICML 2018, arXiv:1803.01498): the last two take no notice of weights, and hold where
            less than half, or less than a fifth, of the sites send anything whatever.
        updates: of the same names and shapes, finite.
        weights: of each, above 0: its number of patients.

    Raises:
        ValueError: there is no update.
    """
    if not updates:
        raise ValueError("there is no update to combine")
    replies = [_reply(update, weight) for update, weight in zip(updates, weights, strict=True)]
    found, _ = _STRATEGIES[strategy]().aggregate_train(1, replies)
    assert found is not None
    return {name: array.numpy().astype(np.float32) for name, array in found.items()}


def _reply(update: Update, weight: float) -> Message:
    arrays = ArrayRecord({name: Array(np.asarray(value)) for name, value in update.items()})
    metrics = MetricRecord({_COUNT: float(weight)})
    content = RecordDict({"arrays": arrays, "metrics": metrics})
    return Message(content, dst_node_id=0, message_type="train")
