"""The Gaussian diffusion of PixCell: 1000 steps, linear betas from 1e-4 to 0.02.

Notation as in Ho et al., arXiv:2006.11239 (DDPM): ``beta_t``, ``alpha_t = 1 - beta_t``, and
``kept_t``, the product of all alphas up to t (the paper's alpha-bar). All latents here are
``(b, C, h, w)``, time steps ``(b,)`` int64 from 0 to 999, and what depends on the time step comes
back as ``(b, 1, 1, 1)`` or ``(b, C, h, w)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 1000
BETA_START = 1e-4
BETA_END = 0.02
_HALF_BIN = 1 / 255
"""Half the distance of neighbouring grey levels on [-1, 1]."""
_EDGE = 0.999


@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution."""

    mean: Tensor
    log_variance: Tensor


class Diffusion:
    """The tables of the noise schedule, and the formulas on them.

    The tables are computed in float64, and kept in float32 on ``device``.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        betas = torch.linspace(BETA_START, BETA_END, STEPS, dtype=torch.float64)
        kept = torch.cumprod(1 - betas, 0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
        posterior = betas * (1 - before) / (1 - kept)
        # The first is zero; its logarithm is taken from the second (arXiv:2102.09672).
        posterior[0] = posterior[1]
        self._signal = _table(kept.sqrt(), device)
        self._noise = _table((1 - kept).sqrt(), device)
        self._mean_of_clean = _table(before.sqrt() * betas / (1 - kept), device)
        self._mean_of_noisy = _table((1 - betas).sqrt() * (1 - before) / (1 - kept), device)
        self._log_posterior = _table(posterior.log(), device)
        self._log_beta = _table(betas.log(), device)
        self.snr = (kept / (1 - kept)).float().to(device)
        """Signal-to-noise ratio of each time step, ``(1000,)``."""

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """The noisy latents at ``times``: equation 4 of DDPM."""
        return self._signal[times] * clean + self._noise[times] * noise

    def velocity(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """The target of v-prediction (Salimans & Ho, arXiv:2202.00512)."""
        return self._signal[times] * noise - self._noise[times] * clean

    def clean_from_noise(self, noisy: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """The clean latents that a predicted noise stands for."""
        return (noisy - self._noise[times] * noise) / self._signal[times]

    def clean_from_velocity(self, noisy: Tensor, velocity: Tensor, times: Tensor) -> Tensor:
        """The clean latents that a predicted velocity stands for."""
        return self._signal[times] * noisy - self._noise[times] * velocity

    def posterior(self, clean: Tensor, noisy: Tensor, times: Tensor) -> Gaussian:
        """``q(x_{t-1} | x_t, x_0)``: equations 6 and 7 of DDPM."""
        mean = self._mean_of_clean[times] * clean + self._mean_of_noisy[times] * noisy
        return Gaussian(mean, self._log_posterior[times])

    def log_variance(self, learned: Tensor, times: Tensor) -> Tensor:
        """The "learned range" between posterior variance (-1) and beta (1).

        Equation 15 of Nichol & Dhariwal, arXiv:2102.09672, with ``v = (learned + 1) / 2``.
        """
        share = (learned + 1) / 2
        return share * self._log_beta[times] + (1 - share) * self._log_posterior[times]


def _table(values: Tensor, device: torch.device | str) -> Tensor:
    return values.float()[:, None, None, None].to(device)


def kl_divergence(p: Gaussian, q: Gaussian) -> Tensor:
    """``KL(p || q)`` in nats, element by element."""
    gap = q.log_variance - p.log_variance
    far = (p.mean - q.mean).square() * torch.exp(-q.log_variance)
    return 0.5 * (gap + torch.exp(-gap) + far - 1)


def discretised_nll(values: Tensor, predicted: Gaussian) -> Tensor:
    """``-log p`` of the bin of width 2/255 around each value, in nats; outermost bins are open.

    Equation 13 of DDPM, made for 8-bit pictures. Improved DDPM, DiT and PixArt use it unchanged
    for the last step on latents, so what lies beyond 1 counts as the outermost bin; it concerns
    one time step of 1000.
    """
    distance = values - predicted.mean
    inverse = torch.exp(-0.5 * predicted.log_variance)
    below = torch.special.log_ndtr((distance + _HALF_BIN) * inverse)
    above = torch.special.log_ndtr((_HALF_BIN - distance) * inverse)
    # By symmetry the interval may lie on the left, where log_ndtr loses nothing.
    high = torch.special.log_ndtr((_HALF_BIN - distance.abs()) * inverse)
    low = torch.special.log_ndtr((-_HALF_BIN - distance.abs()) * inverse)
    inside = high + torch.log1p(-torch.exp(low - high))
    return -torch.where(values < -_EDGE, below, torch.where(values > _EDGE, above, inside))


def bits(nats: Tensor) -> Tensor:
    """``(b, ...)`` nats to bits per dimension, ``(b,)``."""
    return nats.flatten(1).mean(1) / math.log(2)
