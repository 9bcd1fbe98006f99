"""How many tiles to draw together: a constant on a CPU, measured on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pixcell_share.errors import PixcellError
from pixcell_share.pixcell.device import out_of_memory

_CPU_PATCHES = 16 * 256
"""Latent patches of a batch on a CPU: 16 tiles of 256 px, one of 1024 px. More is not faster."""
_CPU_TILES = 16
_GPU_PATCHES = 256 * 256
"""The same on a GPU, which they fill: 256 tiles of 256 px, 16 of 1024 px."""
_SHARE = 0.8
"""Of the free memory; the rest is for fragments, and for decoding beside denoising."""
_TRIAL = (2, 4)


def cpu_batch_size(patches: int) -> int:
    """Tiles of ``patches`` latent patches each that a CPU draws together."""
    return max(1, min(_CPU_TILES, _CPU_PATCHES // patches))


def gpu_batch_size(patches: int, draw: Callable[[int], None], device: torch.device) -> int:
    """The largest power of two that fits into the free memory, as two small batches show.

    Args:
        patches: latent patches of a tile.
        draw: draws a number of tiles on the device.
        device: the GPU.

    Raises:
        PixcellError: not even one tile fits.
    """
    with out_of_memory("a trial batch"):
        draw(1)  # workspaces that libraries allocate once are not counted
        few, more = (_peak(draw, count, device) for count in _TRIAL)
    free = torch.cuda.mem_get_info(device)[0] + (
        torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    )
    return fitting(free, few, more, limit=max(1, _GPU_PATCHES // patches))


def fitting(free: int, few: int, more: int, *, limit: int) -> int:
    """The largest power of two up to ``limit`` whose memory, a straight line, fits.

    Args:
        free: bytes.
        few: bytes that 2 tiles take.
        more: bytes that 4 tiles take.
        limit: at most so many tiles.

    Raises:
        PixcellError: not even one fits.
    """
    first, second = _TRIAL
    each = max(1, (more - few) // (second - first))
    fixed = max(0, few - first * each)
    count = min(limit, int(_SHARE * free - fixed) // each)
    if count < 1:
        raise PixcellError(
            "not even one tile fits into the GPU's memory", "free some, or use --device cpu"
        )
    return int(2 ** (count.bit_length() - 1))


def _peak(draw: Callable[[int], None], count: int, device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    draw(count)
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device) - before)
