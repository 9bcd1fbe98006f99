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
from pixcell_share.slides._phantom_canvas import ENLARGEMENT, Canvas, Float, noise
from pixcell_share.slides._phantom_epithelium import paint_glands, paint_nests
from pixcell_share.slides._phantom_nuclei import stamp
from pixcell_share.slides._phantom_stroma import paint_collagen, paint_vessels, scatter_cells

LABELS = ("gland", "tumour", "stroma")
"""What a phantom slide mostly is."""

_MPP = 0.25
_CANVAS = (2560, 3072)
"""Height and width of the canvas; the slide is twice as large."""

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


def draw_demo_slides(
    folder: Path, *, count: int = 3, seed: int = 0, canvas: tuple[int, int] = _CANVAS
) -> list[Path]:
    """Draw ``count`` phantom slides and a ``slides.csv`` (slide, case_id, label) into ``folder``.

    Each is about 6,000 x 5,000 px at 0.25 µm/px with levels 1, 4 and 16, and mostly one of
    gland, tumour and stroma, in turn; stains vary from slide to slide. The same seed gives the
    same bytes.

    Args:
        folder: is made if needed.
        count: each is of a patient of its own.
        seed: of everything random.
        canvas: half the height and width of a slide in px.

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
            _write_pyramid(temporary, _draw(label, canvas, np.random.default_rng((seed, number))))
        rows.append((path.name, f"phantom-case-{number + 1:02d}", label))
        paths.append(path)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    atomic_write_text(folder / "slides.csv", table.getvalue())
    return paths


def _draw(label: str, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One phantom slide at full resolution, uint8 RGB (H, W, 3), on a canvas of ``shape``."""
    canvas = _paint(shape, label, rng)
    height, width = (ENLARGEMENT * side for side in canvas.shape)
    nuclei = np.zeros((height, width), dtype=np.uint8)
    for group in canvas.nuclei_by_kind():
        stamp(nuclei, group, _MPP, rng)
    stain = _stain(rng)
    picture = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        picture[rows] = _develop(canvas, nuclei, stain, rows, rng)
    return picture


def _paint(shape: tuple[int, int], label: str, rng: np.random.Generator) -> Canvas:
    """One section of mostly ``label`` tissue on a canvas of ``shape`` (H, W)."""
    canvas = Canvas(np.zeros(shape, np.float32), np.zeros(shape, np.float32), _section(shape, rng))
    kinds = _regions(shape, label, rng)
    direction = paint_collagen(canvas, rng)
    taken = paint_glands(canvas, kinds == LABELS.index("gland"), rng)
    taken |= paint_nests(canvas, kinds == LABELS.index("tumour"), ~taken, rng)
    taken |= paint_vessels(canvas, ~taken, rng)
    scatter_cells(canvas, ~taken, direction, 0.5 if label == "stroma" else 0.0, rng)
    canvas.haematoxylin *= canvas.section
    canvas.eosin *= canvas.section
    return canvas


def _section(shape: tuple[int, int], rng: np.random.Generator) -> Float:
    """An irregular piece of tissue that leaves glass around it, 0 to 1, (H, W)."""
    height, width = shape
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = 0.83 - (np.abs(x) ** 2.6 + np.abs(y) ** 2.6).astype(np.float32)
    for cell, amount in ((700, 0.13), (160, 0.05), (40, 0.02), (9, 0.006)):
        body += amount * noise(shape, cell, rng)
    return np.asarray(np.clip(body * 60, 0, 1))


def _regions(shape: tuple[int, int], label: str, rng: np.random.Generator) -> NDArray[np.intp]:
    """Which of `LABELS` each pixel belongs to, (H, W); ``label`` holds the largest part."""
    fields = [
        noise(shape, 620, rng) + 0.25 * noise(shape, 120, rng) + (1.3 if name == label else 0.0)
        for name in LABELS
    ]
    return np.asarray(np.argmax(fields, axis=0))


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
    canvas: Canvas,
    nuclei: NDArray[np.uint8],
    stain: _Stain,
    rows: slice,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Rows of the slide as colours: the canvas enlarged twice, nuclei and grain on top."""
    focused = Image.fromarray(nuclei[rows]).filter(ImageFilter.GaussianBlur(0.8))
    chromatin = np.asarray(focused).astype(np.float32) / 255
    shape = chromatin.shape
    grain = 1 + 0.1 * noise(shape, 2.5, rng)
    haematoxylin = _twice(canvas.haematoxylin, rows) * grain + chromatin * _NUCLEAR_DENSITY
    eosin = _twice(canvas.eosin, rows) * grain * (1 - np.minimum(0.7 * chromatin, 0.45))
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
