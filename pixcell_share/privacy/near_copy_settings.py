"""Limits and sizes of the search for near copies."""

from __future__ import annotations

from dataclasses import dataclass

from pixcell_share.errors import SettingsError

_RANGES = (
    ("pixel_limit", 0.0, 1.0),
    ("part_limit", 0.0, 1.0),
    ("embedding_limit", 0.0, 1.0),
    ("candidates", 1, 1000),
    ("candidate_limit", -1.0, 1.0),
    ("crop_candidates", 0, 1000),
    ("shift", 0, 16),
    ("block_rows", 1, 1 << 20),
)


@dataclass(frozen=True)
class NearCopySettings:
    """When a synthetic tile counts as a near copy of a real one."""

    pixel_limit: float = 0.45
    """Correlation of 64 x 64 pictures from which a tile is a near copy. A blend with half of a real
    tile correlates by 0.71 where both halves have the same contrast, by 0.45 where the other one
    has twice as much. Measured on the lung tiles by ``python benchmarks/near_copies.py``, whose
    result has the shares caught and the highest score of unrelated tiles; on tiles of real and
    drawn slides the highest of those was 0.42."""

    part_limit: float = 0.6
    """The same for enlarged parts of real tiles: they are compared in many more places, so
    unrelated tiles come closer. Below it the score of the whole tile counts."""

    embedding_limit: float = 0.99
    """Cosine in the encoder below which no tile is a near copy. A synthetic tile is close to its
    source by design, and a small encoder finds real tiles closer to each other than that: a run
    raises the limit to what its own real tiles reach (`NearCopyIndex.encoder_limit`)."""

    candidates: int = 4
    """Real tiles, nearest by fingerprint, that may be compared at full detail."""

    candidate_limit: float = 0.35
    """Correlation of whitened fingerprints below which only the nearest of them is: fetching the
    pixels of a real tile is slow, and nearly every planted copy lies above."""

    crop_candidates: int = 8
    """Real tiles of which a synthetic one may be an enlarged part, nearest by the middle of their
    fingerprints, that are compared over the whole part; 0 for no such search. It costs 4 ms and
    another 0.5 ms per 1,000 real tiles for each synthetic one."""

    shift: int = 4
    """Shifts that the comparison at full detail tolerates, in 64ths of the tile's side."""

    block_rows: int = 4096
    """Real tiles per matrix product: memory, not the result, depends on it."""

    def __post_init__(self) -> None:
        """Refuse limits that nothing could reach, and sizes that cannot be.

        Raises:
            SettingsError: an entry is out of range.
        """
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= high:
                raise SettingsError(
                    f"{name} = {value!r} is not between {low:g} and {high:g}",
                    f"leave it out for the default, {getattr(NearCopySettings, name):g}",
                )
