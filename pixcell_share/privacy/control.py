"""The control: would the check have noticed copies, and does it leave other tiles alone?

It plants copies of real tiles and counts how many are caught. As negatives it takes copies of
tiles of patients who were set aside, and searches them with all tiles of their own patient left
out: whatever is then flagged is no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.privacy.control_result import ControlResult, ControlSettings, PlantedKind
from pixcell_share.privacy.fingerprints import DETAIL, Images, structure
from pixcell_share.privacy.intervals import Share
from pixcell_share.privacy.near_copies import NearCopyIndex, Nearest, RealTile
from pixcell_share.privacy.plants import BLENDS, CROPS, PLANTS, blend, crop

__all__ = ["ControlResult", "ControlSettings", "PlantedKind", "run_control"]

Embed = Callable[[Images], NDArray[np.float32]]
"""Embeds tiles (B, H, W, 3) as (B, D), with the encoder of the index."""

OtherTile = Callable[[np.random.Generator], Images]
"""Gives some tile (H, W, 3) for a real one to be blended with: a synthetic one, usually."""


def run_control(
    index: NearCopyIndex,
    real_tile: RealTile,
    embed: Embed,
    *,
    seed: int,
    settings: ControlSettings | None = None,
    other_tile: OtherTile | None = None,
    holdout: Sequence[int] = (),
    patients: NDArray[np.int64] | None = None,
) -> ControlResult:
    """Plant copies of real tiles and count how many the index catches.

    Args:
        index: all real tiles of the run.
        real_tile: fetches one of them.
        embed: the encoder of the index.
        seed: chooses the tiles; the same seed gives the same result.
        settings: what to plant.
        other_tile: gives tiles to blend real ones with; other real tiles without it, of other
            patients where ``patients`` is given.
        holdout: real tiles that may be negatives.
        patients: (N,) number of the patient of each real tile; needed with ``holdout``.

    Returns:
        The shares caught. The real tiles are fetched one at a time.

    Raises:
        ValueError: a holdout without patients, or as many patients as there are no tiles.
    """
    if len(holdout) and patients is None:
        raise ValueError("negatives need the patients of all real tiles")
    if patients is not None and len(patients) != len(index):
        raise ValueError(f"{len(patients)} patients for {len(index)} real tiles")
    settings = settings or ControlSettings()
    control = _Control(index, real_tile, embed, np.random.default_rng(seed), patients)
    chosen, examined = control.recognisable(np.arange(len(index)), settings.tiles)
    aside, _ = control.recognisable(np.asarray(holdout, np.int64), settings.tiles)
    kinds = tuple(control.plant(chosen, kind) for kind in settings.kinds)
    blends = {kind: control.blend(chosen, kind, other_tile) for kind in BLENDS}
    crops = tuple(control.plant(chosen, kind) for kind in CROPS)
    half = blends.pop("blend 50")
    negatives, mistaken = control.negatives(aside, settings.kinds)
    return ControlResult(
        kinds=kinds,
        required=settings.required,
        encoder_limit=index.encoder_limit,
        examined=examined,
        featureless=examined - len(chosen),
        alike=control.alike(chosen),
        blends=half if half.by_pixels.total else None,
        blend_required=settings.blend_required,
        reported=(*blends.values(), *crops),
        negatives=negatives,
        negative_limit=settings.negative_limit,
        mistaken=mistaken,
    )


@dataclass(frozen=True, eq=False)
class _Control:
    """Plants, searches and counts."""

    index: NearCopyIndex
    real_tile: RealTile
    embed: Embed
    rng: np.random.Generator
    patients: NDArray[np.int64] | None

    def recognisable(self, among: NDArray[np.int64], wanted: int) -> tuple[list[int], int]:
        """Random tiles with something in them, and how many were looked at to find them."""
        chosen: list[int] = []
        examined = 0
        for candidate in self.rng.permutation(among)[: 8 * wanted].tolist():
            examined += 1
            if structure(self.real_tile(candidate)[None], DETAIL).std() >= DETAIL.floor:
                chosen.append(candidate)
            if len(chosen) == wanted:
                break
        return chosen, examined

    def alike(self, chosen: Sequence[int]) -> bool:
        """Whether the chosen tiles are all equal."""
        first = self.real_tile(chosen[0]) if chosen else None
        return first is not None and all(
            np.array_equal(self.real_tile(place), first) for place in chosen[1:]
        )

    def plant(self, chosen: Sequence[int], kind: str) -> PlantedKind:
        """Copies of one kind of the chosen tiles."""
        return self._count(kind, self._search([self._copy(place, kind) for place in chosen]))

    def blend(self, chosen: Sequence[int], kind: str, other_tile: OtherTile | None) -> PlantedKind:
        """Blends of the chosen tiles with others; none where there are no others.

        Where the other is a real tile, it and its patient are left out of the search: else the
        blend could be caught as a copy of the wrong one.
        """
        copies, others = [], []
        for place in chosen:
            another = None if other_tile else self._another(place)
            if other_tile:
                other = other_tile(self.rng)
            elif another is not None:
                other = self.real_tile(another)
                others.append(another)
            else:
                continue
            copies.append(blend(self.real_tile(place), other, BLENDS[kind]))
        return self._count(kind, self._search(copies, others or None))

    def negatives(
        self, aside: Sequence[int], kinds: Sequence[str]
    ) -> tuple[Share, tuple[tuple[int, int], ...]]:
        """How many copies of tiles set aside are flagged, without their own patient's tiles; which.

        Each tile is copied in one way, since copies of one tile are not independent.
        """
        copies = [
            self._copy(place, kinds[number % len(kinds)]) for number, place in enumerate(aside)
        ]
        found = self._search(copies, aside)
        limit = self.index.settings.pixel_limit
        mistaken = tuple(
            (place, nearest.pixel_index)
            for place, nearest in zip(aside, found, strict=False)  # nothing, where one patient is
            if nearest.pixel_ncc >= limit
        )
        return Share(len(mistaken), len(found)), mistaken

    def _copy(self, place: int, kind: str) -> Images:
        tile = self.real_tile(place)
        if kind in CROPS:
            return crop(tile, CROPS[kind], self.rng)
        return PLANTS[kind](tile, self.rng)

    @property
    def _owners(self) -> NDArray[np.int64]:
        """(N,) patient of each tile; each is its own where they are not known."""
        return np.arange(len(self.index)) if self.patients is None else self.patients

    def _another(self, place: int) -> int | None:
        """Another real tile, of another patient where they are known."""
        others = np.flatnonzero(self._owners != self._owners[place])
        return int(self.rng.choice(others)) if len(others) else None

    def _search(
        self, copies: Sequence[Images], without: Sequence[int] | None = None
    ) -> list[Nearest]:
        """The nearest real tile of each; with ``without`` none of those tiles' patients.

        A search reads all rows once, so the copies of one kind are searched together. Left out is
        a copy for which no other patient has a tile.
        """
        if not copies:
            return []
        images = np.stack(copies)
        if without is None:
            return self.index.search(images, self.embed(images), self.real_tile)
        owners = self._owners
        own = owners[np.asarray(without, np.int64)]
        others = np.array([(owners != patient).any() for patient in own.tolist()], bool)
        if not others.any():
            return []
        images, own = images[others], own[others]
        return self.index.search(
            images, self.embed(images), self.real_tile, query_groups=own, row_groups=owners
        )

    def _count(self, kind: str, found: Sequence[Nearest]) -> PlantedKind:
        pixels, encoder = self.index.settings.pixel_limit, self.index.encoder_limit
        in_pixels = sum(nearest.pixel_ncc >= pixels for nearest in found)
        in_encoder = sum(nearest.embedding_similarity >= encoder for nearest in found)
        return PlantedKind(kind, Share(in_pixels, len(found)), Share(in_encoder, len(found)))
