"""Decode a large latent window by window, blended so that no window shows its border."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pixcell_share.pixcell.vae import LatentCodec
from pixcell_share.pixcell.windows import Windows, gaussian


def decode_windows(
    codec: LatentCodec,
    latents: Tensor,
    windows: Windows,
    *,
    batch_size: int,
    sigma: float,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[Tensor]:
    """The picture of ``latents`` as strips from top to bottom, each when it is asked for.

    A pixel is the mean of all windows that show it, weighted by ``exp(-d**2 / sigma**2)`` where
    ``d`` is the distance from the window's centre in half sides. Only one row of windows is held.

    Args:
        codec: the VAE; it runs on windows of the size that it was trained with.
        latents: ``(C, H, W)``.
        windows: over ``latents``.
        batch_size: windows decoded together.
        sigma: of the Gaussian; infinite weighs all windows alike. Windows show their borders
            where the weight there is not small: 0.002 at 0.4, but 0.2 at the published 0.8.
        advance: told the number of windows just decoded.

    Returns:
        float32 strips ``(3, rows, W * factor)`` on the codec's device, about [-1, 1].
    """
    factor, side = codec.factor, windows.side * codec.factor
    bell = gaussian(side, sigma).to(latents.device)
    down, across = windows.weights(bell)
    tops = [top * factor for top in windows.tops]
    band = torch.zeros(3, side, windows.shape[1] * factor, device=latents.device)
    done = 0
    for row, top in enumerate(tops):
        _add_row(band, codec, latents, windows, row, bell, batch_size, advance)
        end = tops[row + 1] if row + 1 < len(tops) else top + side
        yield band[:, : end - done] / torch.outer(down[done:end], across)
        band = torch.cat([band[:, end - done :], torch.zeros_like(band[:, : end - done])], dim=1)
        done = end


def _add_row(
    band: Tensor,
    codec: LatentCodec,
    latents: Tensor,
    windows: Windows,
    row: int,
    bell: Tensor,
    batch_size: int,
    advance: Callable[[int], None],
) -> None:
    """Decode one row of windows into a band ``(3, side, width)``."""
    columns, side = len(windows.lefts), len(bell)
    kernel = torch.outer(bell, bell)
    for first in range(0, columns, batch_size):
        lefts = windows.lefts[first : first + batch_size]
        start = row * columns + first
        pixels = codec.decode(windows.cut(latents, slice(start, start + len(lefts))))
        for left, picture in zip(lefts, pixels, strict=True):
            place = left * codec.factor
            band[:, :, place : place + side] += picture.to(band.device) * kernel
        advance(len(lefts))
