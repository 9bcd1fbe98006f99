"""The tiles that ``nano`` learns from: read once, resized, and split by group.

Four sources, each an array of 256-px RGB tiles or larger fields on disk:

- ``lung``: 224-px tiles of LC25000, resized to 256 px; µm/px unknown.
- ``breast``: 40x fields of BreCaHAD, halved to 0.5 µm/px; larger than a tile, so cropped.
- ``slides``: whole small slides at 0.5 µm/px, where the data folder has any; cropped.
- ``phantom``: 0.5 µm/px tiles of this project's own drawn demo slides, where asked for.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_path, atomic_write_bytes, canonical_json
from pixcell_share.nano.slide_pictures import slide_pictures

TILE_PX = 256
"""Side of a training tile in pixels, at about 0.5 µm/px where the scale is known."""

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class SplitSettings:
    """Which part of the data no stage ever trains on."""

    holdout_percent: int = 10
    """Share of near-duplicate groups held out; a group is never on both sides."""
    holdout_fields: int = 3
    """Breast fields held out: the last of the sorted names, as neighbours share a patient."""
    salt: str = "pixcell-share nano 1"
    """Text hashed with a group's name; another salt gives another split."""

    def held_out(self, group: str) -> bool:
        """Whether ``group`` belongs to the held-out side, from its name alone."""
        digest = hashlib.sha256(f"{self.salt}\0{group}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % 100 < self.holdout_percent


@dataclass(frozen=True)
class TileSet:
    """Every tile of the cache, with its group, class and side of the split."""

    lung: Images
    """(N, 256, 256, 3), memory-mapped."""
    names: NDArray[np.str_]
    """(N,) file of each lung tile, relative to ``lung_tiles/``."""
    groups: NDArray[np.str_]
    """(N,) near-duplicate group of each lung tile."""
    classes: NDArray[np.str_]
    """(N,) class of each lung tile."""
    holdout: NDArray[np.bool_]
    """(N,) True where the tile's group is held out."""
    fields: Images
    """(F, 512, 680, 3) breast fields at 0.5 µm/px."""
    field_holdout: NDArray[np.bool_]
    """(F,) True where the field is held out."""
    phantom: Images
    """(P, 256, 256, 3) tiles of drawn demo slides; P is 0 where none were asked for."""
    slides: tuple[Images, ...] = ()
    """Whole slides (H, W, 3); none is held out."""

    @property
    def train(self) -> NDArray[np.int64]:
        """Indices of the lung tiles to train on."""
        return np.flatnonzero(~self.holdout)

    @property
    def held(self) -> NDArray[np.int64]:
        """Indices of the held-out lung tiles."""
        return np.flatnonzero(self.holdout)

    def one_per_group(self, held: bool) -> NDArray[np.int64]:
        """The first tile of each group of one side: tiles that are no copies of each other."""
        side = self.held if held else self.train
        _, first = np.unique(self.groups[side], return_index=True)
        return np.sort(side[first])


def prepare(data: Path, cache: Path, split: SplitSettings, phantom: Path | None = None) -> TileSet:
    """Read the data folder into ``cache`` (once), and open it.

    Args:
        data: the folder with ``lung_tiles/`` and ``breast_fields/``.
        cache: where the arrays are kept; about 2.2 GB for the whole data.
        split: the held-out part.
        phantom: an optional ``.npy`` of drawn tiles (P, 256, 256, 3) to mix in.

    Raises:
        SettingsError: the folder or one of its parts is not there.
    """
    lung_file, field_file = cache / "lung.npy", cache / "fields.npy"
    rows, field_paths = _lung_rows(data), _field_paths(data)
    index = {"files": [row["file"] for row in rows], "fields": [path.name for path in field_paths]}
    stamp = cache / "index.json"
    if not stamp.exists() or json.loads(stamp.read_bytes()) != index:
        _write_stack(lung_file, len(rows), (_lung_tile(data, row) for row in rows))
        _write_stack(field_file, len(field_paths), (_half(path) for path in field_paths))
        atomic_write_bytes(stamp, canonical_json(index))
    groups = np.array([row["near_duplicate_group"] for row in rows])
    fields = np.load(field_file, mmap_mode="r")
    return TileSet(
        lung=np.load(lung_file, mmap_mode="r"),
        names=np.array([row["file"] for row in rows]),
        groups=groups,
        classes=np.array([row["class"] for row in rows]),
        holdout=np.array([split.held_out(str(group)) for group in groups]),
        fields=fields,
        field_holdout=np.arange(len(fields)) >= len(fields) - split.holdout_fields,
        phantom=_phantom(phantom),
        slides=slide_pictures(data / "slides", cache),
    )


def _lung_rows(data: Path) -> list[dict[str, str]]:
    manifest = data / "lung_tiles" / "manifest.csv"
    if not manifest.is_file():
        raise SettingsError(
            f"{manifest} is not there",
            "give the folder that holds lung_tiles/ and breast_fields/ with --data",
        )
    with manifest.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _field_paths(data: Path) -> list[Path]:
    paths = sorted((data / "breast_fields" / "images").glob("*.jpg"))
    if not paths:
        raise SettingsError(
            f"no breast fields under {data}/breast_fields/images",
            "give the folder that holds lung_tiles/ and breast_fields/ with --data",
        )
    return paths


def _phantom(path: Path | None) -> Images:
    if path is None:
        return np.empty((0, TILE_PX, TILE_PX, 3), np.uint8)
    tiles: Images = np.load(path, mmap_mode="r")
    return tiles


def _lung_tile(data: Path, row: dict[str, str]) -> Images:
    with Image.open(data / "lung_tiles" / row["file"]) as image:
        resized = image.convert("RGB").resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
        return np.asarray(resized)


def _half(path: Path) -> Images:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").reduce(2))


def _write_stack(path: Path, count: int, images: Iterator[Images]) -> None:
    """Stream equally large images into one ``.npy``, never more than one in memory."""
    with atomic_path(path) as temporary:
        stack = None
        for number, image in enumerate(images):
            if stack is None:
                stack = np.lib.format.open_memmap(
                    temporary, "w+", dtype=np.uint8, shape=(count, *image.shape)
                )
            stack[number] = image
        if stack is not None:
            stack.flush()
