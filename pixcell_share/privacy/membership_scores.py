"""How well a generator denoises given tiles: what membership inference reads.

Weights that were trained on a tile denoise it a little better than an unseen one. Two scores of
each tile:

- *loss*: the error of the predicted noise (Matsumoto et al., IEEE SPW 2023, arXiv:2302.03262;
  Carlini et al., USENIX Security 2023, arXiv:2301.13188);
- *gain*: how much smaller that error is with the tile's own embedding than with the null
  embedding: the conditional likelihood discrepancy, CLiD (Zhai et al., NeurIPS 2024,
  arXiv:2405.14800). What makes a tile easy or hard to denoise at all is subtracted.

Of CLiD's reduced conditions (shortened, noised and empty texts) only the empty one is used here:
an embedding has no words to leave out, and the model was trained with exactly this null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixcell_share.errors import PixcellError, SettingsError, WeightsMismatchError
from pixcell_share.pixcell.condition import check_embeddings
from pixcell_share.pixcell.model import PixCell
from pixcell_share.pixcell.sampler import SamplerSettings

Floats = NDArray[np.float64]
_PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class MembershipSettings:
    """At which noise the model is asked.

    Raises:
        SettingsError: there is nothing to ask.
    """

    timesteps: tuple[int, ...] = (100, 200, 300, 400, 500)
    """Time steps of 0 to 999. Carlini et al. find 100 of 1000 best for the loss, Zhai et al. ask
    at about 450; at later steps the picture is gone and with it what was learned of one tile."""
    noises: int = 2
    """Draws of noise at each time step, the same ones with and without the condition."""
    batch_size: int | None = None
    """Tiles scored together; None: as many as the generator draws together."""
    seed: int = 0
    """Of the noise."""

    def __post_init__(self) -> None:
        if not self.timesteps or self.noises < 1 or min(self.timesteps) < 0:
            raise SettingsError(
                f"{len(self.timesteps)} time steps with {self.noises} draws of noise say nothing",
                "use at least one of each, time steps from 0",
            )


@dataclass(frozen=True, eq=False)
class MembershipScores:
    """The scores of N tiles."""

    loss: Floats
    """(N,) mean squared error of the predicted noise, given the embedding; small for members."""
    gain: Floats
    """(N,) the error without the embedding minus the error with it; large for members."""

    def __len__(self) -> int:
        return len(self.loss)

    @classmethod
    def join(cls, parts: Sequence[MembershipScores]) -> MembershipScores:
        """The scores of several portions as one."""
        return cls(
            np.concatenate([part.loss for part in parts]),
            np.concatenate([part.gain for part in parts]),
        )


def membership_scores(
    model: PixCell,
    latents: NDArray[np.floating[Any]],
    embeddings: NDArray[np.floating[Any]],
    *,
    rows: NDArray[np.int64] | None = None,
    settings: MembershipSettings | None = None,
) -> MembershipScores:
    """Score tiles; a tile's noise depends on the seed and its row alone, not on the batch.

    Args:
        model: best in float32: the gain is a small difference.
        latents: (N, C, S, S) as stores hold them: unscaled means of the VAE's posterior.
        embeddings: (N, T, D), or (N, D) where the model takes one embedding.
        rows: (N,) numbers of the tiles, which choose their noise; None: 0 to N - 1.
        settings: time steps and noise.

    Returns:
        Loss and gain of each, in units of the noise (1 is the error of predicting none), whether
        the model predicts noise or velocity.

    Raises:
        WeightsMismatchError: latents or embeddings are not what this model was made for.
        SettingsError: a latent or an embedding is not finite, or the scheduler has no such step.
        PixcellError: the arithmetic overflows in the model's dtype.
    """
    settings = settings or MembershipSettings()
    condition = check_embeddings(embeddings, model.tokens, model.embedding_dim, model.tile_px)
    _check_latents(model, latents, len(condition))
    numbers = np.arange(len(condition)) if rows is None else rows
    size = settings.batch_size or model.batch_size(SamplerSettings())
    errors = [np.empty((0, 2))]
    asked = _Question(model, settings)
    for start in range(0, len(condition), size):
        part = slice(start, start + size)
        errors.append(asked.errors(latents[part], np.asarray(condition[part]), numbers[part]))
    given, null = np.concatenate(errors).T
    if not (np.isfinite(given).all() and np.isfinite(null).all()):
        raise PixcellError("the generator's prediction is not finite", "use --dtype fp32")
    return MembershipScores(given, null - given)


class _Question:
    """A model with the schedule and the time steps at which it is asked."""

    def __init__(self, model: PixCell, settings: MembershipSettings) -> None:
        scheduler = model.new_scheduler()
        kept = scheduler.alphas_cumprod.double()
        self._velocity = scheduler.config.prediction_type == "v_prediction"
        if scheduler.config.prediction_type not in _PREDICTIONS:
            raise SettingsError(
                f"the generator predicts {scheduler.config.prediction_type}",
                f"name one that predicts one of {', '.join(_PREDICTIONS)}",
            )
        if max(settings.timesteps) >= len(kept):
            raise SettingsError(
                f"time step {max(settings.timesteps)} is beyond the scheduler's {len(kept)}",
                "use time steps of 0 to 999",
            )
        self._model, self._settings = model, settings
        self._signal = {t: float(kept[t].sqrt()) for t in settings.timesteps}
        self._noise = {t: float((1 - kept[t]).sqrt()) for t in settings.timesteps}

    @torch.inference_mode()
    def errors(
        self,
        latents: NDArray[np.floating[Any]],
        embeddings: NDArray[np.floating[Any]],
        rows: NDArray[np.int64],
    ) -> Floats:
        """(B, 2): mean squared error of the noise, with the condition and without."""
        model, settings = self._model, self._settings
        device = model.transformer.device
        raw = torch.from_numpy(np.asarray(latents, np.float32)).to(device)
        clean = (raw - model.codec.shift) * model.codec.scale
        given = torch.from_numpy(np.asarray(embeddings, np.float32)).to(device)
        null = model.transformer.null_embedding(len(given)).to(given)
        both = torch.cat([given, null]).to(model.transformer.dtype)
        total = torch.zeros(2, len(given), dtype=torch.float64, device=device)
        draws = [_stream(settings.seed, int(row)) for row in rows]
        for timestep in settings.timesteps:
            for _ in range(settings.noises):
                noise = _drawn(draws, tuple(clean.shape[1:])).to(device)
                total += self._error(clean, noise, both, timestep)
        mean: Floats = (total / (len(settings.timesteps) * settings.noises)).T.cpu().numpy()
        return mean

    def _error(self, clean: Tensor, noise: Tensor, both: Tensor, timestep: int) -> Tensor:
        """(2, B) error of one draw of noise, with the condition and without."""
        transformer = self._model.transformer
        signal, deviation = self._signal[timestep], self._noise[timestep]
        noisy = signal * clean + deviation * noise
        times = torch.full((len(both),), timestep, device=clean.device)
        twice = torch.cat([noisy, noisy]).to(both.dtype)
        output = transformer(twice, both, times, return_dict=False)[0].float()
        predicted = output[:, : clean.shape[1]].unflatten(0, (2, len(clean)))
        if self._velocity:
            # v = signal eps - deviation x_0 (Salimans & Ho, arXiv:2202.00512, appendix D)
            predicted = signal * predicted + deviation * noisy
        error: Tensor = (predicted - noise).square().flatten(2).mean(2)
        return error.double()


def _stream(seed: int, row: int) -> np.random.Generator:
    """The noise of one tile: Philox keyed with seed and row, as in the trainer."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, row], dtype=np.uint64)))


def _drawn(streams: Sequence[np.random.Generator], shape: tuple[int, ...]) -> Tensor:
    """(B, C, S, S): the next noise of each tile."""
    return torch.from_numpy(np.stack([s.standard_normal(shape, np.float32) for s in streams]))


def _check_latents(model: PixCell, latents: NDArray[np.floating[Any]], count: int) -> None:
    config = model.transformer.config
    wanted = (count, config.in_channels, config.sample_size, config.sample_size)
    if tuple(latents.shape) != wanted:
        raise WeightsMismatchError(
            f"the latents are {tuple(latents.shape)}, and the generator asks for {wanted}",
            "score latents of the generator's own VAE and tile size",
        )
    if not np.isfinite(latents).all():
        raise SettingsError(
            "a latent is NaN or infinite", "find it with `pixcell-train latents check`"
        )
