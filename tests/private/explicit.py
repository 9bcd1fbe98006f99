"""Patients' gradients the long way round: one patient at a time, by autograd alone."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor, nn

from pixcell_share.training.batch import Batch
from pixcell_share.training.objective import DiffusionObjective
from pixcell_share.training.private.gradients import PatientTiles


def patient_gradients(
    model: nn.Module, objective: DiffusionObjective, tiles: PatientTiles
) -> list[dict[str, Tensor]]:
    """The gradient of each patient's mean loss, by parameter."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    found = []
    for patient in range(tiles.patients):
        own = tiles.owners == patient
        batch = Batch(**{f.name: getattr(tiles.batch, f.name)[own] for f in fields(Batch)})
        loss = objective(model, batch).total
        gradients = torch.autograd.grad(loss, list(trained.values()))
        found.append(dict(zip(trained, gradients, strict=True)))
    return found


def norm(gradient: dict[str, Tensor]) -> float:
    return float(torch.cat([value.flatten() for value in gradient.values()]).norm())
