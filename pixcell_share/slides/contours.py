"""Turn a tissue mask into polygons and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon as polygon_pixels
from skimage.measure import approximate_polygon, find_contours

Mask = NDArray[np.bool_]
Ring = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Polygon:
    """One piece of tissue: closed rings of (x, y) in level-0 pixels, first point = last point."""

    outer: Ring
    """Shape (N, 2)."""

    holes: tuple[Ring, ...] = ()
    """Each of shape (M, 2), inside ``outer``."""

    @property
    def area(self) -> float:
        """Area without the holes, level-0 px²."""
        return ring_area(self.outer) - sum(ring_area(hole) for hole in self.holes)


def ring_area(ring: Ring) -> float:
    """Area inside a closed ring, px² (shoelace formula)."""
    x, y = ring[:, 0], ring[:, 1]
    return float(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)


def mask_to_polygons(
    mask: Mask, scale: tuple[float, float], tolerance: float = 0.7
) -> tuple[Polygon, ...]:
    """The outlines of ``mask``, largest first.

    Args:
        mask: bool, shape (H, W).
        scale: level-0 pixels per mask pixel, in x and in y.
        tolerance: how far an outline may leave the mask's, in mask pixels (Douglas-Peucker).
    """
    labels, _ = ndimage.label(mask)
    found = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        component = np.pad(labels[rows, columns] == index, 1)
        origin = (columns.start - 0.5, rows.start - 0.5)  # pad moves by 1, pixel centres by 0.5
        rings = [
            (approximate_polygon(ring, tolerance)[:, ::-1] + origin) * scale
            for ring in find_contours(component, 0.5, fully_connected="low")
        ]
        rings = sorted((ring for ring in rings if len(ring) >= 4), key=ring_area, reverse=True)
        if rings:
            found.append(Polygon(rings[0], tuple(rings[1:])))
    return tuple(sorted(found, key=lambda polygon: (-polygon.area, *polygon.outer[0])))


def polygons_to_mask(
    polygons: Iterable[Polygon], shape: tuple[int, int], scale: tuple[float, float]
) -> Mask:
    """Draw ``polygons`` into a mask of ``shape`` (H, W); a pixel counts where its centre does."""
    mask = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        own = _filled(polygon.outer, shape, scale)
        for hole in polygon.holes:
            own &= ~_filled(hole, shape, scale)
        mask |= own
    return mask


def _filled(ring: Ring, shape: tuple[int, int], scale: tuple[float, float]) -> Mask:
    filled = np.zeros(shape, dtype=bool)
    x, y = (ring / scale - 0.5).T
    filled[polygon_pixels(y, x, shape)] = True
    return filled
