"""The loss of one micro-batch: predicted noise or velocity, and the learned variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pixcell_share.errors import SettingsError
from pixcell_share.training.batch import Batch
from pixcell_share.training.diffusion import (
    Diffusion,
    Gaussian,
    bits,
    discretised_nll,
    kl_divergence,
)

Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class ObjectiveSettings:
    """What the model learns to predict, and how time steps are weighed.

    Raises:
        SettingsError: a value is out of range.
    """

    prediction: Prediction = "epsilon"
    """What the first ``in_channels`` outputs are: the noise, or the velocity."""
    learned_variance: bool = True
    """The second half of the outputs is trained as the variance ("learned range")."""
    vlb_weight: float = 1.0
    """Weight of the variance's term, in bits per dimension of one step. Nichol & Dhariwal weigh
    the sum over all 1000 steps with 0.001: the same."""
    snr_cap: float | None = None
    """Signal-to-noise ratio above which time steps count less (min-SNR, Hang et al.,
    arXiv:2303.09556). None: all count alike, as for PixCell."""

    def __post_init__(self) -> None:
        if self.prediction not in ("epsilon", "v_prediction"):
            raise SettingsError(
                f"prediction is {self.prediction!r}", "use epsilon (PixCell) or v_prediction"
            )
        if not (math.isfinite(self.vlb_weight) and self.vlb_weight >= 0):
            raise SettingsError(
                f"vlb_weight is {self.vlb_weight}", "use a number from 0; 1 is usual"
            )
        if self.snr_cap is not None and not self.snr_cap > 0:
            raise SettingsError(f"snr_cap is {self.snr_cap}", "use a number above 0, or none")


@dataclass
class Losses:
    """The loss of one micro-batch."""

    total: Tensor
    """Scalar to descend: the mean over all ``b`` rows; rows that are left out count as 0."""
    per_sample: Tensor
    """``(b,)`` mean squared error of the prediction, unweighted, without gradient."""
    timesteps: Tensor
    """``(b,)`` int64, of the batch."""


class DiffusionObjective:
    """L_simple, and with learned variance L_simple + L_vlb (Nichol & Dhariwal, arXiv:2102.09672).

    In the second term the predicted mean is held fixed, so that it trains the variance alone.
    Autocast is the caller's choice; what comes out of the model is made float32 here.

    Args:
        settings: what is predicted.
        device: of the batches.
    """

    def __init__(self, settings: ObjectiveSettings, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.diffusion = Diffusion(device)
        self._weights = _time_weights(settings, self.diffusion.snr)

    def __call__(self, model: nn.Module, batch: Batch) -> Losses:
        """Run the model on ``batch``.

        Args:
            model: a `PixCellTransformer2DModel`, also inside DDP, FSDP2 or ``torch.compile``.
            batch: on the objective's device.

        Raises:
            ValueError: the model has no outputs for the variance.
        """
        times = batch.timesteps
        noisy = self.diffusion.add_noise(batch.latents, batch.noise, times)
        output = model(noisy, conditions(model, batch), times, return_dict=False)[0].float()
        channels = batch.latents.shape[1]
        predicted = output[:, :channels]
        error = (predicted - self._target(batch)).square().flatten(1).mean(1)
        loss = self._weights[times] * error
        if self.settings.learned_variance:
            if output.shape[1] != 2 * channels:
                raise ValueError(f"learned variance needs {2 * channels} outputs of the model")
            learned = output[:, channels:]
            variational = self._variational(batch, noisy, predicted.detach(), learned)
            loss = loss + self.settings.vlb_weight * variational
        return Losses((batch.weights * loss).mean(), error.detach(), times)

    def _target(self, batch: Batch) -> Tensor:
        if self.settings.prediction == "epsilon":
            return batch.noise
        return self.diffusion.velocity(batch.latents, batch.noise, batch.timesteps)

    def _variational(
        self, batch: Batch, noisy: Tensor, predicted: Tensor, learned: Tensor
    ) -> Tensor:
        """One term of the variational bound for each sample, ``(b,)`` bits per dimension."""
        diffusion, times, clean = self.diffusion, batch.timesteps, batch.latents
        if self.settings.prediction == "epsilon":
            guess = diffusion.clean_from_noise(noisy, predicted, times)
        else:
            guess = diffusion.clean_from_velocity(noisy, predicted, times)
        mean = diffusion.posterior(guess, noisy, times).mean
        model = Gaussian(mean, diffusion.log_variance(learned, times))
        between = kl_divergence(diffusion.posterior(clean, noisy, times), model)
        last = (times == 0)[:, None, None, None]
        return bits(torch.where(last, _last_step(clean, model, last), between))


def conditions(model: Any, batch: Batch) -> Tensor:
    """The embeddings ``(b, T, D)``, with the null embedding where they are dropped."""
    null = getattr(model, "module", model).null_embedding(len(batch.condition))
    return torch.where(batch.dropped[:, None, None], null.to(batch.condition), batch.condition)


def _last_step(clean: Tensor, model: Gaussian, last: Tensor) -> Tensor:
    """`discretised_nll` where ``last``; elsewhere harmless numbers, for finite gradients."""
    safe = Gaussian(torch.where(last, model.mean, 0.0), torch.where(last, model.log_variance, 0.0))
    return discretised_nll(torch.where(last, clean, 0.0), safe)


def _time_weights(settings: ObjectiveSettings, snr: Tensor) -> Tensor:
    """``(1000,)`` weights of the squared error.

    For noise the paper's ``min(snr, cap) / snr``. For velocity ``(min(snr, cap) + 1) / (snr + 1)``
    in place of the paper's ``min(snr, cap) / (snr + 1)``: up to the cap this is the plain loss of
    the velocity, so the noisiest steps, which decide what the picture shows, keep their weight.
    """
    if settings.snr_cap is None:
        return torch.ones_like(snr)
    one = float(settings.prediction == "v_prediction")
    return (snr.clamp_max(settings.snr_cap) + one) / (snr + one)
