"""What the control plants and requires, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from scipy.stats import binomtest

from pixcell_share.privacy.intervals import Share

_CHANCE = 0.05
"""How often, at most, a check that just reaches a rate on average is called invalid for it."""


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
    """Share of the blends with half of a real tile that must be caught. Unlike copies some are
    missed by nature, so few of them say little: the checks are invalid when a true share of this
    size would give so few in less than 5 % of controls (one-sided binomial test). Of 32 blends
    five misses are too many."""

    negative_limit: float = 0.01
    """Share of negatives that may be flagged, likewise: of 32 negatives two flags are too many, of
    100 four."""


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

    negatives: Share = Share(0, 0)
    """Copies of tiles set aside that were flagged in pixels; none of none without a holdout."""

    negative_limit: float = ControlSettings.negative_limit
    """Share of them that may be flagged."""

    mistaken: tuple[tuple[int, int], ...] = ()
    """Of each flagged one, the tile set aside and the tile of another patient that it was taken
    for. Private: one patient under two names shows here."""

    @property
    def caught(self) -> Share:
        """Caught by pixels, all required kinds together."""
        return _together([kind.by_pixels for kind in self.kinds])

    @property
    def too_many_negatives(self) -> bool:
        """Whether more negatives were flagged than chance explains."""
        return _beyond_chance(self.negatives, self.negative_limit, "greater")

    @property
    def too_few_blends(self) -> bool:
        """Whether fewer blends were caught than chance explains."""
        if self.blends is None:
            return False
        return _beyond_chance(self.blends.by_pixels, self.blend_required, "less")

    @property
    def valid(self) -> bool:
        """Whether enough was caught and no more flagged; never where nothing could be planted."""
        caught = self.caught.total > 0 and self.caught.value >= self.required
        doubts = self.alike or self.too_few_blends or self.too_many_negatives
        return caught and not doubts

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


def _beyond_chance(found: Share, rate: float, side: Literal["greater", "less"]) -> bool:
    """Whether a true share of ``rate`` would seldom give so many, or so few."""
    if not found.total:
        return False
    return bool(binomtest(found.count, found.total, rate, alternative=side).pvalue < _CHANCE)


def _together(shares: Sequence[Share]) -> Share:
    return Share(sum(share.count for share in shares), sum(share.total for share in shares))
