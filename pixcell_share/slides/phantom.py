"""Draw H&E phantom slides: pictures that belong to the project, for the demo and for tests.

A phantom is drawn, not photographed: procedural amounts of haematoxylin and eosin, turned into
colour by Beer-Lambert's law, I = 255 * 10^-(h * H + e * E) per channel, and written as a tiled
pyramidal JPEG TIFF at 0.25 µm/px like that of a scanner. No patient is in it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pixcell_share.files import atomic_path, atomic_write_text
from pixcell_share.slides.phantom_nuclei import TYPES, Float, stamp
from pixcell_share.slides.phantom_tissue import LABELS, Painting, noise, paint

_MPP = 0.25
_TILE = 256
_QUALITY = 80
_STRIP = 1024
_NUCLEAR_DENSITY = 1.05
"""Optical density, along the haematoxylin vector, of the densest chromatin."""


@dataclass(frozen=True)
class _Stain:
    """Stains of one slide: optical density per channel (R, G, B) of one unit of each."""

    haematoxylin: Float
    eosin: Float


def draw_demo_slides(folder: Path, *, count: int = 3, seed: int = 0) -> list[Path]:
    """Draw ``count`` phantom slides and a ``slides.csv`` (slide, case_id, label) into ``folder``.

    Each is about 6,000 x 5,000 px at 0.25 µm/px with levels 1, 4 and 16, and mostly one of
    gland, tumour and stroma, in turn; stains vary from slide to slide. The same seed gives the
    same bytes.

    Returns:
        The paths of the slides.

    Raises:
        StorageError: the folder cannot be written, or the disk is full.
    """
    rows = [("slide", "case_id", "label")]
    paths = []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        path = folder / f"phantom_{number + 1:02d}.tiff"
        with atomic_path(path) as temporary:
            _write_pyramid(temporary, _draw(label, np.random.default_rng((seed, number))))
        rows.append((path.name, f"phantom-case-{number + 1:02d}", label))
        paths.append(path)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    atomic_write_text(folder / "slides.csv", table.getvalue())
    return paths


def _draw(label: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One phantom slide at full resolution, uint8 RGB (H, W, 3)."""
    painting = paint((2560, 3072), label, rng)
    height, width = (2 * side for side in painting.eosin.shape)
    nuclei = np.zeros((height, width), dtype=np.uint8)
    for kind in TYPES:
        stamp(nuclei, painting.nuclei_of(kind), _MPP, rng)
    stain = _stain(rng)
    picture = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        picture[rows] = _develop(painting, nuclei, stain, rows, rng)
    return picture


def _stain(rng: np.random.Generator) -> _Stain:
    """Stain vectors near those of real H&E, each slide its own."""
    haematoxylin = np.array([0.62, 0.72, 0.33]) + rng.normal(0, (0.03, 0.02, 0.03))
    eosin = np.array([0.14, 0.84, 0.46]) + rng.normal(0, (0.025, 0.02, 0.03))
    strength = rng.normal(1, 0.08, 2)
    return _Stain(
        np.asarray(haematoxylin * strength[0], dtype=np.float32),
        np.asarray(eosin * strength[1], dtype=np.float32),
    )


def _develop(
    painting: Painting,
    nuclei: NDArray[np.uint8],
    stain: _Stain,
    rows: slice,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Rows of the slide as colours: the painting enlarged twice, nuclei and grain on top."""
    focused = Image.fromarray(nuclei[rows]).filter(ImageFilter.GaussianBlur(0.8))
    chromatin = np.asarray(focused).astype(np.float32) / 255
    shape = chromatin.shape
    grain = 1 + 0.1 * noise(shape, 2.5, rng)
    haematoxylin = _twice(painting.haematoxylin, rows) * grain + chromatin * _NUCLEAR_DENSITY
    eosin = _twice(painting.eosin, rows) * grain * (1 - np.minimum(0.7 * chromatin, 0.45))
    picture = np.empty((*shape, 3), dtype=np.uint8)
    for channel in range(3):
        density = haematoxylin * stain.haematoxylin[channel] + eosin * stain.eosin[channel]
        picture[..., channel] = np.exp(density * np.float32(-np.log(10))) * 243 + 0.5
    return picture


def _twice(layer: Float, rows: slice) -> Float:
    """Rows ``rows`` of ``layer`` enlarged twice, bilinear; float32."""
    width = layer.shape[1]
    box = (0, rows.start / 2, width, rows.stop / 2)
    size = (2 * width, rows.stop - rows.start)
    return np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.BILINEAR, box=box))


def _write_pyramid(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write ``picture`` (H, W, 3) and its levels 4 and 16 as a tiled JPEG TIFF with µm/px tags."""
    with tifffile.TiffWriter(path) as tiff:
        for index, shrink in enumerate((1, 4, 16)):
            level = np.asarray(Image.fromarray(picture).reduce(shrink))
            per_cm = 10_000 / (_MPP * shrink)
            tiff.write(
                _jpeg_tiles(level),
                shape=level.shape,
                dtype=level.dtype,
                tile=(_TILE, _TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=int(index > 0),
                software="pixcell-share phantom",
                metadata=None,
            )


def _jpeg_tiles(level: NDArray[np.uint8]) -> Iterator[bytes]:
    """The tiles of a level as JPEG streams, row by row, the last ones padded by their edge."""
    height, width, _ = level.shape
    padded = np.pad(level, ((0, -height % _TILE), (0, -width % _TILE), (0, 0)), mode="edge")
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            tile = np.ascontiguousarray(padded[top : top + _TILE, left : left + _TILE])
            yield simplejpeg.encode_jpeg(tile, quality=_QUALITY, colorsubsampling="420")
