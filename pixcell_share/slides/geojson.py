"""Tissue outlines as GeoJSON that QuPath opens by drag and drop, and the same files read back.

QuPath writes a FeatureCollection or, up to version 0.2 and from scripts, a bare list of features;
coordinates are level-0 pixels, rings are closed, the first ring of a polygon is its outline and
the others are holes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_write_bytes, canonical_json
from pixcell_share.slides.contours import Polygon, Ring
from pixcell_share.slides.tissue import Tissue

TISSUE_CLASS = "Tissue"
"""Classification of our annotations in QuPath."""

_COLOUR = (0, 160, 90)
_NAMESPACE = uuid.UUID("6f0a9a4e-6f5b-5d0e-9d7c-3f1f6f1b7f0c")  # of our own object ids


def write_geojson(path: Path, tissue: Tissue, mpp: float | None = None) -> None:
    """Write the outlines of ``tissue`` for QuPath.

    Args:
        path: the file; the same tissue gives the same bytes.
        tissue: outlines in level-0 pixels.
        mpp: µm/px of level 0; if given, each outline carries its area in µm².

    Raises:
        StorageError: the file cannot be written.
    """
    features = [
        _feature(polygon, f"Tissue {number}", mpp)
        for number, polygon in enumerate(tissue.polygons, start=1)
    ]
    atomic_write_bytes(path, canonical_json({"type": "FeatureCollection", "features": features}))


def read_geojson(path: Path) -> tuple[Polygon, ...]:
    """The tissue outlines in a file of ours or of QuPath, in level-0 pixels.

    Annotations of class "Tissue" or of no class count; what has another class, or no area, does
    not.

    Raises:
        SettingsError: the file cannot be read, is not GeoJSON, or holds no such outline.
    """
    try:
        polygons = tuple(_polygons(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise SettingsError(
            f"{path.name} is not a GeoJSON file of outlines ({type(error).__name__}: {error})",
            "export it from QuPath: File, Export objects as GeoJSON",
        ) from error
    if not polygons:
        raise SettingsError(
            f"{path.name} holds no tissue outline",
            f'draw at least one annotation, of class "{TISSUE_CLASS}" or of no class',
        )
    return polygons


def _feature(polygon: Polygon, name: str, mpp: float | None) -> dict[str, Any]:
    rings = [_points(ring) for ring in (polygon.outer, *polygon.holes)]
    properties: dict[str, Any] = {
        "objectType": "annotation",
        "name": name,
        "classification": {"name": TISSUE_CLASS, "color": list(_COLOUR)},
        "isLocked": False,
    }
    if mpp is not None:
        properties["measurements"] = {"Area µm^2": round(polygon.area * mpp**2, 1)}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, canonical_json(rings).decode())),
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": properties,
    }


def _points(ring: Ring) -> list[list[float]]:
    """A ring as GeoJSON: closed, tenths of a pixel."""
    points: list[list[float]] = np.round(ring, 1).tolist()
    return points if points[0] == points[-1] else [*points, points[0]]


def _polygons(document: Any) -> Iterator[Polygon]:
    for feature in _features(document):
        if _is_tissue(feature.get("properties") or {}):
            yield from _areas(feature["geometry"])


def _features(document: Any) -> Iterable[dict[str, Any]]:
    """The features of a collection, of a bare list, or the single feature."""
    if isinstance(document, list):
        return document
    if document["type"] == "FeatureCollection":
        return list(document["features"])
    if document["type"] == "Feature":
        return [document]
    raise ValueError(f"it holds a {document['type']!r}")


def _is_tissue(properties: dict[str, Any]) -> bool:
    """Whether a feature's class says tissue, or says nothing."""
    kind = properties.get("classification") or {}
    names = kind.get("names") or [kind.get("name")]
    return names[0] is None or TISSUE_CLASS in names


def _areas(geometry: dict[str, Any]) -> Iterator[Polygon]:
    """The polygons of a geometry; points and lines have none."""
    kind = geometry["type"]
    if kind == "Polygon":
        yield _polygon(geometry["coordinates"])
    elif kind == "MultiPolygon":
        yield from map(_polygon, geometry["coordinates"])
    elif kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _areas(part)


def _polygon(rings: list[list[list[float]]]) -> Polygon:
    outer, *holes = (_ring(points) for points in rings)
    return Polygon(outer, tuple(holes))


def _ring(points: list[list[float]]) -> Ring:
    """A closed ring, (N, 2); an open one is closed."""
    ring = np.array([point[:2] for point in points], dtype=np.float64)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError("a ring needs at least three points with x and y")
    return ring if (ring[0] == ring[-1]).all() else np.vstack([ring, ring[:1]])
