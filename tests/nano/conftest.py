"""A small data folder of made-up pictures in the layout of the real one, and the packaged model."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixcell_share.nano import WEIGHTS
from pixcell_share.nano.tiles import SplitSettings

GROUPS, COPIES, FIELDS = 24, 3, 5
HELD_COLOUR = (0, 255, 0)
"""Held-out tiles and fields are plain green, so that a leak shows in the pixels."""


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("nano") / "data"
    rng, split = np.random.default_rng(0), SplitSettings()
    (data / "lung_tiles").mkdir(parents=True)
    (data / "breast_fields" / "images").mkdir(parents=True)
    rows = [("file", "class", "near_duplicate_group", "group_representative")]
    for number in range(GROUPS):
        group = f"group_{number:03d}"
        for copy in range(COPIES):
            name = f"{group}_{copy}.png"
            _save(data / "lung_tiles" / name, (224, 224), split.held_out(group), rng)
            rows.append((name, ("lung_n", "lung_aca", "lung_scc")[number % 3], group, "0"))
    with (data / "lung_tiles" / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    for number in range(FIELDS):
        held = number >= FIELDS - split.holdout_fields
        path = data / "breast_fields" / "images" / f"{number:05d}.jpg"
        _save(path, (1360, 1024), held, rng)
    return data


def _save(path: Path, size: tuple[int, int], held: bool, rng: np.random.Generator) -> None:
    noise = rng.integers(80, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    noise[..., 1] //= 2
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    if held:
        image = Image.new("RGB", size, HELD_COLOUR)
    image.save(path)


@pytest.fixture(scope="session")
def weights() -> Path:
    assert (WEIGHTS / "model_index.json").is_file(), "the packaged nano weights are missing"
    return WEIGHTS


@pytest.fixture(scope="session")
def held_out_tiles(shared_data: Path) -> np.ndarray:
    """Thirty-two real tiles (32, 256, 256, 3), one from each of as many held-out groups."""
    split, chosen = SplitSettings(), {}
    with (shared_data / "lung_tiles" / "manifest.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            if split.held_out(row["near_duplicate_group"]):
                chosen.setdefault(row["near_duplicate_group"], row["file"])
    names = [chosen[group] for group in sorted(chosen)]
    names = [names[at * len(names) // 32] for at in range(32)]
    return np.stack([_read(shared_data / "lung_tiles" / name) for name in names])


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((256, 256), Image.Resampling.BICUBIC))
