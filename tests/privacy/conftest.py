"""Real tiles to copy, and a plain embedding of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixcell_share.privacy import NearCopyIndex, fingerprint
from pixcell_share.privacy.fingerprints import reduce_grey


@pytest.fixture(scope="session")
def embed():
    """Mean colour and coarse greys, (B, 67): a real, if weak, descriptor."""

    def colours_and_greys(images):
        colour = images.reshape(len(images), -1, 3).mean(axis=1)
        greys = reduce_grey(images, 8).reshape(len(images), -1)
        return np.concatenate([colour, greys], axis=1) / 255

    return colours_and_greys


@pytest.fixture
def build(embed):
    """Builds an index of tiles: ``build(tiles, settings, portion)``."""

    def built(tiles, settings=None, portion=32):
        index = NearCopyIndex(settings)
        for start in range(0, len(tiles), portion):
            images = tiles[start : start + portion]
            index.add(fingerprint(images), embed(images))
        return index

    return built


@pytest.fixture(scope="session")
def lung_tiles(shared_data: Path) -> np.ndarray:
    """(120, 224, 224, 3): one real lung tile of each of 120 near-duplicate groups."""
    with (shared_data / "lung_tiles" / "manifest.csv").open() as manifest:
        rows = [row for row in csv.DictReader(manifest) if row["group_representative"] == "1"]
    files = [shared_data / "lung_tiles" / row["file"] for row in rows[:: len(rows) // 120][:120]]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
