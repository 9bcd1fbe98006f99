"""The positive control: would the check have noticed copies? It plants some and counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.privacy.fingerprints import DETAIL, Images, structure
from pixcell_share.privacy.intervals import Share
from pixcell_share.privacy.near_copies import NearCopyIndex, Nearest, RealTile
from pixcell_share.privacy.plants import PLANTS

Embed = Callable[[Images], NDArray[np.float32]]
"""Embeds tiles (B, H, W, 3) as (B, D), with the encoder of the index."""


@dataclass(frozen=True)
class ControlSettings:
    """What is planted, and how much of it must be caught."""

    tiles: int = 32
    """Real tiles that are copied, once for each kind."""

    kinds: tuple[str, ...] = ("exact", "flipped", "rotated", "JPEG 60")
    """Kinds of copies, of `PLANTS`."""

    required: float = 0.99
    """Share of all planted copies that must be caught; below it the checks are invalid."""


@dataclass(frozen=True)
class PlantedKind:
    """What became of the copies of one kind."""

    kind: str
    """Name in `PLANTS`."""

    by_pixels: Share
    """Reached the limit in pixels: what counts as caught."""

    by_encoder: Share
    """Reached the limit in the encoder: shows what the limit means for this encoder. It does not
    count as caught, since an encoder that finds all tiles alike would catch everything."""


@dataclass(frozen=True)
class ControlResult:
    """What the positive control found."""

    kinds: tuple[PlantedKind, ...]
    """One entry per kind of copy."""

    required: float
    """Share that had to be caught."""

    encoder_limit: float
    """Cosine from which a tile was a near copy in the encoder: `NearCopyIndex.encoder_limit`."""

    examined: int
    """Real tiles drawn to find ones with something in them to recognise."""

    featureless: int
    """Of these, how many had nothing in them (`Scale.floor`) and were not copied."""

    @property
    def caught(self) -> Share:
        """Caught by pixels, all kinds together."""
        return Share(
            sum(kind.by_pixels.count for kind in self.kinds),
            sum(kind.by_pixels.total for kind in self.kinds),
        )

    @property
    def valid(self) -> bool:
        """Whether enough was caught; never true where nothing could be planted."""
        return self.caught.total > 0 and self.caught.value >= self.required


def run_control(
    index: NearCopyIndex,
    real_tile: RealTile,
    embed: Embed,
    *,
    seed: int,
    settings: ControlSettings | None = None,
) -> ControlResult:
    """Plant copies of real tiles and count how many the index catches.

    Args:
        index: all real tiles of the run.
        real_tile: fetches one of them.
        embed: the encoder of the index.
        seed: chooses the tiles; the same seed gives the same result.
        settings: what to plant.

    Returns:
        The shares caught. The real tiles are fetched one at a time.
    """
    settings = settings or ControlSettings()
    rng = np.random.default_rng(seed)
    chosen, examined = _recognisable(index, real_tile, rng, settings.tiles)
    kinds = tuple(_plant(index, real_tile, embed, rng, chosen, kind) for kind in settings.kinds)
    return ControlResult(
        kinds=kinds,
        required=settings.required,
        encoder_limit=index.encoder_limit,
        examined=examined,
        featureless=examined - len(chosen),
    )


def _recognisable(
    index: NearCopyIndex, real_tile: RealTile, rng: np.random.Generator, wanted: int
) -> tuple[list[int], int]:
    """Random real tiles with something in them, and how many were looked at to find them."""
    chosen: list[int] = []
    examined = 0
    for candidate in rng.permutation(len(index))[: 8 * wanted].tolist():
        examined += 1
        if structure(real_tile(candidate)[None], DETAIL).std() >= DETAIL.floor:
            chosen.append(candidate)
        if len(chosen) == wanted:
            break
    return chosen, examined


def _plant(
    index: NearCopyIndex,
    real_tile: RealTile,
    embed: Embed,
    rng: np.random.Generator,
    chosen: list[int],
    kind: str,
) -> PlantedKind:
    found: list[Nearest] = []
    for place in chosen:
        copy = PLANTS[kind](real_tile(place), rng)[None]
        found += index.search(copy, embed(copy), real_tile)
    in_pixels = sum(nearest.pixel_ncc >= index.settings.pixel_limit for nearest in found)
    in_encoder = sum(nearest.embedding_similarity >= index.encoder_limit for nearest in found)
    return PlantedKind(kind, Share(in_pixels, len(found)), Share(in_encoder, len(found)))
