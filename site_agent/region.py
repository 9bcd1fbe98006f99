"""`pixcell-site region`: one large synthetic picture beside the region that it was made from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixcell_share.encoders import Encoder, load_encoder
from pixcell_share.errors import SettingsError, SlideError, WeightsMismatchError
from pixcell_share.files import atomic_write_text
from pixcell_share.pixcell import PixCell
from pixcell_share.pixcell.large import LargePicture, LargeSettings
from pixcell_share.progress import View
from pixcell_share.slides import (
    Slide,
    SlideRecord,
    TileGrid,
    level0_tile_px,
    open_slide,
    read_tiles,
)
from site_agent.inputs import find_records
from site_agent.region_files import (
    MAX_PNG_PX,
    PRIVATE,
    Picture,
    choose_path,
    side_by_side,
    write_pair,
    write_picture,
)
from site_agent.settings import SynthesisSettings

_COARSEST = 1.25
"""As in the tiling: a slide may be this much coarser than the picture asked for."""
_EMBED = 16


@dataclass(frozen=True, kw_only=True)
class RegionSettings:
    """One large picture.

    Raises:
        SettingsError: a value cannot be.
    """

    run: SynthesisSettings
    """Slide, model, encoder, device: as in the main job. ``run.slides`` is one slide."""
    x: int
    """Left edge in pixels of level 0."""
    y: int
    """Upper edge in pixels of level 0."""
    size: int = 1024
    """Side of the picture in px."""
    mpp: float = 0.5
    """Resolution of the picture in µm/px."""
    out: Path | None = None
    """PNG or TIFF. None: ``region.png``, or ``region.tif`` above 4096 px."""
    beside: bool = False
    """Write a second picture with the real region beside the synthetic one."""
    seed: int = 0
    """Another seed gives another picture of the same region."""
    lora: Path | None = None
    """A LoRA for the generator."""
    sampler: LargeSettings = LargeSettings()
    """Steps, guidance, windows."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.mpp <= 0:
            raise SettingsError(f"--size {self.size} is no size", "use 1024, 2048 or 4096")
        if self.beside and self.size > MAX_PNG_PX:
            raise SettingsError(
                f"--beside shows at most {MAX_PNG_PX} px", "leave --beside out, or use --size 4096"
            )


@dataclass(frozen=True)
class RegionOutcome:
    """What was written."""

    picture: Path
    """The synthetic picture."""
    beside: Path | None
    """Real and synthetic side by side."""
    record: Path
    """The settings, as JSON."""
    size: int
    """Side in px."""
    seconds: float
    """Time for denoising and decoding."""


def make_region(settings: RegionSettings, view: View) -> RegionOutcome:
    """Read a region, embed its tiles, draw it anew, and write the pictures.

    Raises:
        SettingsError: the region reaches beyond the slide, or an option is wrong.
        SlideError: the slide cannot be read, or is too coarse.
        WeightsError: the model or the encoder cannot be used, or takes one embedding a picture.
        StorageError: the pictures cannot be written.
    """
    path = choose_path(settings.out, settings.size)
    record = _one_slide(settings)
    with open_slide(record) as slide:
        _check_place(slide, settings)
        model = _load_model(settings)
        grid = _tile_grid(slide, settings, model)
        encoder = _load_encoder(settings, model)
        embeddings, real = _embed(slide, grid, encoder, settings, view)
    picture = LargePicture(model, embeddings, settings.seed, settings.sampler)
    began = time.monotonic()
    kept: list[Picture] = []
    with view.stage("generate", picture.work, "windows") as advance:
        strips = picture.strips(advance)
        wanted = _keeping(strips, kept) if settings.beside else strips
        write_picture(path, wanted, settings.size, settings.mpp)
    seconds = time.monotonic() - began
    pair = None
    if real is not None:
        pair = path.with_name(f"{path.stem}-beside.png")
        write_pair(pair, side_by_side(real, np.concatenate(kept)), settings.mpp)
    notes = path.with_suffix(".json")
    _write_record(notes, settings, record, picture, model, encoder, seconds)
    return RegionOutcome(path, pair, notes, settings.size, round(seconds, 1))


def _one_slide(settings: RegionSettings) -> SlideRecord:
    records = find_records(settings.run)
    if len(records) != 1:
        raise SettingsError(
            f"{settings.run.slides} holds {len(records)} slides", "name one slide with --slide"
        )
    return records[0]


def _check_place(slide: Slide, settings: RegionSettings) -> None:
    """Refuse a region that is not wholly on the slide, or finer than it was scanned."""
    if slide.mpp > settings.mpp * _COARSEST:
        raise SlideError(
            f"slide {slide.slide_id} was scanned at {slide.mpp:g} µm/px, coarser than the "
            f"{settings.mpp:g} µm/px of the picture",
            "take a slide that was scanned finer",
        )
    side = level0_tile_px(settings.size, settings.mpp, slide.mpp)
    inside = 0 <= settings.x <= slide.width - side and 0 <= settings.y <= slide.height - side
    if not inside:
        most = min(slide.width, slide.height) * slide.mpp / settings.mpp
        raise SettingsError(
            f"the region at x={settings.x}, y={settings.y} of {side} px of level 0 reaches beyond "
            f"the slide, which measures {slide.width} x {slide.height} px",
            f"use --x 0 to {slide.width - side} and --y 0 to {slide.height - side}"
            if most >= settings.size
            else f"use a --size of at most {int(most)}",
        )


