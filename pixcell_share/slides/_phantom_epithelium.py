"""Epithelium of the phantom: glands around a lumen, and solid nests of tumour cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pixcell_share.slides._phantom_canvas import (
    Canvas,
    Float,
    Mask,
    at,
    noise,
    ramp,
    random_angles,
    scatter,
    where,
)

_MITOSES = 0.012
"""Share of the tumour cells that divide."""


def paint_nests(canvas: Canvas, region: Mask, free: Mask, rng: np.random.Generator) -> Mask:
    """Solid nests of tumour cells around ``region`` where it is ``free``; returns where, (H, W)."""
    shape = canvas.shape
    inner = _softened(region, 12)
    body = 1.5 * (inner - 0.5) + 0.55 * noise(shape, 95, rng) + 0.16 * noise(shape, 24, rng)
    cover = ramp(body + 0.15, 0.2) * ramp(inner - 0.25, 0.12) * free
    nest = cover > 0.5
    cells = where(nest, scatter(27.0, shape, rng, jitter=0.17))
    border = _cell_borders(cells, shape)
    grain = noise(shape, 4, rng)
    eosin = 0.30 + 0.05 * noise(shape, 45, rng) + 0.04 * grain - 0.17 * border
    haematoxylin = 0.15 + 0.03 * noise(shape, 60, rng) + 0.02 * grain - 0.08 * border
    canvas.blend(cover, haematoxylin, eosin)
    divides = rng.random(len(cells)) < _MITOSES
    angle = random_angles(len(cells), rng)
    canvas.add_nuclei("tumour", cells[~divides], angle[~divides])
    canvas.add_nuclei("mitosis", cells[divides], angle[divides])
    return nest


def paint_glands(canvas: Canvas, region: Mask, rng: np.random.Generator) -> Mask:
    """Round and oval glands within ``region`` (H, W); returns where they are."""
    taken = np.zeros(canvas.shape, dtype=bool)
    for centre in where(region, scatter(212.0, canvas.shape, rng, jitter=0.08)):
        if at(canvas.section, centre[None])[0] > 0.9:
            _Gland.random(centre, rng).paint(canvas, taken, rng)
    return taken


@dataclass(frozen=True, eq=False)
class _Gland:
    """One gland: columnar cells on a basement membrane, around a lumen. Lengths in canvas px."""

    centre: Float
    radius: float
    """Of the basement membrane, before it is stretched and bent."""
    wall: float
    """Height of the cells."""
    stretch: float
    turn: float
    bends: tuple[tuple[int, float, float], ...]
    """Order, amount and phase of the harmonics of the outline."""

    @classmethod
    def random(cls, centre: Float, rng: np.random.Generator) -> _Gland:
        bends = tuple(
            (order, rng.normal(0, amount), rng.uniform(0, 2 * np.pi))
            for order, amount in ((2, 0.09), (3, 0.06), (4, 0.035), (6, 0.015))
        )
        return cls(
            centre,
            rng.uniform(64, 98),
            rng.uniform(36, 46),
            rng.uniform(1.0, 1.3),
            rng.uniform(0, np.pi),
            bends,
        )

    def outline(self, polar: NDArray[np.floating]) -> NDArray[np.floating]:
        """Radius of the basement membrane at angle ``polar``."""
        bent = sum(amount * np.cos(order * polar + phase) for order, amount, phase in self.bends)
        return np.asarray(self.radius * (1 + bent))

    def paint(self, canvas: Canvas, taken: Mask, rng: np.random.Generator) -> None:
        part, place, x, y = canvas.window(self.centre, int(self.radius * self.stretch * 1.3) + 6)
        if not x.size:
            return
        u = (x * np.cos(self.turn) + y * np.sin(self.turn)) / self.stretch
        v = (y * np.cos(self.turn) - x * np.sin(self.turn)) * self.stretch**0.5
        depth = (self.outline(np.arctan2(v, u)) - np.hypot(u, v)).astype(np.float32)
        grain = noise(depth.shape, 4, rng)
        part.blend(ramp(depth + 3, 3), 0.12 + 0.03 * grain, 0.42 + 0.05 * grain)
        apical = ramp(depth, self.wall)
        foamy = 0.06 * noise(depth.shape, 9, rng) * apical
        part.blend(
            ramp(depth, 2),
            0.20 - 0.11 * apical + 0.02 * grain,
            0.31 - 0.06 * apical + 0.035 * grain + foamy,
        )
        brink = self.wall + 2.5 * noise(depth.shape, 14, rng) + 1.2 * noise(depth.shape, 5, rng)
        secretion = max(0.0, rng.normal(0.02, 0.07)) * (1 + 0.6 * noise(depth.shape, 30, rng))
        part.blend(ramp(depth - brink, 3), 0.008, np.clip(secretion, 0, 1))
        taken[place] |= depth > -3
        self._add_nuclei(canvas, 0.30, 14.5, rng)
        self._add_nuclei(canvas, 0.50, 27.0, rng)

    def _add_nuclei(
        self, canvas: Canvas, height: float, step: float, rng: np.random.Generator
    ) -> None:
        """A ring of nuclei at ``height`` (0 base, 1 lumen), ``step`` px apart, pointing inward."""
        count = int(2 * np.pi * self.radius / step)
        theta = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 1)
        theta += rng.normal(0, 0.12 * 2 * np.pi / count, count)
        radius = self.outline(theta) - self.wall * (height + rng.normal(0, 0.06, count))
        u, v = radius * np.cos(theta) * self.stretch, radius * np.sin(theta) / self.stretch**0.5
        x = u * np.cos(self.turn) - v * np.sin(self.turn)
        y = u * np.sin(self.turn) + v * np.cos(self.turn)
        angle = np.arctan2(y, x) + rng.normal(0, 0.16, count)
        points = np.stack([x, y], axis=1) + self.centre
        canvas.add_nuclei("gland", points.astype(np.float32), angle.astype(np.float32))


def _softened(mask: Mask, sigma: float, step: int = 4) -> Float:
    """``mask`` as float32 (H, W) with soft borders; blurred at a quarter of the size."""
    small = ndimage.gaussian_filter(mask[::step, ::step].astype(np.float32), sigma / step)
    return _enlarged(small, mask.shape)


def _enlarged(small: Float, shape: tuple[int, ...]) -> Float:
    picture = Image.fromarray(small).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float32)


def _cell_borders(cells: Float, shape: tuple[int, int], step: int = 2) -> Float:
    """Borders between ``cells`` (N, 2), float32 (H, W), 0 to 1: a Voronoi diagram, softened."""
    height, width = shape[0] // step, shape[1] // step
    border = np.zeros((height, width), dtype=np.float32)
    if len(cells) == 0:
        return np.zeros(shape, dtype=np.float32)
    columns = np.clip((cells[:, 0] / step).astype(int), 0, width - 1)
    rows = np.clip((cells[:, 1] / step).astype(int), 0, height - 1)
    free = np.ones((height, width), dtype=bool)
    free[rows, columns] = False
    nearest = ndimage.distance_transform_edt(free, return_distances=False, return_indices=True)
    owner = nearest[0] * width + nearest[1]
    border[:, 1:] += owner[:, 1:] != owner[:, :-1]
    border[1:] += owner[1:] != owner[:-1]
    return _enlarged(ndimage.gaussian_filter(np.minimum(border, 1), 0.7), shape)
