"""Nuclei of the phantom: a small library of drawn nuclei per cell type, stamped by thousands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Float = NDArray[np.float32]


@dataclass(frozen=True)
class NucleusType:
    """What the nuclei of one cell type look like. Lengths are in µm."""

    length: float
    """Mean long axis."""

    width: float
    """Mean short axis."""

    density: float
    """Haematoxylin at its densest, 0 to 1."""

    clumps: float
    """Strength of the chromatin texture, 0 to 1."""

    rim: float
    """Darker nuclear membrane, 0 to 1."""

    nucleoli: int
    """Most nucleoli that are seen."""

    spread: float = 0.12
    """Standard deviation of the size, relative."""


TYPES: dict[str, NucleusType] = {
    "gland": NucleusType(9.5, 5.4, 0.74, 0.28, 0.22, 1),
    "tumour": NucleusType(11.5, 9.0, 0.62, 0.42, 0.34, 2, spread=0.24),
    "lymphocyte": NucleusType(6.6, 6.2, 0.95, 0.22, 0.10, 0, spread=0.08),
    "fibroblast": NucleusType(14.0, 3.0, 0.78, 0.22, 0.10, 0, spread=0.22),
    "mitosis": NucleusType(11.0, 4.5, 1.0, 0.15, 0.0, 0, spread=0.15),
}

_VARIANTS = 24
_ANGLES = 24


@dataclass(frozen=True)
class Nuclei:
    """Where the nuclei of one type lie."""

    kind: str
    """A key of `TYPES`."""

    xy: Float
    """Centres (x, y) in full-resolution px, shape (N, 2)."""

    angle: Float
    """Direction of the long axis, radians, shape (N,)."""


def stamp(layer: NDArray[np.uint8], nuclei: Nuclei, mpp: float, rng: np.random.Generator) -> None:
    """Draw ``nuclei`` into ``layer``, uint8 (H, W) haematoxylin with 255 = 1.0, in place."""
    library = _library(TYPES[nuclei.kind], mpp, rng)
    half = library.shape[-1] // 2
    turns = np.round(nuclei.angle / np.pi * _ANGLES).astype(int) % _ANGLES
    variants = rng.integers(_VARIANTS, size=len(turns))
    corners = np.round(nuclei.xy).astype(int) - half
    height, width = layer.shape
    for (x, y), variant, turn in zip(corners, variants, turns, strict=True):
        if x < 0 or y < 0 or x + 2 * half + 1 > width or y + 2 * half + 1 > height:
            continue
        window = layer[y : y + 2 * half + 1, x : x + 2 * half + 1]
        np.maximum(window, library[variant, turn], out=window)


def _library(kind: NucleusType, mpp: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Drawn nuclei, uint8 (variants, angles, S, S)."""
    half = int(np.ceil(kind.length * (1 + 3 * kind.spread) / 2 / mpp)) + 3
    axis = np.arange(-half, half + 1, dtype=np.float32) * mpp
    along, aside = np.meshgrid(axis, axis)
    library = np.empty((_VARIANTS, _ANGLES, len(axis), len(axis)), dtype=np.uint8)
    for variant in library:
        drawn = Image.fromarray(_draw(kind, along, aside, rng))
        for turn in range(_ANGLES):
            # Pillow turns counter-clockwise, and y points down here: hence the minus.
            turned = drawn.rotate(-180 / _ANGLES * turn, Image.Resampling.BILINEAR)
            variant[turn] = np.asarray(turned)
    return library


def _draw(
    kind: NucleusType, along: Float, aside: Float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """One nucleus with its long axis across, uint8 (S, S); coordinates in µm from its centre."""
    size = np.clip(rng.normal(1, kind.spread), 1 - 2 * kind.spread, 1 + 2 * kind.spread)
    length, width = kind.length * size, kind.width * size * rng.normal(1, 0.5 * kind.spread)
    bend = rng.normal(0, 0.012) if kind.length > 2.5 * kind.width else 0.0
    u, v = along / (length / 2), (aside + bend * along**2) / (width / 2)
    polar = np.arctan2(v, u)
    outline = np.ones_like(polar)
    for order in (2, 3, 5):
        outline += rng.normal(0, 0.05) * np.cos(order * polar + rng.uniform(0, 2 * np.pi))
    depth = (outline - np.hypot(u, v)) * width / 2  # µm inside the outline
    chromatin = 1 - kind.clumps * (0.5 - 0.5 * _texture(along, aside, rng))
    membrane = kind.rim * np.exp(-((depth - 0.35) ** 2) / 0.12)
    level = kind.density * rng.normal(1, 0.07) * (chromatin - 0.5 * kind.rim) + membrane
    for _ in range(rng.integers(0, kind.nucleoli + 1)):
        x, y = rng.normal(0, 0.16, 2) * (length, width)
        level += 0.45 * np.exp(-(((along - x) ** 2 + (aside - y) ** 2) / 0.65**2))
    inside = np.clip(depth / 0.35 + 0.5, 0, 1)
    return np.asarray(np.clip(level * inside, 0, 1) * 255, dtype=np.uint8)


def _texture(along: Float, aside: Float, rng: np.random.Generator) -> Float:
    """Chromatin clumps, about -1 to 1: a sum of plane waves of 1.2 to 4 µm."""
    total = np.zeros_like(along)
    for _ in range(7):
        wave, turn, phase = rng.uniform(1.2, 4.0), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        total += np.cos(2 * np.pi / wave * (along * np.cos(turn) + aside * np.sin(turn)) + phase)
    return np.clip(total / 3, -1, 1)


def scatter(
    spacing: float, shape: tuple[int, int], rng: np.random.Generator, jitter: float = 0.28
) -> Float:
    """Points (x, y) on a jittered hexagonal lattice over ``shape`` (H, W), shape (N, 2)."""
    height, width = shape
    rows = np.arange(0, height, spacing * 0.866)
    columns = np.arange(0, width, spacing)
    x, y = np.meshgrid(columns, rows)
    x[1::2] += spacing / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    return np.asarray(points + rng.normal(0, jitter * spacing, points.shape), dtype=np.float32)


def at(field: NDArray[np.generic], points: Float) -> NDArray[np.generic]:
    """``field`` (H, W) at the nearest pixel to each of ``points`` (N, 2); the edge counts on."""
    height, width = field.shape
    x = np.clip(np.round(points[:, 0]).astype(int), 0, width - 1)
    y = np.clip(np.round(points[:, 1]).astype(int), 0, height - 1)
    return np.asarray(field[y, x])


def cell_borders(points: Float, shape: tuple[int, int], step: int = 2) -> Float:
    """Borders between the cells around ``points``, float32 (H, W), 0 to 1 (a Voronoi diagram)."""
    height, width = shape[0] // step, shape[1] // step
    free = np.ones((height, width), dtype=bool)
    columns = np.clip((points[:, 0] / step).astype(int), 0, width - 1)
    rows = np.clip((points[:, 1] / step).astype(int), 0, height - 1)
    free[rows, columns] = False
    nearest = ndimage.distance_transform_edt(free, return_distances=False, return_indices=True)
    owner = nearest[0].astype(np.int64) * width + nearest[1]
    border = np.zeros((height, width), dtype=np.float32)
    border[:, 1:] += owner[:, 1:] != owner[:, :-1]
    border[1:] += owner[1:] != owner[:-1]
    return np.minimum(border, 1)
