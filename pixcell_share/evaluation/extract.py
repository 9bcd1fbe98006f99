"""Embed a data set once with an encoder; the embeddings stay on disk in Thunder's layout.

The folder is ``CACHE/DATASET/ENCODER-KEY/train|val|test``, KEY telling encoder, precision and data
set apart, so another model or another picture can never be taken for this one. Embeddings are
written block by block, each block whole or not at all: an interrupted extraction goes on where it
was. When a part is complete its blocks become ``embeddings.h5`` and ``labels.h5``.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np

from pixcell_share.encoders import Encoder
from pixcell_share.errors import DataError
from pixcell_share.evaluation.embedded import PARTS, Embedded, EmbeddedDataset, Singles
from pixcell_share.evaluation.embedding_files import (
    EMBEDDINGS,
    LABELS,
    read_thunder_part,
    write_thunder_part,
)
from pixcell_share.evaluation.images import ImageDataset, ImagePart, Picture, Pictures
from pixcell_share.files import atomic_path, canonical_json
from pixcell_share.prefetch import prefetch
from pixcell_share.weights import ModelIdentity

Advance = Callable[[int], None]


class Embedder(Protocol):
    """An `Encoder`, or an `InceptionEncoder`."""

    @property
    def identity(self) -> ModelIdentity:
        """Which weights."""

    def embed(self, images: Picture) -> Singles:
        """Embeddings float32 (B, D) of tiles uint8 (B, H, W, 3)."""


@dataclass(frozen=True)
class ExtractionSettings:
    """How a data set is embedded."""

    batch_size: int = 64
    """Pictures of one forward pass; those of different sizes go in passes of their own."""
    block: int = 1024
    """Pictures of a file of embeddings: what an interruption can cost."""


def embed_dataset(
    encoder: Encoder,
    dataset: ImageDataset,
    cache: Path | None = None,
    *,
    settings: ExtractionSettings = ExtractionSettings(),
    advance: Advance | None = None,
) -> EmbeddedDataset:
    """The embeddings of all parts, from the cache where they are there.

    Args:
        encoder: any registered encoder.
        dataset: labelled pictures.
        cache: a folder; None: a temporary one, which is removed.
        settings: sizes of batches and blocks.
        advance: told how many pictures were done, those of earlier runs included.

    Raises:
        DataError: a picture, or a file of the cache, is damaged.
        StorageError: the disk is full, or the cache cannot be written.
    """
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="pixcell-embeddings-") as temporary:
            return embed_dataset(
                encoder, dataset, Path(temporary), settings=settings, advance=advance
            )
    folder = cache_folder(cache, encoder, dataset)
    for part in PARTS:
        _extract(encoder, getattr(dataset, part), folder / part, settings, advance)
    train, val, test = (_checked(folder / part, getattr(dataset, part)) for part in PARTS)
    return EmbeddedDataset(dataset.name, train, val, test, dataset.digest, dataset.few_shot)


def embed_pictures(
    encoder: Embedder, pictures: Pictures, rows: range | None = None, batch_size: int = 64
) -> Singles:
    """Embeddings (n, D) of pictures of any sizes, in their order.

    Args:
        encoder: of the registry, or any other.
        pictures: N of them.
        rows: which, one at least; None: all.
        batch_size: pictures of one forward pass.

    Raises:
        DataError: a picture is damaged.
    """
    chosen = range(len(pictures)) if rows is None else rows
    batches = prefetch(_batches(pictures.read(chosen), batch_size), 2)
    return np.concatenate([encoder.embed(batch) for batch in batches])


def cache_folder(cache: Path, encoder: Encoder, dataset: ImageDataset) -> Path:
    """Where the embeddings of this very encoder and data set lie."""
    what = [asdict(encoder.identity), asdict(encoder.spec.transform), str(encoder.dtype)]
    key = hashlib.sha256(canonical_json([what, dataset.digest])).hexdigest()
    return cache / dataset.name / f"{encoder.name}-{key[:16]}"


def _extract(
    encoder: Encoder,
    part: ImagePart,
    folder: Path,
    settings: ExtractionSettings,
    advance: Advance | None,
) -> None:
    """Embed what is missing of one part."""
    tell = advance or (lambda done: None)
    if (folder / EMBEDDINGS).is_file() and (folder / LABELS).is_file():
        tell(len(part))
        return
    blocks = folder / "blocks"
    blocks.mkdir(parents=True, exist_ok=True)
    files = []
    for start in range(0, len(part), settings.block):
        rows = range(start, min(start + settings.block, len(part)))
        files.append(blocks / f"{start:09d}-{rows.stop:09d}.npy")
        if not files[-1].is_file():
            embeddings = embed_pictures(encoder, part.pictures, rows, settings.batch_size)
            with atomic_path(files[-1]) as temporary, temporary.open("wb") as stream:
                np.save(stream, embeddings, allow_pickle=False)
        tell(len(rows))
    whole = np.concatenate([np.load(file, allow_pickle=False) for file in files])
    write_thunder_part(folder, Embedded(whole, part.labels))
    shutil.rmtree(blocks)


def _batches(pictures: Iterator[Picture], size: int) -> Iterator[Picture]:
    """Consecutive pictures of one shape, stacked, ``size`` of them at most."""
    for _, alike in groupby(pictures, key=lambda picture: picture.shape):
        batch: list[Picture] = []
        for picture in alike:
            batch.append(picture)
            if len(batch) == size:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)


def _checked(folder: Path, part: ImagePart) -> Embedded:
    """The part as the cache has it; other labels than the data set's mean that it was changed."""
    found = read_thunder_part(folder)
    if not np.array_equal(found.labels, part.labels):
        raise DataError(f"the embeddings in {folder} are not of these labels", "remove that folder")
    return found
