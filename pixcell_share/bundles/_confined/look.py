"""What a tile is like: enough to find blank, constant and repeated ones, without keeping any."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

LOOK = np.dtype(
    [
        ("digest", "S16"),
        ("shape", "u8"),
        ("low", "u1"),
        ("high", "u1"),
        ("mean", "f4"),
        ("spread", "f4"),
    ],
)
"""Of one tile: the first 16 bytes of the SHA-256 of its pixels; 64 bits that say where it gets
brighter from left to right; least and greatest value; mean and, over all channels, mean standard
deviation of a sample of its pixels, in grey levels."""
DIGEST_BYTES = 16
_SAMPLE_PX = 32
_CELLS = 8


def look_at(tiles: NDArray[np.uint8], into: NDArray[np.void]) -> None:
    """Fill ``into`` (N,) of type `LOOK` for ``tiles`` (N, H, W, 3)."""
    flat = tiles.reshape(len(tiles), -1)
    into["low"], into["high"] = flat.min(axis=1), flat.max(axis=1)
    for i, pixels in enumerate(flat):
        into["digest"][i] = hashlib.sha256(pixels.data).digest()[:DIGEST_BYTES]
    sample = _sampled(tiles)
    into["mean"] = sample.mean(axis=(1, 2, 3))
    into["spread"] = sample.std(axis=(1, 2)).mean(axis=1)
    into["shape"] = _shape(sample)


def _sampled(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """At most about 32 x 32 pixels of each tile, evenly spread; a multiple of 8 on each side."""
    step = max(1, tiles.shape[1] // _SAMPLE_PX)
    sample = tiles[:, ::step, ::step]
    side = sample.shape[1] // _CELLS * _CELLS
    return sample[:, :side, :side].astype(np.float32)


def _shape(sample: NDArray[np.float32]) -> NDArray[np.uint64]:
    """The difference hash of 8 x 8 cells: one bit where the next cell to the right is brighter.

    Equal for copies that differ by a little noise or in brightness; after N. Krawetz, "Kind of
    like that" (2013), with the last cell of a row compared with the first.
    """
    count, side = sample.shape[:2]
    edge = side // _CELLS
    cells = sample.mean(axis=3).reshape(count, _CELLS, edge, _CELLS, edge).mean(axis=(2, 4))
    bits = np.packbits((np.roll(cells, -1, axis=2) > cells).reshape(count, -1), axis=1)
    return bits.view(np.uint64)[:, 0]
