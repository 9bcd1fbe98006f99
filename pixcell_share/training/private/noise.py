"""The noise of one step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pixcell_share.training.private.stream import SecretStream


def noised_mean(
    total: Mapping[str, Tensor],
    *,
    deviation: float,
    expected: float,
    stream: SecretStream,
    step: int,
) -> dict[str, Tensor]:
    """The clipped sum over patients with Gaussian noise, over the *expected* number of patients.

    The number who took part is not known to who sees the result; dividing by it would tell it.

    Args:
        total: by parameter, the sum over all patients of the step.
        deviation: of the noise: noise multiplier times clip; 0 for none.
        expected: q times the number of patients.
        stream: of the training; the noise of each step is its own.
        step: over all rounds.

    Returns:
        By parameter, float32 on the parameter's device. Added in float64.
    """
    if not deviation:
        return {name: value / expected for name, value in total.items()}
    sizes = [value.numel() for value in total.values()]
    drawn = torch.from_numpy(stream.normal(sum(sizes), "noise", step) * deviation)
    noised = {}
    for (name, value), noise in zip(total.items(), torch.split(drawn, sizes), strict=True):
        whole = value.double().cpu() + noise.view(value.shape)
        noised[name] = (whole / expected).float().to(value.device)
    return noised
