"""Seeds belong to tiles: a tile's noise depends on the site's key, the tile and the draw.

Not on the batch, the order, the number of devices, or a restart.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pixcell_share.errors import SettingsError
from pixcell_share.files import canonical_json

_PURPOSE = "pixcell-share tile seed, version 1"
SEED_BITS = 63


def tile_seed(key: bytes, slide_id: str, x: int, y: int, draw: int) -> int:
    """The seed of one draw of one tile: 63 bits of HMAC-SHA256 (RFC 2104).

    Without the key a seed can neither be computed nor traced to its tile.

    Args:
        key: a secret of the site; at least 16 bytes.
        slide_id: the slide's id in the run.
        x: left edge of the tile in level-0 pixels.
        y: top edge of the tile in level-0 pixels.
        draw: 0 for the first picture of the tile, then 1, 2, ...

    Raises:
        SettingsError: the key is too short to be a secret.
    """
    if len(key) < 16:
        raise SettingsError(
            "the key for tile seeds is shorter than 16 bytes",
            "use the key that SiteKey.derive gives",
        )
    message = canonical_json([_PURPOSE, slide_id, int(x), int(y), int(draw)])
    digest = hmac.digest(key, message, hashlib.sha256)
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def tile_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise, one independent stream for each seed.

    Drawn on the CPU by Philox (Salmon et al., SC 2011), so that every device starts from the
    same numbers. A CPU ``torch.Generator`` would not do: it keeps 32 bits of a seed, and among
    ten million tiles about 11,600 pairs would share their noise.

    Args:
        seeds: one seed for each tile, from 0 to 2**63 - 1.
        shape: shape of one tile's noise, such as ``(16, 32, 32)``.

    Returns:
        float32 ``(len(seeds), *shape)`` on the CPU.
    """
    noise = np.empty((len(seeds), *shape), dtype=np.float32)
    for row, seed in zip(noise, seeds, strict=True):
        generator = np.random.Generator(np.random.Philox(key=int(seed)))
        generator.standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(noise)


def check_seeds(seeds: Sequence[int], count: int) -> None:
    """Refuse seeds that do not fit.

    Raises:
        SettingsError: not ``count`` seeds, or one outside 0 to 2**63 - 1.
    """
    if len(seeds) != count:
        raise SettingsError(
            f"{len(seeds)} seeds for {count} embeddings", "give one seed for each embedding"
        )
    for index, seed in enumerate(seeds):
        if not 0 <= int(seed) < 2**SEED_BITS:
            raise SettingsError(
                f"seed {index} is {seed}, outside 0 to 2**{SEED_BITS} - 1",
                "use tile_seed, or any number in that range",
            )
