"""The control: would the check have noticed copies, and does it leave other tiles alone?

It plants copies of real tiles and counts how many are caught. As negatives it takes copies of
tiles of patients who were set aside, and searches them with all tiles of their own patient left
out: whatever is then flagged is no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from pixcell_share.privacy.fingerprints import DETAIL, Images, structure
from pixcell_share.privacy.intervals import Share
from pixcell_share.privacy.near_copies import NearCopyIndex, Nearest, RealTile
from pixcell_share.privacy.plants import BLENDS, CROPS, PLANTS, blend, crop

Embed = Callable[[Images], NDArray[np.float32]]
"""Embeds tiles (B, H, W, 3) as (B, D), with the encoder of the index."""

OtherTile = Callable[[np.random.Generator], Images]
"""Gives some tile (H, W, 3) for a real one to be blended with: a synthetic one, usually."""

_CHANCE = 0.05
"""How often a check that flags just as many negatives as it may is called invalid all the same."""


@dataclass(frozen=True)
class ControlSettings:
    """What is planted, how much of it must be caught, and what else may not be."""

    tiles: int = 32
    """Real tiles that are copied, once for each kind; and tiles set aside that are negatives."""

    kinds: tuple[str, ...] = ("exact", "flipped", "rotated", "JPEG 60", "re-stained")
    """Kinds of copies, of `PLANTS`, that must be caught."""

    required: float = 0.99
    """Share of all of these that must be caught; below it the checks are invalid."""

    blend_required: float = 0.95
    """Share of the blends with half of a real tile that must be caught."""

    negative_limit: float = 0.01
    """Share of negatives that may be flagged. With few of them one flag says little: the checks
    are invalid when a true share of this size would give as many flags in less than 5 % of
    controls (one-sided binomial test). Of 32 negatives two are too many, of 100 four."""


@dataclass(frozen=True)
class PlantedKind:
    """What became of the copies of one kind."""

    kind: str
    """Name in `PLANTS`, `BLENDS` or `CROPS`."""

    by_pixels: Share
    """Reached the limit in pixels: what counts as caught."""

    by_encoder: Share
    """Reached the limit in the encoder: shows what the limit means for this encoder. It does not
    count as caught, since an encoder that finds all tiles alike would catch everything."""


@dataclass(frozen=True)
class ControlResult:
    """What the control found."""

    kinds: tuple[PlantedKind, ...]
    """One entry per kind of copy that must be caught."""

    required: float
    """Share that had to be caught."""

    encoder_limit: float
    """Cosine from which a tile was a near copy in the encoder: `NearCopyIndex.encoder_limit`."""

    examined: int
    """Real tiles drawn to find ones with something in them to recognise."""

    featureless: int
    """Of these, how many had nothing in them (`Scale.floor`) and were not copied."""

    alike: bool = False
    """Whether all copied tiles were equal: then nothing shows that the check tells tiles apart."""

    blends: PlantedKind | None = None
    """Blends with half of a real tile; None where there was no other tile to blend with."""

    blend_required: float = ControlSettings.blend_required
    """Share of them that had to be caught."""

    reported: tuple[PlantedKind, ...] = ()
    """Kinds that nothing is required of: weaker blends, and crops."""

    negatives: Share = field(default=Share(0, 0))
    """Copies of tiles set aside that were flagged in pixels; none of none without a holdout."""

    negative_limit: float = ControlSettings.negative_limit
    """Share of them that may be flagged."""

    @property
    def caught(self) -> Share:
        """Caught by pixels, all required kinds together."""
        return _together([kind.by_pixels for kind in self.kinds])

    @property
    def too_many_negatives(self) -> bool:
        """Whether more negatives were flagged than chance explains."""
        count, total = self.negatives.count, self.negatives.total
        if not count:
            return False
        test = binomtest(count, total, self.negative_limit, alternative="greater")
        return bool(test.pvalue < _CHANCE)

    @property
    def valid(self) -> bool:
        """Whether enough was caught and no more flagged; never where nothing could be planted."""
        caught = self.caught.total > 0 and self.caught.value >= self.required
        blends = self.blends is None or self.blends.by_pixels.value >= self.blend_required
        return caught and blends and not self.alike and not self.too_many_negatives

    def figures(self) -> Mapping[str, float]:
        """Figures of the audit's test ``planted_copies``."""
        low, high = self.caught.interval
        blends = self.blends.by_pixels if self.blends else Share(0, 0)
        return MappingProxyType(
            {
                "planted": self.caught.total,
                "caught": self.caught.count,
                "interval_low": round(low, 6),
                "interval_high": round(high, 6),
                "caught_by_encoder": _together([kind.by_encoder for kind in self.kinds]).count,
                "blends": blends.total,
                "blends_caught": blends.count,
                "negatives": self.negatives.total,
                "negatives_flagged": self.negatives.count,
            }
        )

    def limits(self) -> Mapping[str, float]:
        """Limits of the audit's test ``planted_copies``."""
        return MappingProxyType(
            {
                "share": self.required,
                "blend_share": self.blend_required,
                "negative_share": self.negative_limit,
            }
        )


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
        negatives=control.negatives(aside, settings.kinds),
        negative_limit=settings.negative_limit,
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
        return self._count(kind, [self._search(self._copy(place, kind)) for place in chosen])

    def blend(self, chosen: Sequence[int], kind: str, other_tile: OtherTile | None) -> PlantedKind:
        """Blends of the chosen tiles with others; none where there are no others."""
        found = []
        for place in chosen:
            other = other_tile(self.rng) if other_tile else self._another(place)
            if other is not None:
                found.append(self._search(blend(self.real_tile(place), other, BLENDS[kind])))
        return self._count(kind, found)

    def negatives(self, aside: Sequence[int], kinds: Sequence[str]) -> Share:
        """How many copies of tiles set aside are flagged, without their own patient's tiles.

        Each tile is copied in one way, since copies of one tile are not independent.
        """
        found = []
        for number, place in enumerate(aside):
            copy = self._copy(place, kinds[number % len(kinds)])
            found.append(self._search(copy, without=place))
        return self._count("negative", found).by_pixels

    def _copy(self, place: int, kind: str) -> Images:
        tile = self.real_tile(place)
        if kind in CROPS:
            return crop(tile, CROPS[kind], self.rng)
        return PLANTS[kind](tile, self.rng)

    def _another(self, place: int) -> Images | None:
        """Another real tile, of another patient where they are known."""
        own = np.arange(len(self.index)) if self.patients is None else self.patients
        others = np.flatnonzero(own != own[place])
        return self.real_tile(int(self.rng.choice(others))) if len(others) else None

    def _search(self, copy: Images, without: int | None = None) -> Nearest | None:
        """The nearest real tile; with ``without`` among those of other patients than its own."""
        own = groups = None
        if without is not None and self.patients is not None:
            own, groups = self.patients[[without]], self.patients
            if (groups == own).all():
                return None
        images = copy[None]
        return self.index.search(
            images, self.embed(images), self.real_tile, query_groups=own, row_groups=groups
        )[0]

    def _count(self, kind: str, searched: Sequence[Nearest | None]) -> PlantedKind:
        found = [nearest for nearest in searched if nearest is not None]
        pixels, encoder = self.index.settings.pixel_limit, self.index.encoder_limit
        in_pixels = sum(nearest.pixel_ncc >= pixels for nearest in found)
        in_encoder = sum(nearest.embedding_similarity >= encoder for nearest in found)
        return PlantedKind(kind, Share(in_pixels, len(found)), Share(in_encoder, len(found)))


def _together(shares: Sequence[Share]) -> Share:
    return Share(sum(share.count for share in shares), sum(share.total for share in shares))
