"""Which patches of a global crop the student does not see: some blocks (BEiT, arXiv:2106.08254).

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/data/masking.py`` and ``collate.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.ssl.draws import Purpose, generator

_SMALLEST = 4
"""Patches of a block, at least."""
_ASPECT = 0.3
"""Height to width of a block, and width to height, at least."""
_TRIES = 10
"""Blocks that are tried before a mask is left as it is."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskSettings:
    """How much is masked."""

    probability: float = 0.5
    """Share of the global crops that are masked at all."""
    ratio: tuple[float, float] = (0.1, 0.5)
    """Least and largest share of patches masked in such a crop."""


class Masker:
    """Masks for the global crops of any position.

    As in DINOv2 a fixed share of each step's crops is masked, and their ratios are spread evenly
    over the range: the step's crops are shuffled, and each takes the next part of the range.

    Args:
        grid: patches along a side of a global crop.
        global_batch: images of a step.
        settings: how much is masked.
        seed: of the run.
    """

    def __init__(self, grid: int, global_batch: int, settings: MaskSettings, seed: int) -> None:
        self._grid, self._global_batch = grid, global_batch
        self._settings, self._seed = settings, seed
        self._masked = int(2 * global_batch * settings.probability)
        self._slots: tuple[int, NDArray[np.int64]] | None = None

    def masks(self, position: int) -> Mask:
        """Masks (2, N) of the two global crops of a position."""
        draw = generator(self._seed, position, Purpose.MASKS)
        return np.stack([self._mask(position, crop, draw) for crop in range(2)])

    def _mask(self, position: int, crop: int, draw: np.random.Generator) -> Mask:
        patches = self._grid**2
        slot = self._slot(position, crop)
        if slot >= self._masked:
            return np.zeros(patches, dtype=bool)
        low, high = self._settings.ratio
        ratio = low + (high - low) * (slot + draw.random()) / self._masked
        return block_mask(self._grid, int(patches * ratio), draw).reshape(-1)

    def _slot(self, position: int, crop: int) -> int:
        """The place of a crop among the shuffled crops of its step."""
        step, index = divmod(position, self._global_batch)
        if self._slots is None or self._slots[0] != step:
            draw = generator(self._seed, step, Purpose.SLOTS)
            self._slots = step, draw.permutation(2 * self._global_batch)
        return int(self._slots[1][2 * index + crop])


def block_mask(grid: int, patches: int, draw: np.random.Generator) -> Mask:
    """A mask (grid, grid) of rectangles that cover about ``patches`` patches, never more.

    Args:
        grid: patches along a side.
        patches: how many to cover.
        draw: where the numbers come from.
    """
    mask = np.zeros((grid, grid), dtype=bool)
    largest = grid**2 // 2
    while (left := patches - int(mask.sum())) > 0:
        if not _add_block(mask, min(left, largest), draw):
            break
    return mask


def _add_block(mask: Mask, most: int, draw: np.random.Generator) -> bool:
    """Cover a rectangle that adds from 1 to ``most`` patches; whether one was found."""
    grid = len(mask)
    for _ in range(_TRIES):
        area = draw.uniform(min(_SMALLEST, most), max(_SMALLEST, most))
        aspect = math.exp(draw.uniform(math.log(_ASPECT), -math.log(_ASPECT)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < height < grid and 0 < width < grid):
            continue
        top = int(draw.integers(0, grid - height + 1))
        left = int(draw.integers(0, grid - width + 1))
        block = mask[top : top + height, left : left + width]
        if 0 < block.size - int(block.sum()) <= most:
            block[...] = True
            return True
    return False
