"""The clipped sum over patients of one micro-batch, in one forward and one backward pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pixcell_share.training.batch import Batch
from pixcell_share.training.batches import map_tensors
from pixcell_share.training.loop import Objective
from pixcell_share.training.objective import Losses
from pixcell_share.training.private.ghost import (
    Grouping,
    clip_factors,
    squared_norms,
    weighted_gradient,
    whole_products,
)
from pixcell_share.training.private.layers import LinearLayers, output_gradients


@dataclass(frozen=True)
class PatientTiles:
    """A micro-batch of the tiles of some whole patients."""

    batch: Batch
    """B tiles; noise, time step and dropped condition are drawn for each tile by itself."""
    owners: Tensor
    """(B,) int64: number of each tile's patient in this micro-batch, from 0 on; on the CPU."""
    patients: int
    """P."""

    @property
    def shares(self) -> Tensor:
        """(B,) what each tile counts: 1 over its patient's tiles, 0 where it is left out."""
        kept = self.batch.weights
        tiles = torch.bincount(self.owners, weights=kept, minlength=self.patients)
        return (kept / tiles.clamp_min(1)[self.owners]).float()


@dataclass(frozen=True)
class Contribution:
    """What the patients of a micro-batch add to a step."""

    total: dict[str, Tensor]
    """By parameter: sum of the patients' clipped gradients, float32."""
    norms: Tensor
    """(P,) norms before clipping: private."""
    losses: Losses
    """Private."""


class PatientGradients:
    """Clipped gradients of patients.

    A patient's loss is the mean over its tiles of the micro-batch, its gradient that loss's.

    Args:
        model: under training; everything that takes a gradient is a linear layer's weight. Tiles
            must not touch each other in it (there is no batch norm in PixCell).
        objective: the loss.
        clip: largest norm of a patient's gradient; None: as it is.
        bf16: compute the model in bfloat16.

    Raises:
        SettingsError: something else in the model takes a gradient.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, clip: float | None, *, bf16: bool = False
    ) -> None:
        self._model, self._objective, self._clip, self._bf16 = model, objective, clip, bf16
        self._layers = LinearLayers(model)
        self._device = next(model.parameters()).device

    @property
    def names(self) -> list[str]:
        """Of the parameters under training, in their order."""
        return list(self._layers.layers)

    def __call__(self, tiles: PatientTiles) -> Contribution:
        """The patients' contribution.

        Args:
            tiles: on the CPU.
        """
        batch = tiles.batch
        # The objective takes the mean over the rows: so weighed, it is the sum of patients' means.
        batch = replace(batch, weights=tiles.shares * len(batch.weights))
        batch = map_tensors(batch, lambda tensor: tensor.to(self._device, non_blocking=True))
        with self._layers.recording() as passes:
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                losses = self._objective(self._model, batch)
            found = output_gradients(losses.total, passes)
        grouping = Grouping(tiles.owners, tiles.patients, self._device)
        with torch.no_grad(), whole_products():
            squared = torch.stack([squared_norms(*pair, grouping) for pair in found.values()])
            norms = squared.sum(0)
            factors = clip_factors(norms, self._clip)[grouping.owners]
            total = {name: weighted_gradient(*pair, factors) for name, pair in found.items()}
        return Contribution(total, norms.sqrt(), losses)
