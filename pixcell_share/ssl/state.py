"""Everything that a resumed run needs, as named tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from pixcell_share.errors import WeightsMismatchError
from pixcell_share.ssl.distillation import Distillation
from pixcell_share.ssl.meter import Meter
from pixcell_share.training.checkpoints import Checkpoints
from pixcell_share.training.optimizerstate import (
    empty_optimizer_tensors,
    optimizer_tensors,
    restore_optimizers,
)


class SslState:
    """Student, teacher, centres, optimizer and the unfinished sums of the log.

    Args:
        model: spread already where it is sharded.
        optimizer: of the student.
        meter: of the log.
    """

    def __init__(self, model: Distillation, optimizer: torch.optim.Optimizer, meter: Meter) -> None:
        self._model, self._optimizer, self._meter = model, optimizer, meter
        self._parameters = dict(model.student.named_parameters())
        self._names: dict[Tensor, str] = {weight: n for n, weight in self._parameters.items()}

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds; not copied."""
        return self._fixed() | optimizer_tensors([self._optimizer], self._names)

    def load(self, checkpoints: Checkpoints, step: int) -> None:
        """Go back to a checkpoint.

        Raises:
            WeightsMismatchError: it was written for another model.
        """
        shapes, fixed = checkpoints.shapes(step), self._fixed()
        for key, value in fixed.items():
            if key not in shapes or shapes[key][0] != value.shape:
                raise WeightsMismatchError(
                    f"the checkpoint of step {step} has no {key} of shape {tuple(value.shape)}",
                    "go on with the settings that it was made with, or start in a new folder",
                )
        room = empty_optimizer_tensors(shapes, self._parameters)
        checkpoints.read(step, fixed | room)
        restore_optimizers([self._optimizer], room, self._names)

    def _fixed(self) -> dict[str, Tensor]:
        """What exists from the start: reading fills it in place."""
        state = self._model.state_dict()
        return {f"model/{name}": value for name, value in state.items()} | {
            "log/meter": self._meter.sums
        }
