"""Synthetic tiles from elsewhere, audited as they are against the slides of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_path
from site_agent.inputs import UNLABELLED
from site_agent.run_folder import RunFolder
from site_agent.steps.conditions import Source, notes_of

_ENDINGS = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
_BLOCK = 64

Images = NDArray[np.uint8]


def given_sources(run: RunFolder, folder: Path) -> list[Source]:
    """Take over the pictures of a folder (a sub-folder for each class), or of a bundle's shards.

    Raises:
        SettingsError: there is none, or one is of another size than the run's tiles.
    """
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    by_class: dict[str, list[Images]] = {}
    for image, label in _tiles(folder, run.settings.tiling.tile_px):
        by_class.setdefault(label, []).append(image)
    if not by_class:
        raise SettingsError(
            f"there is no picture and no shard in {folder}",
            f"pictures end in one of: {' '.join(sorted(_ENDINGS))}",
        )
    return [
        _source(run, f"given-{digest}-{number}", label, by_class[label])
        for number, label in enumerate(sorted(by_class))
    ]


def _tiles(folder: Path, tile_px: int) -> Iterator[tuple[Images, str]]:
    shards = sorted(folder.glob("shard-*.h5"))
    if shards:
        for shard in shards:
            with h5py.File(shard) as stored:
                classes = [name.decode() for name in stored["labels"].attrs["classes"]]
                for image, label in zip(stored["images"], stored["labels"], strict=True):
                    yield _sized(image, tile_px, shard), classes[int(label)]
        return
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _ENDINGS:
            label = path.parent.name if path.parent != folder else UNLABELLED
            yield _sized(np.asarray(Image.open(path).convert("RGB")), tile_px, path), label


def _sized(image: Images, tile_px: int, path: Path) -> Images:
    if image.shape != (tile_px, tile_px, 3):
        raise SettingsError(
            f"{path.name} is {image.shape[1]} x {image.shape[0]} px, and the run's tiles are "
            f"{tile_px} px",
            "audit it against a run with tiles of its size",
        )
    return image


def _source(run: RunFolder, name: str, label: str, images: list[Images]) -> Source:
    stack = np.stack(images)
    name = f"{name}-{hashlib.sha256(stack.tobytes()).hexdigest()[:8]}"
    for number, start in enumerate(range(0, len(stack), _block(run))):
        with atomic_path(run.draws(name, number)) as part, part.open("wb") as stream:
            np.save(stream, stack[start : start + _block(run)])
    stock = run.conditions(name)
    with atomic_path(stock) as part, part.open("wb") as stream:
        np.save(stream, np.zeros((len(stack), 1), np.float32))
    with atomic_path(notes_of(stock)) as part, part.open("wb") as stream:
        np.savez(stream)  # nothing is known of what they were made from
    return Source(name, label, np.arange(len(stack)), 1, stock, slide=False, fixed=True)


def _block(run: RunFolder) -> int:
    """As `blocks_of` cuts: a whole number of batches."""
    batch = run.settings.sampler.batch_size or 1
    return max(1, _BLOCK // batch) * batch
