"""Made-up data sets for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pixcell_share.evaluation import Embedded, EmbeddedDataset

CLASSES, DIM = 3, 12


def embedded_part(seed: int, count: int, spread: float = 1.3) -> Embedded:
    """Embeddings that overlap between classes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((CLASSES, DIM))
    labels = rng.integers(0, CLASSES, count)
    noise = spread * rng.standard_normal((count, DIM))
    return Embedded((centres[labels] + noise).astype(np.float32), labels)


def embedded_dataset(train: int = 150, val: int = 70, test: int = 90) -> EmbeddedDataset:
    parts = (embedded_part(seed, count) for seed, count in enumerate((train, val, test)))
    return EmbeddedDataset("made-up", *parts)


def write_pictures(folder: Path, files: list[str], side: int = 32) -> None:
    """PNG files, each with a colour of its own; class folders differ in brightness."""
    for number, file in enumerate(files):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        base = 60 + 40 * (sum(map(ord, path.parent.name)) % 4)
        pixels = rng.integers(base, base + 50, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
