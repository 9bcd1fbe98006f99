"""Random training batches: which source, which tile, which crop, which flip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixcell_share.nano.tiles import TILE_PX, Images, TileSet

_TRIES = 8
_GLASS = 225.0  # mean grey level above which a crop counts as glass


@dataclass(frozen=True)
class MixSettings:
    """Share of each source in a batch; lung tiles fill the rest."""

    breast: float = 0.13
    """Share of breast crops: few fields, but a second organ and a known scale."""
    phantom: float = 0.06
    """Share of drawn tiles, where the cache has any."""
    slides: float = 0.12
    """Share of crops of whole slides, where the data has any."""


class Sampler(Protocol):
    """Draws batches of tiles."""

    def draw(self, count: int, rng: np.random.Generator, crop_px: int = TILE_PX) -> Images:
        """``count`` random crops (count, crop_px, crop_px, 3)."""
        ...


class TileSampler:
    """Draws tiles from the training side, or from the held-out side.

    Every group of lung tiles is equally likely, whatever the number of its copies.
    """

    def __init__(self, tiles: TileSet, mix: MixSettings, *, held: bool = False) -> None:
        self._tiles = tiles
        self._mix = mix
        self._held = held
        side = tiles.held if held else tiles.train
        self._by_group = [
            side[tiles.groups[side] == name] for name in np.unique(tiles.groups[side])
        ]
        self._fields = np.flatnonzero(tiles.field_holdout == held)

    def draw(self, count: int, rng: np.random.Generator, crop_px: int = TILE_PX) -> Images:
        """``count`` random crops (count, crop_px, crop_px, 3), flipped and turned at random."""
        return np.stack([self._one(rng, crop_px) for _ in range(count)])

    def _one(self, rng: np.random.Generator, crop_px: int) -> Images:
        tiles, mix, source = self._tiles, self._mix, rng.random()
        if source < mix.breast:
            image = tiles.fields[rng.choice(self._fields)]
        elif source < mix.breast + mix.phantom and len(tiles.phantom):
            image = tiles.phantom[rng.integers(len(tiles.phantom))]
        elif source > 1 - mix.slides and tiles.slides and not self._held:
            image = tissue_crop(tiles.slides[rng.integers(len(tiles.slides))], crop_px, rng)
        else:
            group = self._by_group[rng.integers(len(self._by_group))]
            image = tiles.lung[rng.choice(group)]
        return turn(random_crop(image, crop_px, rng), int(rng.integers(8)))


def random_crop(image: Images, crop_px: int, rng: np.random.Generator) -> Images:
    """A random ``crop_px`` square of ``image`` (H, W, 3)."""
    height, width = image.shape[:2]
    top = int(rng.integers(height - crop_px + 1))
    left = int(rng.integers(width - crop_px + 1))
    return np.asarray(image[top : top + crop_px, left : left + crop_px])


def tissue_crop(image: Images, crop_px: int, rng: np.random.Generator) -> Images:
    """A random crop that is not bare glass, or the last of a few tries."""
    for _ in range(_TRIES):
        crop = random_crop(image, crop_px, rng)
        if float(crop.mean()) < _GLASS:
            break
    return crop


def turn(image: NDArray[np.uint8], code: int) -> NDArray[np.uint8]:
    """One of the eight symmetries of a square: ``code % 4`` quarter turns, flipped from 4 on."""
    turned = np.rot90(image, code % 4)
    return turned[:, ::-1] if code >= 4 else turned


def turn_tensor(batch: Tensor, code: int) -> Tensor:
    """The same symmetry on (B, C, H, W)."""
    turned = torch.rot90(batch, code % 4, dims=(2, 3))
    return turned.flip(3) if code >= 4 else turned


def turn_each(batch: Tensor, codes: NDArray[np.int64]) -> Tensor:
    """Turn every row of (B, C, S, S) by its own code (B,)."""
    turned = torch.empty_like(batch)
    for code in np.unique(codes):
        rows = torch.from_numpy(np.flatnonzero(codes == code)).to(batch.device)
        turned[rows] = turn_tensor(batch[rows], int(code))
    return turned


def to_tensor(images: Images, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1], channels last in memory."""
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return batch.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_images(batch: Tensor) -> Images:
    """Float (B, 3, H, W) in [-1, 1] to uint8 (B, H, W, 3)."""
    scaled = batch.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    images: Images = scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return images
