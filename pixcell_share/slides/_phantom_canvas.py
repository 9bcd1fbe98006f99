"""What the phantom is painted on, and the few tools that every tissue is painted with.

The canvas has 0.5 µm/px, half the resolution of the slide. Nuclei, which carry the fine detail,
are listed here and stamped at full resolution by `_phantom_nuclei.stamp`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)

ENLARGEMENT = 2
"""Pixels of the slide per pixel of the canvas."""


@dataclass(frozen=True, eq=False)
class Nuclei:
    """Where the nuclei of one type lie."""

    kind: str
    """A key of `_phantom_nuclei.TYPES`."""

    xy: Float
    """Centres (x, y) in pixels of the slide, shape (N, 2)."""

    angle: Float
    """Direction of the long axis, radians, x towards y, shape (N,)."""


@dataclass(eq=False)
class Canvas:
    """The stains of one section while it is painted; arrays are float32 (H, W)."""

    haematoxylin: Float
    eosin: Float
    section: Float
    """1 on the section, 0 on glass, soft at the edge."""
    nuclei: list[Nuclei] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.section.shape
        return height, width

    def blend(self, cover: Float, haematoxylin: Float | float, eosin: Float | float) -> None:
        """Replace the stains by the given ones where ``cover`` (0 to 1) says so."""
        self.haematoxylin += cover * (haematoxylin - self.haematoxylin)
        self.eosin += cover * (eosin - self.eosin)

    def window(self, centre: Float, reach: int) -> tuple[Canvas, tuple[slice, slice], Float, Float]:
        """The square around ``centre`` (x, y): its part of the canvas, which shares memory with
        the whole; its rows and columns; and x and y of its pixels, relative to the centre."""
        column, row = int(centre[0]), int(centre[1])
        left, right = np.clip((column - reach, column + reach), 0, self.shape[1]).tolist()
        top, bottom = np.clip((row - reach, row + reach), 0, self.shape[0]).tolist()
        place = slice(top, bottom), slice(left, right)
        part = Canvas(self.haematoxylin[place], self.eosin[place], self.section[place])
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
        return part, place, x - centre[0], y - centre[1]

    def add_nuclei(self, kind: str, points: Float, angle: Float) -> None:
        """List nuclei at ``points`` (N, 2) of the canvas; those on glass are left out."""
        inside = at(self.section, points) > 0.9
        self.nuclei.append(Nuclei(kind, points[inside] * ENLARGEMENT, angle[inside]))

    def nuclei_by_kind(self) -> Iterator[Nuclei]:
        """All nuclei, one group per type, in a fixed order."""
        for kind in sorted({group.kind for group in self.nuclei}):
            groups = [group for group in self.nuclei if group.kind == kind]
            xy = np.concatenate([group.xy for group in groups])
            yield Nuclei(kind, xy, np.concatenate([group.angle for group in groups]))


def noise(shape: tuple[int, ...], cell: float, rng: np.random.Generator) -> Float:
    """Smooth noise of about unit variance with blobs about ``cell`` px wide; float32 (H, W)."""
    coarse = tuple(int(np.ceil(side / cell)) + 3 for side in shape)
    grid = Image.fromarray(rng.standard_normal(coarse).astype(np.float32))
    left, top = rng.uniform(0, 1, 2)
    box = (left, top, left + shape[1] / cell, top + shape[0] / cell)
    smooth = grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box)
    return np.asarray(np.asarray(smooth) * np.float32(1.35), dtype=np.float32)


def scatter(
    spacing: float, shape: tuple[int, ...], rng: np.random.Generator, jitter: float = 0.28
) -> Float:
    """Points (x, y) on a jittered hexagonal lattice over ``shape`` (H, W), shape (N, 2)."""
    height, width = shape
    x, y = np.meshgrid(np.arange(0, width, spacing), np.arange(0, height, spacing * 0.866))
    x[1::2] += spacing / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    return np.asarray(points + rng.normal(0, jitter * spacing, points.shape), dtype=np.float32)


def at(values: NDArray[Scalar], points: Float) -> NDArray[Scalar]:
    """``values`` (H, W) at the pixel nearest to each of ``points`` (N, 2); shape (N,)."""
    height, width = values.shape
    x = np.clip(np.round(points[:, 0]).astype(int), 0, width - 1)
    y = np.clip(np.round(points[:, 1]).astype(int), 0, height - 1)
    return np.asarray(values[y, x])


def where(mask: Mask, points: Float) -> Float:
    """Those of ``points`` (N, 2) that lie in ``mask`` (H, W)."""
    return np.asarray(points[at(mask, points)])


def ramp(values: NDArray[np.floating], softness: float) -> Float:
    """0 below zero, 1 above ``softness``, linear between."""
    return np.asarray(np.clip(values / softness, 0, 1), dtype=np.float32)


def random_angles(count: int, rng: np.random.Generator) -> Float:
    """Directions without preference, radians, shape (count,)."""
    return rng.uniform(0, np.pi, count).astype(np.float32)
