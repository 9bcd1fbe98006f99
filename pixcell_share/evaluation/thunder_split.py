"""Data sets in the layout of Thunder: a JSON file of splits beside folders of pictures.

::

    {"train": {"images": ["a/1.png", ...], "labels": [0, ...]}, "val": ..., "test": ...,
     "train_few_shot": {"1": {"images": [[3, 17], ...], "labels": [[0, 1], ...]}, ...}}

The names of pictures are relative to the data set's folder; few-shot "images" are numbers of
training pictures. ``images`` and ``labels`` may also each name an HDF5 file (PatchCamelyon's ``x``
and ``y``). ``train_few_shot`` may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixcell_share.errors import DataError
from pixcell_share.evaluation.embedded import PARTS, FewShot
from pixcell_share.evaluation.images import (
    ImageDataset,
    ImagePart,
    PictureArray,
    PictureFiles,
    read_label_array,
)


def read_thunder_split(
    path: Path, folder: Path, *, name: str | None = None, class_names: Sequence[str] = ()
) -> ImageDataset:
    """A data set by its file of splits.

    Args:
        path: the JSON file.
        folder: what the names in it are relative to.
        name: of the data set; None: the name of the file.
        class_names: of the labels, where they are known.

    Raises:
        DataError: the file is not as described above, or a picture is missing.
    """
    try:
        split = json.loads(path.read_text(encoding="utf-8"))
        train, val, test = (_part(split[part], folder) for part in PARTS)
        few_shot = _few_shot(split.get("train_few_shot") or {}, len(train))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a file of splits as Thunder writes them: {error!r}",
            "write it as the module pixcell_share.evaluation.thunder_split describes it",
        ) from error
    return ImageDataset(name or path.stem, train, val, test, class_names, few_shot)


def _part(entry: dict[str, Any], folder: Path) -> ImagePart:
    images, labels = entry["images"], entry["labels"]
    if isinstance(images, str):
        return ImagePart(PictureArray.open(folder / images), read_label_array(folder / labels))
    return ImagePart(PictureFiles(folder, tuple(images)), np.array(labels, np.int64))


def _few_shot(entry: dict[str, Any], tiles: int) -> FewShot | None:
    """The draws; numbers of shots without any are left out, as a data set may be too small."""
    rows = {
        int(shots): np.array(draws["images"], np.int64)
        for shots, draws in entry.items()
        if len(draws["images"])
    }
    for drawn in rows.values():
        if drawn.ndim != 2 or drawn.min() < 0 or drawn.max() >= tiles:
            raise ValueError("a few-shot draw names a picture that is not there")
    return FewShot(rows) if rows else None
