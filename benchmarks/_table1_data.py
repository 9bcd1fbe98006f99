"""Two sites with different stain, and tiles of other groups to judge by, from `lung_tiles`.

Everything is split by ``near_duplicate_group``; a group is never in two parts. The test part is
what no stage of `nano` was trained on (``pixcell_share.nano.tiles.SplitSettings``), so that the
public generator knows nothing of it either. Site B's stain is **simulated**: haematoxylin and eosin
of the same microscope's tiles, each scaled (Ruifrok's separation, as the planted copies of
``pixcell_share/privacy/plants.py`` are re-stained).
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import hed2rgb, rgb2hed

from pixcell_share.evaluation import ImageDataset, ImagePart, PictureFiles
from pixcell_share.nano.tiles import SplitSettings

Stain = Literal["A", "B"]
Ints = NDArray[np.int64]
CLASSES = ("lung_aca", "lung_n", "lung_scc")
SITES: tuple[Stain, Stain] = ("A", "B")
_PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class DataSettings:
    """How many groups and tiles each part has."""

    site_share: float = 0.35
    """Of each class's groups that nano has seen: for each of the two sites."""
    train_share: float = 0.2
    """For the training part of the evaluation; the rest is its validation part."""
    site_tiles: int = 4
    """Tiles of a group that a site holds; the audit's attacker has those that condition nothing."""
    real_tiles: int = 2
    """Of them, those that an encoder of real tiles learns from; as many condition the cohort."""
    judged_tiles: int = 4
    """Tiles of a group in the evaluation."""
    haematoxylin: float = 0.7
    """Of site B, relative to the tiles as they are."""
    eosin: float = 1.3
    """Likewise."""
    seed: int = 0
    """Of the split."""


@dataclass(frozen=True)
class Tile:
    """One picture of the collection."""

    file: str
    """Relative to ``lung_tiles``."""
    label: str
    group: str


@dataclass(frozen=True)
class Split:
    """Tiles of each part."""

    sites: dict[str, list[Tile]]
    judged: dict[str, list[Tile]]
    """``train``, ``val`` and ``test`` of the evaluation."""


def read_split(folder: Path, settings: DataSettings) -> Split:
    """Deal the groups of the collection in ``folder``, class by class."""
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [
            Tile(r["file"], r["class"], r["near_duplicate_group"]) for r in csv.DictReader(file)
        ]
    groups: defaultdict[str, list[Tile]] = defaultdict(list)
    for tile in rows:
        groups[tile.group].append(tile)
    parts = _deal({group: own[0].label for group, own in groups.items()}, settings)

    def tiles(part: str, count: int) -> list[Tile]:
        return [tile for group in parts[part] for tile in _first(groups[group], count)]

    return Split(
        {site: tiles(site, settings.site_tiles) for site in SITES},
        {part: tiles(part, settings.judged_tiles) for part in _PARTS},
    )


def real_tiles(tiles: Iterable[Tile], count: int) -> list[Tile]:
    """The first ``count`` tiles of each group."""
    groups: defaultdict[str, list[Tile]] = defaultdict(list)
    for tile in tiles:
        groups[tile.group].append(tile)
    return [tile for own in groups.values() for tile in own[:count]]


def write_tiles(
    source: Path, tiles: Sequence[Tile], stain: Stain, folder: Path, settings: DataSettings
) -> Path:
    """PNG files ``CLASS/NAME.png`` of tiles in a stain, and ``tiles.csv``; what exists is done."""
    table = folder / "tiles.csv"
    if table.exists():
        return folder
    lines = []
    for tile in tiles:
        name = png_of(tile)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source / tile.file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        Image.fromarray(_stained(pixels, stain, settings)).save(folder / name)
        lines.append([name, tile.group, tile.label])
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "case_id", "label"], *lines])
    return folder


def png_of(tile: Tile) -> str:
    """The name of a tile's copy, relative to its folder."""
    return f"{tile.label}/{Path(tile.file).stem}.png"


def judged_dataset(folder: Path, judged: dict[str, list[Tile]], stain: Stain) -> ImageDataset:
    """The evaluation's tiles, as `write_tiles` wrote them below ``folder``."""

    def part(name: str) -> ImagePart:
        tiles = judged[name]
        labels = np.array([CLASSES.index(tile.label) for tile in tiles], np.int64)
        files = tuple(png_of(tile) for tile in tiles)
        return ImagePart(PictureFiles(folder / stain / name, files), labels)

    return ImageDataset(f"lung, stain {stain}", part("train"), part("val"), part("test"), CLASSES)


def group_numbers(tiles: Sequence[Tile]) -> Ints:
    """(N,) number of each tile's group, from 0."""
    return np.unique([tile.group for tile in tiles], return_inverse=True)[1].astype(np.int64)


def _deal(label_of: dict[str, str], settings: DataSettings) -> dict[str, list[str]]:
    unseen = SplitSettings()
    parts: dict[str, list[str]] = {name: [] for name in (*SITES, *_PARTS)}
    rng = np.random.default_rng(settings.seed)
    for label in CLASSES:
        own = sorted(group for group, its in label_of.items() if its == label)
        parts["test"] += [group for group in own if unseen.held_out(group)]
        seen = [str(group) for group in rng.permutation([g for g in own if not unseen.held_out(g)])]
        shares = (settings.site_share, settings.site_share, settings.train_share)
        ends = np.rint(np.cumsum(shares) * len(seen)).astype(int)
        dealt = np.split(np.array(seen), ends)
        for name, groups in zip((*SITES, "train", "val"), dealt, strict=True):
            parts[name] += groups.tolist()
    return parts


def _first(tiles: Sequence[Tile], count: int) -> list[Tile]:
    """Tiles chosen by the digests of their names: in no order that means anything."""
    return sorted(tiles, key=lambda tile: hashlib.sha256(tile.file.encode()).digest())[:count]


def _stained(pixels: NDArray[np.uint8], stain: Stain, settings: DataSettings) -> NDArray[np.uint8]:
    if stain == "A":
        return pixels
    stains = rgb2hed(pixels)
    stains[..., :2] *= settings.haematoxylin, settings.eosin
    return np.clip(np.rint(hed2rgb(stains) * 255), 0, 255).astype(np.uint8)
