"""What the transformer learns from: latents and embeddings of training tiles, computed once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixcell_share.files import atomic_path, atomic_write_bytes, canonical_json
from pixcell_share.nano.autoencoder import LATENT_CHANNELS, SCALE
from pixcell_share.nano.batches import MixSettings, random_crop, to_tensor
from pixcell_share.nano.tiles import TILE_PX, Images, TileSet

SIDE = TILE_PX // SCALE
"""Latents along one side of a tile."""

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LatentSettings:
    """Which training tiles are encoded."""

    copies: int = 10
    """Tiles per near-duplicate group at most: copies are turns and flips of one original."""
    crops_per_field: int = 40
    """Random crops of each breast field."""
    batch: int = 16
    """Tiles encoded at once."""
    seed: int = 0
    """Of the choice of tiles and crops."""


@dataclass(frozen=True)
class LatentSet:
    """Encoded training tiles."""

    latents: NDArray[np.float16]
    """(N, 16, 32, 32) posterior means, as the VAE gives them."""
    embeddings: NDArray[np.float32]
    """(N, D)"""
    share: NDArray[np.float64]
    """(N,) probability to be drawn; sums to 1."""


@dataclass(frozen=True)
class _Source:
    """A tile to encode: an image, and the share of batches that it fills."""

    image: Callable[[], Images]
    share: float


def encode_tiles(
    tiles: TileSet,
    mix: MixSettings,
    settings: LatentSettings,
    to_latent: Encode,
    to_embedding: Encode,
    folder: Path,
    device: torch.device,
    *,
    key: str,
) -> LatentSet:
    """Encode the training tiles into ``folder``, or open what an earlier run encoded.

    Args:
        key: names the VAE and encoder; another key encodes anew.
    """
    sources = _sources(tiles, mix, settings)
    stamp, wanted = folder / "latents.json", {"key": key, "count": len(sources)}
    latent_file, embedding_file = folder / "latents.npy", folder / "embeddings.npy"
    if not stamp.exists() or json.loads(stamp.read_bytes()) != wanted:
        stamp.unlink(missing_ok=True)
        embeddings = []
        with atomic_path(latent_file) as temporary:
            shape = (len(sources), LATENT_CHANNELS, SIDE, SIDE)
            stack = np.lib.format.open_memmap(temporary, "w+", dtype=np.float16, shape=shape)
            for at in range(0, len(sources), settings.batch):
                part = sources[at : at + settings.batch]
                images = to_tensor(np.stack([source.image() for source in part]), device)
                stack[at : at + len(part)] = to_latent(images).cpu().numpy()
                embeddings.append(to_embedding(images).cpu().numpy())
            stack.flush()
        with atomic_path(embedding_file) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.concatenate(embeddings).astype(np.float32))
        atomic_write_bytes(stamp, canonical_json(wanted))
    share = np.array([source.share for source in sources])
    return LatentSet(
        np.load(latent_file, mmap_mode="r"), np.load(embedding_file), share / share.sum()
    )


def _sources(tiles: TileSet, mix: MixSettings, settings: LatentSettings) -> list[_Source]:
    rng = np.random.default_rng(settings.seed)
    phantom = mix.phantom if len(tiles.phantom) else 0.0
    return [
        *_lung(tiles, settings, rng, 1 - mix.breast - phantom),
        *_breast(tiles, settings, rng, mix.breast),
        *(
            _Source(lambda at=at: tiles.phantom[at], phantom / len(tiles.phantom))  # type: ignore[misc]
            for at in range(len(tiles.phantom))
        ),
    ]


def _lung(
    tiles: TileSet, settings: LatentSettings, rng: np.random.Generator, share: float
) -> list[_Source]:
    """Up to ``copies`` tiles of each group; every group has the same share."""
    train = tiles.train
    names = np.unique(tiles.groups[train])
    sources = []
    for name in names:
        members = train[tiles.groups[train] == name]
        chosen = rng.permutation(members)[: settings.copies]
        each = share / len(names) / len(chosen)
        sources += [_Source(lambda at=at: tiles.lung[at], each) for at in chosen]  # type: ignore[misc]
    return sources


def _breast(
    tiles: TileSet, settings: LatentSettings, rng: np.random.Generator, share: float
) -> list[_Source]:
    fields = np.flatnonzero(~tiles.field_holdout)
    each = share / len(fields) / settings.crops_per_field
    crops = [
        random_crop(tiles.fields[field], TILE_PX, rng)
        for field in fields
        for _ in range(settings.crops_per_field)
    ]
    return [_Source(lambda crop=crop: crop, each) for crop in crops]  # type: ignore[misc]
