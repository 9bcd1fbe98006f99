"""Check the embeddings that condition the generator, and the latents that it denoises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pixcell_share.errors import SettingsError, WeightsMismatchError

_ROWS = 4096
"""Embeddings checked at once, so that a memory-mapped file is never read as a whole."""


def check_embeddings(
    embeddings: npt.NDArray[np.floating[Any]], tokens: int, dim: int, tile_px: int
) -> npt.NDArray[np.floating[Any]]:
    """Embeddings as ``(N, tokens, dim)``, all finite in float32.

    Raises:
        WeightsMismatchError: another number of embeddings an image, or another dimension.
        SettingsError: a value is NaN or infinite; names the image.
    """
    array = np.asanyarray(embeddings)
    if tokens == 1 and array.ndim == 2:
        array = array[:, None]
    if array.ndim != 3 or array.shape[1:] != (tokens, dim):
        given = " x ".join(map(str, array.shape))
        raise WeightsMismatchError(
            f"the generator was made for {tokens} x {dim} numbers an image ({tile_px} px): "
            f"the array given is {given}, not N x {tokens} x {dim}",
            "use the encoder and the tile size that the generator was trained with",
        )
    for start in range(0, len(array), _ROWS):
        with np.errstate(over="ignore"):
            rows = array[start : start + _ROWS].astype(np.float32, copy=False)
        bad = ~np.isfinite(rows).all(axis=(1, 2))
        if bad.any():
            raise SettingsError(
                f"embedding {start + int(bad.argmax())} holds NaN or infinite numbers",
                "compute the embeddings again, or leave that tile out",
            )
    return array


_RELEASED_EMBEDDING = 1536
_RELEASED_LATENTS = 16


def check_tokens(config: Any, shape: Sequence[int]) -> None:
    """Refuse embeddings that belong to another model.

    Args:
        config: the transformer's.
        shape: of the embeddings of one image.

    Raises:
        WeightsMismatchError: says which model they are meant for.
    """
    wanted = (config.caption_num_tokens, config.caption_channels)
    if tuple(shape) != wanted:
        raise WeightsMismatchError(
            f"the generator was made for {_tokens(*wanted)}: these are "
            f"{' x '.join(map(str, shape))} numbers an image",
            "use the encoder and the tile size that the generator was trained with",
        )


def check_latents(config: Any, latents: Tensor, count: int) -> None:
    """Refuse latents that belong to another model.

    Args:
        config: the transformer's.
        latents: ``(count, C, H, W)``.
        count: of the images that are conditioned.

    Raises:
        WeightsMismatchError: another number of images, of channels, or another size; says which
            model they are meant for.
    """
    side, channels = config.sample_size, config.in_channels
    if tuple(latents.shape) != (count, channels, side, side):
        raise WeightsMismatchError(
            f"the generator was made for {channels} latent channels of {side} x {side}"
            f"{_released_latents(channels, side)}: these latents are "
            f"{' x '.join(map(str, latents.shape))}, for {count} images"
            f"{_released_latents(latents.shape[1], latents.shape[-1])}",
            "use the VAE and the tile size that the generator was trained with",
        )


def _tokens(tokens: int, dim: int) -> str:
    released = dim == _RELEASED_EMBEDDING
    names = {1: " (PixCell-256)", 16: " (PixCell-1024)"} if released else {}
    return f"{tokens} x {dim} numbers an image{names.get(tokens, '')}"


def _released_latents(channels: int, side: int) -> str:
    names = {32: " (PixCell-256)", 128: " (PixCell-1024)"}
    return names.get(side, "") if channels == _RELEASED_LATENTS else ""
