"""The adapter that every site of a training begins with."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from numpy.typing import NDArray

from pixcell_share.pixcell.lora import add_lora, lora_state
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.training.base import Base
from pixcell_share.training.private.settings import TrainingSettings


def seeded_adapter(base: Base, training: TrainingSettings) -> dict[str, NDArray[np.float32]]:
    """The LoRA at its start, drawn from the seed alone; the generator stays as it is.

    Raises:
        SettingsError: the rank or alpha is impossible.
    """
    model = deepcopy(base.transformer)
    add_lora(model, training.rank, training.alpha, seed=training.seed)
    return adapter_of(model)


def adapter_of(model: PixCellTransformer2DModel) -> dict[str, NDArray[np.float32]]:
    """A copy of the adapter of a transformer."""
    return {name: value.cpu().float().numpy().copy() for name, value in lora_state(model).items()}
