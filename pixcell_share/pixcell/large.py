"""Pictures larger than the model's own: 2048, 4096 px and more, from a grid of embeddings.

The latent is denoised in overlapping windows of the model's size, as MultiDiffusion does (Bar-Tal
et al., arXiv:2302.08113) and the published PixCell code for 4096 px: in each step the windows'
estimates of the clean latent are averaged, the prediction is computed back from the average, and
the solver steps the whole latent. At one place and step all windows see the same noisy value, and
the clean estimate is a linear function of the prediction; so the mean of the clean estimates *is*
the clean estimate of the mean prediction, and predictions are averaged here directly
(`tests/pixcell/test_large.py` compares the two).

The published code averages with equal weights and decodes with a Gaussian of 0.8 half windows. A
window then ends with a weight far from zero, and its border shows: with nano's weights the mean
gradient across borders came out 1.8 times that elsewhere. Here both use a Gaussian of 0.4, whose
weight at a border is 0.002, and nothing is left of it. `PUBLISHED` has the published values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pixcell_share.errors import PixcellError, SettingsError, WeightsMismatchError
from pixcell_share.pixcell.blend import decode_windows
from pixcell_share.pixcell.condition import check_embeddings
from pixcell_share.pixcell.device import out_of_memory
from pixcell_share.pixcell.guided import GuidedModel
from pixcell_share.pixcell.model import PixCell
from pixcell_share.pixcell.seeds import check_seeds, tile_noise
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.pixcell.vae import to_uint8
from pixcell_share.pixcell.windows import Windows, gaussian

Advance = Callable[[int], None]
Strip = npt.NDArray[np.uint8]
_LEAST_SIGMA = 0.2
"""In a corner that one window alone covers, smaller weights would underflow float32."""


@dataclass(frozen=True)
class LargeSettings:
    """How a large picture is drawn.

    Raises:
        SettingsError: a value is out of range.
    """

    steps: int = 20
    """Steps of the solver."""
    guidance_scale: float | None = None
    """``g`` in ``u + g (c - u)``; None: the model's own. The published 4096 px script's ``w`` is
    ``g - 1``."""
    stride: int | None = None
    """Latent pixels from one window to the next; None: half a window. A quarter costs four times
    as much."""
    batch_size: int = 4
    """Windows denoised, and decoded, together."""
    average_sigma: float = 0.4
    """Width of the Gaussian that weighs windows while denoising, in half windows; infinite weighs
    them alike."""
    decode_sigma: float = 0.4
    """Width of the Gaussian that blends decoded windows."""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise SettingsError(f"steps is {self.steps}", "use 1 to 1000 steps; 20 is usual")
        if self.batch_size < 1:
            raise SettingsError(f"batch_size is {self.batch_size}", "use at least 1")
        scale = self.guidance_scale
        if scale is not None and not (math.isfinite(scale) and scale >= 0):
            raise SettingsError(f"guidance_scale is {scale}", "use a number from 0")
        for sigma in (self.average_sigma, self.decode_sigma):
            if not sigma >= _LEAST_SIGMA:
                raise SettingsError(f"a sigma is {sigma}", "use 0.4, or more for a harder edge")


PUBLISHED = LargeSettings(average_sigma=math.inf, decode_sigma=0.8)
"""As the published script for 4096 px averages and blends; at its default guidance 3 (``w`` 2)."""


class LargePicture:
    """One large picture, computed when its first strip is asked for.

    Args:
        model: a generator with more than one embedding an image, such as PixCell-1024.
        embeddings: ``(R, C, D)``, one for each 256 px tile of the region, row by row.
        seed: of the one noise field of the region.
        settings: by default those of the published code.

    Raises:
        WeightsMismatchError: the model takes one embedding an image, or others than these.
        SettingsError: the region is smaller than the model's image, or a setting does not fit.
    """

    def __init__(
        self,
        model: PixCell,
        embeddings: npt.NDArray[np.floating[Any]],
        seed: int,
        settings: LargeSettings | None = None,
    ) -> None:
        self.settings = settings or LargeSettings()
        self._model = model
        self._seed = int(seed)
        check_seeds([seed], 1)
        self._grid = _check_grid(model, embeddings)
        side = int(model.transformer.config.sample_size)
        tile = tile_latents(model)
        rows, cols = self._grid.shape[:2]
        stride = side // 2 if self.settings.stride is None else self.settings.stride
        self.windows = Windows.over(rows * tile, cols * tile, side, stride)
        self._conditions = self.windows.blocks(torch.from_numpy(self._grid), tile)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.windows.shape
        return height * self._model.codec.factor, width * self._model.codec.factor

    @property
    def work(self) -> int:
        """What `strips` tells its callback in all: each window once a step, and once decoded."""
        return len(self.windows) * (self.settings.steps + 1)

    def strips(self, advance: Advance = lambda count: None) -> Iterator[Strip]:
        """The picture from top to bottom, ``uint8 (rows, width, 3)`` each.

        Args:
            advance: told the number of windows just denoised by one step, or decoded.

        Raises:
            PixcellError: while iterating, if the arithmetic overflows or memory runs out.
        """
        # The mode is entered anew for each strip: a generator must not hold it while paused.
        what = f"a batch of {self.settings.batch_size} windows"
        with torch.inference_mode(), out_of_memory(what):
            latents = self._denoise(advance)
            parts = decode_windows(
                self._model.codec,
                latents,
                self.windows,
                batch_size=self.settings.batch_size,
                sigma=self.settings.decode_sigma,
                advance=advance,
            )
        while True:
            with torch.inference_mode(), out_of_memory(what):
                strip = next(parts, None)
            if strip is None:
                return
            yield self._levels(strip)

    def array(self, advance: Advance = lambda count: None) -> Strip:
        """The whole picture, ``uint8 (height, width, 3)``."""
        return np.concatenate(list(self.strips(advance)))

    def _denoise(self, advance: Advance) -> Tensor:
        settings, model = self.settings, self._model
        scale = settings.guidance_scale
        return denoise_windows(
            model.transformer,
            model.new_scheduler(),
            tile_noise([self._seed], (model.codec.channels, *self.windows.shape))[0],
            self._conditions,
            self.windows,
            steps=settings.steps,
            guidance_scale=model.guidance_scale if scale is None else scale,
            batch_size=settings.batch_size,
            sigma=settings.average_sigma,
            advance=advance,
        )

    def _levels(self, strip: Tensor) -> Strip:
        if not bool(strip.isfinite().all()):
            raise PixcellError(
                f"the region came out as NaN or infinite in {self._model.transformer.dtype}",
                "use --dtype bf16 or fp32; if it is fp32 already, get the weights again",
            )
        levels: Strip = to_uint8(strip[None])[0].cpu().numpy()
        return levels


def denoise_windows(
    transformer: PixCellTransformer2DModel,
    scheduler: Any,
    noise: Tensor,
    conditions: Tensor,
    windows: Windows,
    *,
    steps: int,
    guidance_scale: float,
    batch_size: int,
    sigma: float = math.inf,
    advance: Advance = lambda count: None,
) -> Tensor:
    """Turn one noise field into one latent, window by window in each step.

    Args:
        transformer: the model, on the device to compute on.
        scheduler: a deterministic diffusers scheduler; it is reset.
        noise: ``(C, H, W)``.
        conditions: ``(len(windows), T, D)``.
        windows: over the field.
        steps: solver steps.
        guidance_scale: ``g`` in ``u + g (c - u)``.
        batch_size: windows denoised together.
        sigma: of the Gaussian that weighs a window's pixels; infinite weighs them alike.
        advance: told the number of windows just denoised by one step.

    Returns:
        float32 ``(C, H, W)``.
    """
    device = transformer.device
    scheduler.set_timesteps(steps, device=device)
    guided = GuidedModel(
        transformer, conditions, scheduler.timesteps, guidance_scale=guidance_scale
    )
    latents: Tensor = (noise.to(device, torch.float32) * scheduler.init_noise_sigma)[None]
    bell = gaussian(windows.side, sigma).to(device)
    kernel, weights = torch.outer(bell, bell), torch.outer(*windows.weights(bell))
    for step, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, timestep)[0]
        total = torch.zeros_like(scaled)
        for first in range(0, len(windows), batch_size):
            part = slice(first, min(first + batch_size, len(windows)))
            predictions = guided.predict(windows.cut(scaled, part), step, part)
            windows.add(total, predictions * kernel, part)
            advance(part.stop - part.start)
        prediction = (total / weights)[None]
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents[0]


def tile_latents(model: PixCell) -> int:
    """Latent pixels along one side of the tile that one embedding describes."""
    return int(model.transformer.config.sample_size) // math.isqrt(model.tokens)


def _check_grid(
    model: PixCell, embeddings: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float32]:
    if model.tokens == 1:
        raise WeightsMismatchError(
            f"this generator takes one embedding for a picture of {model.tile_px} px; a large "
            "region needs one that takes a grid of them",
            "use PixCell-1024, or another model with 4 or 16 embeddings an image",
        )
    array = np.asarray(embeddings)
    if array.ndim != 3 or array.shape[2] != model.embedding_dim:
        given = " x ".join(map(str, array.shape))
        raise WeightsMismatchError(
            f"a region needs rows x columns x {model.embedding_dim} numbers, not {given}",
            "use the encoder that the generator was trained with",
        )
    flat = check_embeddings(array.reshape(-1, 1, array.shape[2]), 1, array.shape[2], model.tile_px)
    return np.ascontiguousarray(flat, dtype=np.float32).reshape(array.shape)
