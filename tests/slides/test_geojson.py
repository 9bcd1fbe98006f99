"""QuPath's GeoJSON: what we write, and what QuPath writes back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pixcell_share.errors import SettingsError
from pixcell_share.slides import (
    Tissue,
    find_tissue,
    read_geojson,
    tissue_from_polygons,
    write_geojson,
)
from pixcell_share.slides.contours import mask_to_polygons
from tests.slides.making_slides import opened

OUTER = [[100, 100], [900, 100], [900, 700.5], [100, 700.5], [100, 100]]
HOLE = [[300, 300], [300, 400], [400, 400], [400, 300], [300, 300]]
FAR = [[1200, 100], [1400, 100], [1400, 300], [1200, 100]]


def _feature(geometry: dict, **properties: object) -> dict:
    """As QuPath 0.5 exports an annotation."""
    return {
        "type": "Feature",
        "id": "3c1dd2c8-93e6-4d4a-b4f2-5d6f3b0f9a11",
        "geometry": geometry,
        "properties": {"objectType": "annotation", **properties},
    }


POLYGON = {"type": "Polygon", "coordinates": [OUTER, HOLE]}
MULTI = {"type": "MultiPolygon", "coordinates": [[OUTER, HOLE], [FAR]]}
TISSUE = {"name": "Tissue", "color": [0, 160, 90]}
OTHER = {"name": "Artifact", "color": [200, 0, 0]}

FROM_QUPATH = {
    "collection": ({"type": "FeatureCollection", "features": [_feature(POLYGON)]}, 1),
    "bare list": ([_feature(POLYGON, classification=TISSUE), _feature(MULTI)], 3),
    "single feature": (_feature(MULTI, classification=TISSUE, isLocked=True), 2),
    "version 0.2": (
        [
            {
                "type": "Feature",
                "id": "PathAnnotationObject",
                "geometry": POLYGON,
                "properties": {
                    "classification": {"name": "Tissue", "colorRGB": -3140401},
                    "isLocked": False,
                    "measurements": [],
                },
            }
        ],
        1,
    ),
    "derived class": ([_feature(POLYGON, classification={"names": ["Tissue", "checked"]})], 1),
    "other classes": ([_feature(POLYGON), _feature(MULTI, classification=OTHER)], 1),
    "point and line": (
        [
            _feature(POLYGON),
            _feature({"type": "Point", "coordinates": [5, 5]}),
            _feature({"type": "LineString", "coordinates": [[5, 5], [9, 9]]}),
        ],
        1,
    ),
    "no properties": ([{"type": "Feature", "geometry": POLYGON, "properties": None}], 1),
}


def _written(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def tissue() -> Tissue:
    mask = np.zeros((60, 80), dtype=bool)
    mask[5:50, 10:70] = True
    mask[20:30, 30:50] = False
    polygons = mask_to_polygons(mask, (8.0, 8.0), tolerance=0.1)
    return Tissue(mask=mask, width=640, height=480, polygons=polygons)


@pytest.mark.parametrize("style", FROM_QUPATH)
def test_what_qupath_writes_is_read(tmp_path, style):
    document, count = FROM_QUPATH[style]
    polygons = read_geojson(_written(tmp_path / "edited.geojson", document))
    assert len(polygons) == count
    assert polygons[0].outer.tolist() == OUTER
    assert polygons[0].holes[0].tolist() == HOLE
    assert polygons[0].area == pytest.approx(800 * 600.5 - 100 * 100)


def test_what_we_write_is_qupaths(tmp_path, tissue):
    write_geojson(tmp_path / "tissue.geojson", tissue, mpp=0.5)
    document = json.loads((tmp_path / "tissue.geojson").read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    (feature,) = document["features"]
    properties = feature["properties"]
    assert properties["objectType"] == "annotation"
    assert properties["classification"] == {"name": "Tissue", "color": [0, 160, 90]}
    assert properties["isLocked"] is False
    area = (45 * 60 - 10 * 20) * 64 * 0.25
    assert properties["measurements"]["Area µm^2"] == pytest.approx(area, rel=0.01)
    outer, hole = feature["geometry"]["coordinates"]
    assert outer[0] == outer[-1]
    assert hole[0] == hole[-1]
    assert (np.min(outer, axis=0) >= 0).all()
    assert (np.max(outer, axis=0) <= (640, 480)).all()


def test_the_same_tissue_gives_the_same_bytes(tmp_path, tissue):
    for name in ("a", "b"):
        write_geojson(tmp_path / name, tissue)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_there_and_back_on_a_real_slide(tmp_path, shared_data):
    with opened(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        found = find_tissue(slide)
        write_geojson(tmp_path / "cmu.geojson", found, slide.mpp)
        again = tissue_from_polygons(read_geojson(tmp_path / "cmu.geojson"), slide)
    assert again.mask.shape == found.mask.shape
    assert (again.mask ^ found.mask).mean() < 0.005


def test_an_open_ring_is_closed(tmp_path):
    open_ring = {"type": "Polygon", "coordinates": [OUTER[:-1]]}
    (polygon,) = read_geojson(_written(tmp_path / "open.geojson", [_feature(open_ring)]))
    assert polygon.outer.tolist() == OUTER


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"type": "FeatureCollection", "features": []},
        {"type": "Topology"},
        [_feature({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]})],
        [_feature({"type": "Polygon", "coordinates": [[["a", 0], [1, 1], [2, 0]]]})],
        [_feature({"type": "Polygon", "coordinates": [[[0, 0], [1, float("nan")], [2, 0]]]})],
        [_feature(POLYGON, classification=OTHER)],
        ["feature"],
        7,
    ],
)
def test_what_holds_no_tissue_is_refused(tmp_path, document):
    with pytest.raises(SettingsError, match=r"wrong\.geojson"):
        read_geojson(_written(tmp_path / "wrong.geojson", document))


def test_a_file_that_is_no_json_or_is_not_there(tmp_path):
    (tmp_path / "wrong.geojson").write_bytes(b"\xff\xfe no")
    for name in ("wrong.geojson", "absent.geojson"):
        with pytest.raises(SettingsError, match=name):
            read_geojson(tmp_path / name)
