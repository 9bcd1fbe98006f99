"""Where tiles come from: shards of HDF5, arrays, or a folder of pictures. Labels are never read."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pixcell_share.errors import DataError
from pixcell_share.ssl.arrays import PATTERN, ArraySource

Pixels = NDArray[np.uint8]
Role = Literal["real", "synthetic"]
_IMAGES = "images"
_SHARDS = ("*.h5", "*.hdf5")
_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}
_OPEN = 16
"""Shards of a source that are held open."""


@dataclass(frozen=True)
class SourceSettings:
    """One set of tiles, and what the encoder's card will say of it."""

    folder: Path
    """Of HDF5 shards with ``images`` uint8 (N, H, W, 3) (a bundle), of such arrays as
    ``images-*.npy`` (a cohort of the hub), or of pictures, also in folders inside. One HDF5 file is
    a source too."""
    name: str = ""
    """For people; by default the folder's name."""
    role: Role = "real"
    share: float | None = None
    """Share of all tiles seen, relative to those of the other sources; None: by number of tiles,
    as if the sources were one."""
    digest: str = ""
    """Of the cohort, such as the bundle's; by default over the names and sizes of the files."""
    licences: tuple[str, ...] = ()
    """Terms that the tiles come with, also those of the models that drew them."""
    noncommercial: bool = False
    """Whether one of them forbids commercial use."""


class TileSource(Protocol):
    """Tiles by number."""

    @property
    def settings(self) -> SourceSettings:
        """What it is."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that it reads, sorted."""

    def __len__(self) -> int:
        """Number of tiles."""

    def read(self, row: int) -> Pixels:
        """The tile (H, W, 3)."""

    def where(self, row: int) -> str:
        """File and place of a tile, for a message."""


def open_source(settings: SourceSettings) -> TileSource:
    """Open the tiles of a folder or file.

    Raises:
        DataError: there are no tiles in it, or a shard is not as described.
    """
    folder = settings.folder.expanduser()
    if folder.is_file():
        return ShardSource(settings, [folder])
    shards = sorted(path for pattern in _SHARDS for path in folder.glob(pattern))
    if shards:
        return ShardSource(settings, shards)
    if arrays := sorted(folder.glob(PATTERN)):
        return ArraySource(settings, arrays)
    pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PICTURES)
    if not pictures:
        raise DataError(
            f"{folder} holds no tiles",
            "name a folder with .h5 shards that have `images`, or with pictures",
        )
    return PictureSource(settings, pictures)


class ShardSource:
    """Tiles of HDF5 files, read one by one, so that memory does not grow with them.

    Args:
        settings: of the source.
        files: the shards, in order.
    """

    def __init__(self, settings: SourceSettings, files: Sequence[Path]) -> None:
        self.settings, self.files = settings, files
        self._open: dict[int, h5py.File] = {}
        self._lock = threading.Lock()
        counts = [self._count(number) for number in range(len(files))]
        self._ends = np.cumsum(counts)
        if not self._ends[-1]:
            raise DataError(f"{settings.folder} holds no tiles", "name shards with tiles in them")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, row: int) -> Pixels:
        """The tile (H, W, 3).

        Raises:
            DataError: it cannot be read.
        """
        number, inside = self._find(row)
        try:
            with self._lock:
                tile: Pixels = self._shard(number)[_IMAGES][inside]
        except (OSError, KeyError) as error:
            raise _unreadable(self.where(row), error) from error
        return tile

    def where(self, row: int) -> str:
        """Shard and row."""
        number, inside = self._find(row)
        return f"{self.files[number]}, row {inside}"

    def _find(self, row: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, row, side="right"))
        return number, row - (int(self._ends[number - 1]) if number else 0)

    def _shard(self, number: int) -> h5py.File:
        if number not in self._open:
            if len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = h5py.File(self.files[number], "r")
        return self._open[number]

    def _count(self, number: int) -> int:
        path = self.files[number]
        try:
            images = self._shard(number)[_IMAGES]
            shape, dtype = images.shape, images.dtype
        except (OSError, KeyError, AttributeError) as error:
            raise _unreadable(str(path), error) from error
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise DataError(
                f"the images of {path} are {dtype} {shape}",
                "name shards whose `images` are uint8 (N, H, W, 3)",
            )
        return int(shape[0])


class PictureSource:
    """Tiles of picture files.

    Args:
        settings: of the source.
        files: the pictures, in order.
    """

    def __init__(self, settings: SourceSettings, files: Sequence[Path]) -> None:
        self.settings, self.files = settings, files

    def __len__(self) -> int:
        return len(self.files)

    def read(self, row: int) -> Pixels:
        """The picture (H, W, 3) as RGB.

        Raises:
            DataError: it cannot be read.
        """
        try:
            with Image.open(self.files[row]) as picture:
                return np.asarray(picture.convert("RGB"))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise _unreadable(self.where(row), error) from error

    def where(self, row: int) -> str:
        """The file."""
        return str(self.files[row])


def digest_of(source: TileSource) -> str:
    """What tells a source from another: its given digest, else one over names and sizes."""
    if source.settings.digest:
        return source.settings.digest
    root = source.settings.folder.expanduser()
    whole = hashlib.sha256()
    for path in source.files:
        name = path.relative_to(root) if path != root else Path(path.name)
        whole.update(f"{path.stat().st_size} {name}\n".encode())
    return f"names-and-sizes:{whole.hexdigest()}"


def _unreadable(where: str, error: Exception) -> DataError:
    return DataError(f"{where} cannot be read: {error}", "leave it out, or make it again")
