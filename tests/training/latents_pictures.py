"""A tiny VAE and encoder, and folders of small pictures for them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pixcell_share.progress import LineView
from pixcell_share.training.latents.make import make_store
from pixcell_share.training.latents.models import CoderSettings
from pixcell_share.training.latents.outcome import Made
from pixcell_share.training.latents.settings import LatentSettings


def draw_pictures(folder: Path, count: int, px: int = 256) -> Path:
    """Pictures ``<slide>/<number>.png``, two a slide, no two alike."""
    for number in range(count):
        draw = np.random.default_rng(number)
        coarse = draw.integers(0, 256, (px // 32, px // 32, 3), dtype=np.uint8)
        path = folder / f"slide{number // 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((px, px), Image.Resampling.BICUBIC).save(path)
    return folder


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return path


def settings(out: Path, model: Path, **more: Any) -> LatentSettings:
    """Pictures of 256 px with the tiny model; about four rows a shard."""
    coder = CoderSettings(str(model), "nano", str(model / "encoder"), device="cpu")
    values: dict[str, Any] = {"region_px": 256, "shard_mb": 0.13, "batch_size": 3}
    return LatentSettings(out=out, coder=coder, **{**values, **more})


def make(out: Path, model: Path, **more: Any) -> Made:
    return make_store(settings(out, model, **more), LineView())


def arrays(folder: Path) -> dict[str, bytes]:
    """The files that training reads, and their digests."""
    kinds = (".npy", ".csv", ".sha256")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in kinds}
