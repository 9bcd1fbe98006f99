"""The order of tiles in a bundle: one that tells nothing about slides, and repeats exactly."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def shuffled_order(key_bytes: bytes, count: int) -> npt.NDArray[np.int64]:
    """A permutation of ``range(count)`` that only the holder of ``key_bytes`` can repeat.

    Neighbouring tiles of one slide would tell that they belong together. The permutation sorts
    64-bit keys from Philox 4x64-10 (Salmon et al., SC 2011), whose stream numpy keeps across
    versions, as it does not for ``Generator.permutation``.

    Args:
        key_bytes: secret, from `SiteKey.derive`.
        count: how many tiles.

    Returns:
        int64 ``(count,)``: the tile to write at each place.
    """
    digest = hashlib.sha256(b"pixcell-share/order/v1" + key_bytes).digest()
    philox = np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64))
    return np.argsort(philox.random_raw(count), kind="stable").astype(np.int64)
