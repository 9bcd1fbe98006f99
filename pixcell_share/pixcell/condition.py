"""Check the embeddings that condition the generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

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