def _load_model(settings: RegionSettings) -> PixCell:
    run = settings.run
    model = PixCell.from_pretrained(
        run.model, vae=run.vae, lora=settings.lora, device=run.torch_device, dtype=run.torch_dtype
    )
    if model.tokens == 1:
        raise WeightsMismatchError(
            f"{run.model} takes one embedding for a picture of {model.tile_px} px; a region needs "
            "a model that takes a grid of them",
            "name PixCell-1024, or nano-1024, with --model",
        )
    tile = _tile_px(model)
    if settings.size % tile or settings.size < model.tile_px:
        raise SettingsError(
            f"--size {settings.size} does not suit a model of {model.tile_px} px in tiles of "
            f"{tile} px",
            f"use {model.tile_px}, or more in steps of {tile}",
        )
    return model


def _tile_px(model: PixCell) -> int:
    """Pixels along one side of the tile that one embedding describes: 256 for PixCell."""
    return model.tile_px // math.isqrt(model.tokens)


def _load_encoder(settings: RegionSettings, model: PixCell) -> Encoder:
    run = settings.run
    encoder = load_encoder(
        run.encoder_name,
        weights=run.weights,
        device=run.torch_device,
        dtype=None if run.dtype == "auto" else run.torch_dtype,
        trust_remote_code=run.trust_remote_code,
    )
    if encoder.dim != model.embedding_dim:
        raise WeightsMismatchError(
            f"the generator was made for embeddings of {model.embedding_dim} channels, but "
            f"{encoder.name} gives {encoder.dim}",
            "name the encoder that it was trained with by --encoder",
        )
    return encoder


def _tile_grid(slide: Slide, settings: RegionSettings, model: PixCell) -> TileGrid:
    """The tiles of the region, row by row, each at its place on level 0."""
    tile = _tile_px(model)
    across = settings.size // tile
    step = level0_tile_px(settings.size, settings.mpp, slide.mpp) / across
    places = [round(index * step) for index in range(across)]
    coords = [(settings.x + left, settings.y + top) for top in places for left in places]
    return TileGrid(
        slide_id=slide.slide_id,
        coords=np.array(coords, np.int64),
        tile_px=tile,
        tile_px_level0=level0_tile_px(tile, settings.mpp, slide.mpp),
        mpp=settings.mpp,
        slide_mpp=slide.mpp,
        width=slide.width,
        height=slide.height,
    )


def _embed(
    slide: Slide, grid: TileGrid, encoder: Encoder, settings: RegionSettings, view: View
) -> tuple[NDArray[np.float32], Picture | None]:
    """Embeddings ``(R, C, D)``, and the real region ``(size, size, 3)`` if it is to be shown."""
    across = settings.size // grid.tile_px
    rows = []
    real = np.empty((settings.size, settings.size, 3), np.uint8) if settings.beside else None
    with view.stage("embed", len(grid), "tiles") as advance:
        tiles = read_tiles(slide, grid)
        for row in range(across):
            images = np.stack([next(tiles) for _ in range(across)])
            if real is not None:
                top = row * grid.tile_px
                real[top : top + grid.tile_px] = np.concatenate(list(images), axis=1)
            parts = [encoder.embed(images[i : i + _EMBED]) for i in range(0, across, _EMBED)]
            rows.append(np.concatenate(parts))
            advance(across)
    return np.stack(rows), real


def _keeping(strips: Iterator[Picture], kept: list[Picture]) -> Iterator[Picture]:
    for strip in strips:
        kept.append(strip)
        yield strip


def _write_record(
    path: Path,
    settings: RegionSettings,
    record: SlideRecord,
    picture: LargePicture,
    model: PixCell,
    encoder: Encoder,
    seconds: float,
) -> None:
    sampler = settings.sampler
    scale = model.guidance_scale if sampler.guidance_scale is None else sampler.guidance_scale
    values: dict[str, Any] = {
        "note": PRIVATE,
        "slide": record.path.name,
        "x": settings.x,
        "y": settings.y,
        "size": settings.size,
        "mpp": settings.mpp,
        "seed": settings.seed,
        "sampler": {**asdict(sampler), "guidance_scale": scale},
        "windows": len(picture.windows),
        "device": str(model.transformer.device),
        "dtype": str(model.transformer.dtype).removeprefix("torch."),
        "seconds": round(seconds, 1),
        "models": [asdict(each) for each in (*model.identities, encoder.identity)],
    }
    atomic_write_text(path, json.dumps(values, indent=2) + "\n")
