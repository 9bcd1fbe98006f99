"""A data set as embeddings: what every protocol works on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import DataError

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

PARTS = ("train", "val", "test")
"""Names of the parts, as Thunder has them."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """One part of a data set.

    Raises:
        DataError: not one label for each embedding, a negative label, or an embedding that is zero
            throughout or not finite.
    """

    embeddings: Singles
    """(N, D)"""
    labels: Ints
    """(N,) classes, numbers from 0."""

    def __post_init__(self) -> None:
        rows, labels = self.embeddings, self.labels
        if rows.ndim != 2 or labels.shape != rows.shape[:1] or not len(labels):
            raise DataError(
                f"embeddings of shape {rows.shape} with labels of shape {labels.shape}",
                "give (N, D) embeddings and (N,) labels, N above 0",
            )
        if labels.min() < 0:
            raise DataError("a label is negative", "number the classes from 0")
        if not np.isfinite(rows).all() or not rows.any(axis=1).all():
            raise DataError(
                "an embedding is zero throughout, or not finite",
                "look at the image, or use another encoder",
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class FewShot:
    """Which training tiles each draw of a few-shot task may use."""

    rows: Mapping[int, Ints]
    """For each number of shots (draws, shots x classes) numbers of training tiles."""


@dataclass(frozen=True, eq=False)
class EmbeddedDataset:
    """The three parts, and what tells this data set from another.

    Raises:
        DataError: the parts have embeddings of different lengths.
    """

    name: str
    train: Embedded
    val: Embedded
    test: Embedded
    digest: str = ""
    """SHA-256 of the images and labels; of embeddings and labels where no image was given."""
    few_shot: FewShot | None = field(default=None, repr=False)
    """Thunder's draws where the split has them."""

    def __post_init__(self) -> None:
        widths = {part: getattr(self, part).embeddings.shape[1] for part in PARTS}
        if len(set(widths.values())) != 1:
            raise DataError(
                f"{self.name}: the parts have embeddings of {widths} numbers",
                "embed all parts with the same encoder",
            )
        if not self.digest:
            object.__setattr__(self, "digest", self._digest())

    @property
    def classes(self) -> int:
        """One more than the highest label."""
        return 1 + max(int(getattr(self, part).labels.max()) for part in PARTS)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of tiles of each part."""
        return {part: len(getattr(self, part)) for part in PARTS}

    def _digest(self) -> str:
        found = hashlib.sha256()
        for part in PARTS:
            tiles: Embedded = getattr(self, part)
            for values in (tiles.embeddings.astype("<f4"), tiles.labels.astype("<i8")):
                found.update(repr((part, values.shape)).encode())
                found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()
