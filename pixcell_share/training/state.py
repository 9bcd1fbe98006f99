"""Everything that a resumed run needs, as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pixcell_share.errors import WeightsMismatchError
from pixcell_share.training.average import Average
from pixcell_share.training.checkpoints import Checkpoints
from pixcell_share.training.meter import Meter
from pixcell_share.training.optimizerstate import (
    empty_optimizer_tensors,
    optimizer_tensors,
    restore_optimizers,
)


class TrainingState:
    """Weights, average, optimizers and the unfinished sums of the log.

    Args:
        model: spread already where it is sharded.
        parameters: the trained ones, by name.
        optimizers: of them.
        average: of them.
        meter: of the log.
        kept: which entries of the model's state dict are saved.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        optimizers: Sequence[torch.optim.Optimizer],
        average: Average,
        meter: Meter,
        kept: Callable[[str], bool],
    ) -> None:
        self._model = model
        self._parameters = parameters
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}
        self._optimizers = optimizers
        self._average = average
        self._meter = meter
        self._kept = kept

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds; not copied."""
        return self._fixed() | optimizer_tensors(self._optimizers, self._names)

    def load(self, checkpoints: Checkpoints, step: int) -> None:
        """Go back to a checkpoint.

        Raises:
            WeightsMismatchError: it was written for another model.
        """
        shapes = checkpoints.shapes(step)
        fixed = self._fixed()
        for key, value in fixed.items():
            if key not in shapes or shapes[key][0] != value.shape:
                raise WeightsMismatchError(
                    f"the checkpoint of step {step} has no {key} of shape {tuple(value.shape)}",
                    "go on with the settings that it was made with, or start in a new folder",
                )
        room = empty_optimizer_tensors(shapes, self._parameters)
        checkpoints.read(step, fixed | room)
        restore_optimizers(self._optimizers, room, self._names)

    def _fixed(self) -> dict[str, Tensor]:
        """What exists from the start: reading fills it in place."""
        state = self._model.state_dict()
        return {
            **{f"model/{name}": value for name, value in state.items() if self._kept(name)},
            **{f"average/{name}": value for name, value in self._average.weights.items()},
            "log/meter": self._meter.sums,
        }
