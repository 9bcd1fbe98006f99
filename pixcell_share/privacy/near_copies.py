"""Nearest real tile of each synthetic tile, in pixels and in an encoder.

Pixels: fingerprints (16 x 16 grey pictures) are compared with *all* real tiles under the eight
flips and rotations, exactly, by matrix products in blocks. The best few are then fetched and
compared as 64 x 64 grey pictures over small shifts; the highest correlation is the score.
Encoder: the highest cosine over all real tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import SettingsError
from pixcell_share.privacy._store import RowStore
from pixcell_share.privacy._topk import top_k
from pixcell_share.privacy.correlate import shifted_correlation
from pixcell_share.privacy.fingerprints import (
    DETAIL,
    TRANSFORMS,
    Images,
    fingerprint,
    structure,
    transform,
    variants,
)

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
RealTile = Callable[[int], Images]
"""Gives the pixels (H, W, 3) of the real tile at an index, in the order in which it was added."""

_DECIMALS = 6
"""Scores are rounded here, so that they do not depend on how the products were batched."""

_SAMPLED = 512
_USUAL = 0.95
_RANGES = (
    ("pixel_limit", 0.0, 1.0),
    ("embedding_limit", 0.0, 1.0),
    ("candidates", 1, 1000),
    ("candidate_limit", -1.0, 1.0),
    ("shift", 0, 16),
    ("block_rows", 1, 1 << 20),
)


@dataclass(frozen=True)
class NearCopySettings:
    """When a synthetic tile counts as a near copy of a real one."""

    pixel_limit: float = 0.6
    """Correlation of 64 x 64 pictures from which a tile is a near copy.

    On the real lung tiles (``python benchmarks/near_copies.py``): copies of one tile of each of
    523 groups, searched among all 10,749, score 0.98 or more when they are exact, flipped,
    rotated, recompressed, brightened, re-stained or blurred, and 0.89 when shifted by up to 3 %:
    523 of 523 caught for each kind (95 % interval from 99.3 %). Of 2,092 tiles searched among
    other groups 99 % score below 0.30; the 11 above the limit are true copies that the manifest
    lists in two groups. On tiles of real and drawn slides the highest is 0.42."""

    embedding_limit: float = 0.99
    """Cosine in the encoder below which no tile is a near copy. A synthetic tile is close to its
    source by design, and a small encoder finds real tiles closer to each other than that: a run
    raises the limit to what its own real tiles reach (`NearCopyIndex.encoder_limit`)."""

    candidates: int = 4
    """Real tiles, nearest by fingerprint, that may be compared at full detail."""

    candidate_limit: float = 0.55
    """Correlation of fingerprints below which only the nearest of them is: fetching the pixels of
    a real tile is slow, and every planted copy lies above (benchmarks/near_copies.py)."""

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


@dataclass(frozen=True)
class Nearest:
    """The real tiles nearest to one synthetic tile."""

    pixel_index: int
    """Real tile nearest in pixels."""

    pixel_ncc: float
    """Its correlation, -1 to 1."""

    transform: str
    """Flip or rotation of the *synthetic* tile that gives it: one of `TRANSFORMS`."""

    embedding_index: int
    """Real tile nearest in the encoder."""

    embedding_similarity: float
    """Its cosine, -1 to 1."""

    near_copy: bool
    """Whether either score reaches its limit."""


class NearCopyIndex:
    """Fingerprints and embeddings of all real tiles of a run: 2 (256 + dim) bytes per tile.

    Args:
        settings: limits and sizes.
    """

    def __init__(self, settings: NearCopySettings | None = None) -> None:
        self.settings = settings or NearCopySettings()
        self._fingerprints = RowStore(self.settings.block_rows)
        self._embeddings = RowStore(self.settings.block_rows)
        self._encoder_limit: float | None = None

    def __len__(self) -> int:
        return len(self._fingerprints)

    def add(self, fingerprints: Floats, embeddings: Floats) -> None:
        """Append real tiles: fingerprints (B, 256) as `fingerprint` gives them, embeddings (B, D).

        Raises:
            ValueError: different lengths, or an embedding that is not finite or is zero.
        """
        if len(fingerprints) != len(embeddings):
            raise ValueError(f"{len(fingerprints)} fingerprints for {len(embeddings)} embeddings")
        self._fingerprints.add(fingerprints)
        self._embeddings.add(_unit(embeddings))
        self._encoder_limit = None

    @property
    def encoder_limit(self) -> float:
        """Cosine from which a tile is a near copy in the encoder, given the real tiles so far.

        The site's ``embedding_limit``, or the cosine that a real tile has with its nearest *other*
        real tile in all but one case of twenty, where that is higher: closer than that lies a
        copy, or nothing that this encoder can tell from one.
        """
        if self._encoder_limit is None:
            self._encoder_limit = max(self.settings.embedding_limit, self._usual_similarity())
        return self._encoder_limit

    def search(self, images: Images, embeddings: Floats, real_tile: RealTile) -> list[Nearest]:
        """Nearest real tiles of a batch of synthetic ones.

        Args:
            images: (B, H, W, 3) RGB.
            embeddings: (B, D), from the same encoder as the real ones.
            real_tile: fetches a real tile; asked for at most ``candidates`` per synthetic tile.

        Returns:
            One `Nearest` per synthetic tile, in order.

        Raises:
            ValueError: the index is empty, the lengths differ, or an embedding is not finite or
                is zero.
        """
        if not len(self):
            raise ValueError("the index holds no real tile")
        if len(images) != len(embeddings):
            raise ValueError(f"{len(images)} images for {len(embeddings)} embeddings")
        in_encoder = self._nearest_embeddings(_unit(embeddings))
        candidates = self._candidates(variants(fingerprint(images)))
        details = structure(images, DETAIL)
        compared = zip(details, candidates, in_encoder, strict=True)
        return [
            self._decide(self._nearest_pixels(detail, candidate, real_tile), similar)
            for detail, candidate, similar in compared
        ]

    def _decide(self, pixels: tuple[int, float, int], similar: tuple[int, float]) -> Nearest:
        return Nearest(
            pixel_index=pixels[0],
            pixel_ncc=pixels[1],
            transform=TRANSFORMS[pixels[2]],
            embedding_index=similar[0],
            embedding_similarity=similar[1],
            near_copy=pixels[1] >= self.settings.pixel_limit or similar[1] >= self.encoder_limit,
        )

    def _candidates(self, queries: Floats) -> list[list[tuple[int, int]]]:
        """For each query the real tiles to compare at full detail, and how to turn it for each.

        Args:
            queries: (B, 8, F), the transformed fingerprints.
        """
        flat = queries.reshape(-1, queries.shape[2])

        def best_of_eight(block: Floats) -> Floats:
            scores: Floats = (flat @ block.T).reshape(len(queries), 8, -1).max(axis=1)
            return scores

        blocks = self._fingerprints.blocks()
        indices, _ = top_k(best_of_eight, blocks, len(queries), self.settings.candidates)
        return [self._turned(query, near) for query, near in zip(queries, indices, strict=True)]

    def _turned(self, query: Floats, near: Indices) -> list[tuple[int, int]]:
        scores = query @ self._fingerprints.take(near).T
        wanted = scores.max(axis=0) >= self.settings.candidate_limit
        wanted[0] = True
        turns = scores.argmax(axis=0)
        return list(zip(near[wanted].tolist(), turns[wanted].tolist(), strict=True))

    def _nearest_pixels(
        self, detail: Floats, candidates: list[tuple[int, int]], real_tile: RealTile
    ) -> tuple[int, float, int]:
        """The best of the candidates at full detail: index, correlation, transform."""
        found = []
        for index, turn in candidates:
            real = structure(real_tile(index)[None], DETAIL)[0]
            turned = transform(detail, turn).astype(np.float32)
            score = shifted_correlation(turned, real, self.settings.shift)
            found.append((index, round(score, _DECIMALS), turn))
        return min(found, key=lambda entry: (-entry[1], entry[0]))

    def _usual_similarity(self) -> float:
        """95 % quantile of the cosine of a real tile with its nearest other one; -1 for one tile.

        Of many real tiles, `_SAMPLED` at even distances stand for all.
        """
        if len(self) < 2:
            return -1.0
        sampled = np.unique(np.linspace(0, len(self) - 1, _SAMPLED).astype(np.int64))
        queries = self._embeddings.take(sampled)
        blocks = self._embeddings.blocks()
        near, cosines = top_k(lambda block: queries @ block.T, blocks, len(queries), 2)
        others = np.where(near[:, 0] == sampled, cosines[:, 1], cosines[:, 0])
        return min(1.0, round(float(np.quantile(others, _USUAL)), _DECIMALS))

    def _nearest_embeddings(self, embeddings: Floats) -> list[tuple[int, float]]:
        """Index and cosine of the nearest real embedding of each row (B, D), D at unit norm.

        The few best of the block products are multiplied again one by one in double precision:
        the order within a block product depends on the size of the batch in the last bits.
        """
        blocks = self._embeddings.blocks()
        indices, _ = top_k(lambda block: embeddings @ block.T, blocks, len(embeddings), 2)
        found = []
        for row, near in zip(embeddings.astype(np.float64), indices, strict=True):
            cosines = np.round(self._embeddings.take(near).astype(np.float64) @ row, _DECIMALS)
            best = np.lexsort((near, -cosines))[0]
            found.append((int(near[best]), min(float(cosines[best]), 1.0)))
        return found


def _unit(embeddings: Floats) -> Floats:
    """Embeddings at norm 1."""
    norms = np.linalg.norm(embeddings.astype(np.float32), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ValueError("an embedding is zero or not finite")
    unit: Floats = embeddings.astype(np.float32) / norms
    return unit
