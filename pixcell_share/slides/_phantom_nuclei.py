"""Nuclei of the phantom: a small library of drawn nuclei per cell type, stamped by thousands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.slides._phantom_canvas import Float, Nuclei, noise


@dataclass(frozen=True)
class NucleusType:
    """What the nuclei of one cell type look like. Lengths are in µm."""

    length: float
    """Mean long axis."""

    width: float
    """Mean short axis."""

    density: float
    """Mean haematoxylin, 0 to 1."""

    clumps: float
    """Contrast of the chromatin, relative to the density."""

    rim: float
    """Extra haematoxylin at the nuclear membrane, 0 to 1."""

    nucleoli: int = 0
    """Most nucleoli that are seen."""

    spread: float = 0.12
    """Standard deviation of the size, relative."""


TYPES: dict[str, NucleusType] = {
    "fibroblast": NucleusType(14.0, 2.9, 0.66, 0.25, 0.05, spread=0.22),
    "gland": NucleusType(9.6, 5.4, 0.58, 0.40, 0.12, 1),
    "lymphocyte": NucleusType(6.6, 6.2, 0.80, 0.34, 0.06, spread=0.08),
    "mitosis": NucleusType(11.0, 4.5, 0.98, 0.12, 0.0, spread=0.15),
    "tumour": NucleusType(11.2, 8.8, 0.42, 0.55, 0.17, 3, spread=0.20),
}
"""Sizes are those of histology text books; the look was tuned by eye beside real H&E."""

_VARIANTS = 32
_ANGLES = 24
_EDGE = 0.5
"""Width over which a nucleus fades out, µm: the optics' resolution and the section's depth."""


def stamp(layer: NDArray[np.uint8], nuclei: Nuclei, mpp: float, rng: np.random.Generator) -> None:
    """Draw ``nuclei`` into ``layer``, uint8 (H, W) haematoxylin with 255 = 1.0, in place."""
    library = _library(TYPES[nuclei.kind], mpp, rng)
    side = library.shape[-1]
    turns = np.round(nuclei.angle / np.pi * _ANGLES).astype(int) % _ANGLES
    variants = rng.integers(_VARIANTS, size=len(turns))
    corners = np.round(nuclei.xy).astype(int) - side // 2
    whole = (corners >= 0).all(axis=1) & (corners + side <= layer.shape[::-1]).all(axis=1)
    for index in np.flatnonzero(whole):
        x, y = corners[index]
        window = layer[y : y + side, x : x + side]
        np.maximum(window, library[variants[index], turns[index]], out=window)


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
    depth = _depth(along, aside, length, width, rng)
    mpp = float(along[0, 1] - along[0, 0])
    clumps = noise(along.shape, 1.5 / mpp, rng) + 0.7 * noise(along.shape, 0.7 / mpp, rng)
    level = kind.density * rng.normal(1, 0.10) * (1 + 0.45 * kind.clumps * clumps)
    level += kind.rim * np.exp(-(((depth - 0.45) / 0.45) ** 2))
    for _ in range(rng.integers(0, kind.nucleoli + 1)):
        x, y = rng.normal(0, 0.17, 2) * (length, width)
        radius = rng.uniform(0.5, 0.95)
        level += 0.40 * np.exp(-(((along - x) ** 2 + (aside - y) ** 2) / radius**2))
    inside = np.clip(depth / _EDGE + 0.5, 0, 1)
    return np.asarray(np.clip(level * inside, 0, 1) * 255, dtype=np.uint8)


def _depth(
    along: Float, aside: Float, length: float, width: float, rng: np.random.Generator
) -> Float:
    """Distance inside the outline of one nucleus, about µm, negative outside; (S, S)."""
    bend = rng.normal(0, 0.012) if length > 2.5 * width else 0.0
    u, v = along / (length / 2), (aside + bend * along**2) / (width / 2)
    polar = np.arctan2(v, u)
    outline = np.ones_like(polar)
    for order, amount in ((2, 0.05), (3, 0.04), (4, 0.02)):
        outline += rng.normal(0, amount) * np.cos(order * polar + rng.uniform(0, 2 * np.pi))
    return np.asarray((outline - np.hypot(u, v)) * width / 2, dtype=np.float32)
