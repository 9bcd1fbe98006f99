"""Pictures of a labelled data set, read one by one, and the digest of what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pixcell_share.errors import DataError
from pixcell_share.evaluation.embedded import PARTS, FewShot, Ints
from pixcell_share.files import canonical_json

Picture = NDArray[np.uint8]


class Pictures(Protocol):
    """Pictures in a fixed order."""

    def __len__(self) -> int: ...

    def read(self, rows: range) -> Iterator[Picture]:
        """Pictures uint8 (H, W, 3); they may differ in size.

        Raises:
            DataError: a picture cannot be read.
        """

    def digests(self) -> Iterator[str]:
        """SHA-256 of the bytes of each picture, or of the one file that holds them all."""


@dataclass(frozen=True)
class PictureFiles:
    """PNG, JPEG or TIFF files."""

    folder: Path
    files: tuple[str, ...]
    """Relative to ``folder``."""

    def __post_init__(self) -> None:
        missing = [file for file in self.files if not (self.folder / file).is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self.files)} pictures are not in {self.folder}; "
                f"the first is {missing[0]}",
                "give the folder that the names are relative to",
            )

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: range) -> Iterator[Picture]:
        """See `Pictures`."""
        for row in rows:
            yield read_picture(self.folder / self.files[row])

    def digests(self) -> Iterator[str]:
        """See `Pictures`."""
        for file in self.files:
            yield _file_digest(self.folder / file)


@dataclass(frozen=True)
class PictureArray:
    """Pictures of one size in the dataset ``x`` of an HDF5 file, as PatchCamelyon has them."""

    path: Path
    count: int

    @classmethod
    def open(cls, path: Path) -> PictureArray:
        """Look at the file.

        Raises:
            DataError: no HDF5 file, or ``x`` is not uint8 (N, H, W, 3).
        """
        return cls(path, len(_hdf5_array(path, "x", ("u1",), rank=4)))

    def __len__(self) -> int:
        return self.count

    def read(self, rows: range) -> Iterator[Picture]:
        """See `Pictures`."""
        with h5py.File(self.path, "r") as file:
            for row in rows:
                yield file["x"][row]

    def digests(self) -> Iterator[str]:
        """See `Pictures`."""
        yield _file_digest(self.path)


def read_label_array(path: Path) -> Ints:
    """(N,) labels from the dataset ``y`` of an HDF5 file, whatever its shape.

    Raises:
        DataError: no HDF5 file, or ``y`` does not hold whole numbers.
    """
    labels: Ints = _hdf5_array(path, "y", ("u", "i"))[()].reshape(-1).astype(np.int64)
    return labels


@dataclass(frozen=True, eq=False)
class ImagePart:
    """One part of a data set."""

    pictures: Pictures
    labels: Ints
    """(N,) classes, numbers from 0."""

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.labels) or not len(self.labels):
            raise DataError(
                f"{len(self.pictures)} pictures with {len(self.labels)} labels",
                "give one label for each picture, and at least one picture in each part",
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled pictures in the parts ``train``, ``val`` and ``test``."""

    name: str
    train: ImagePart
    val: ImagePart
    test: ImagePart
    class_names: Sequence[str] = ()
    """Where they are known; label i is ``class_names[i]``."""
    few_shot: FewShot | None = field(default=None, repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the bytes of all pictures and their labels, part by part and in order.

        Names of files do not count. All pictures are read for it, once.
        """
        found = hashlib.sha256()
        for part in PARTS:
            own: ImagePart = getattr(self, part)
            pictures = list(own.pictures.digests())
            found.update(canonical_json([part, pictures, own.labels.tolist()]))
        return found.hexdigest()


def read_picture(path: Path) -> Picture:
    """A picture file as uint8 (H, W, 3), as ``PIL.Image.convert("RGB")`` gives it.

    Raises:
        DataError: the file is damaged or no picture.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be read as a picture: {error}", "replace it, or leave it out"
        ) from error


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hdf5_array(
    path: Path, name: str, kinds: tuple[str, ...], rank: int | None = None
) -> h5py.Dataset:
    """The dataset of a file that stays open as long as the dataset is used."""
    try:
        found = h5py.File(path, "r").get(name)
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5: {error}", "get the file again") from error
    if not isinstance(found, h5py.Dataset) or not found.dtype.str.lstrip("|<>=").startswith(kinds):
        raise DataError(f"{path} has no array {name} of {' or '.join(kinds)}", "get the file again")
    if rank is not None and (found.ndim != rank or found.shape[-1] != 3):
        raise DataError(f"{path}: {name} has shape {found.shape}", "give (N, H, W, 3)")
    return found
