"""Nearest real tile of each synthetic tile, in pixels and in an encoder.

Pixels: fingerprints (16 x 16 grey pictures) are compared with *all* real tiles under the eight
flips and rotations, whitened and exactly, by matrix products in blocks. The best few are then
fetched and compared as 64 x 64 grey pictures over small shifts; the highest correlation is the
score. A tile that is no near copy of a whole tile is compared as a part of one (`crops`).
Encoder: the highest cosine over all real tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixcell_share.privacy._store import RowStore
from pixcell_share.privacy.correlate import shifted_correlation
from pixcell_share.privacy.crops import Parts, middles
from pixcell_share.privacy.fingerprints import (
    DETAIL,
    TRANSFORMS,
    Images,
    fingerprint,
    structure,
    transform,
    variants,
    whitened,
)
from pixcell_share.privacy.near_copy_settings import NearCopySettings
from pixcell_share.privacy.neighbours import Metric, Neighbours, nearest

__all__ = ["NearCopyIndex", "NearCopySettings", "Nearest", "RealTile"]

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
RealTile = Callable[[int], Images]
"""Gives the pixels (H, W, 3) of the real tile at an index, in the order in which it was added."""

RealDetail = Callable[[int], Floats]
"""Gives its structure at `DETAIL`."""

_DECIMALS = 6
"""Scores are rounded here, so that they do not depend on how the products were batched."""

_LIKELY_PART = 0.55
"""Correlation with a part of a fingerprint from which the real tile's pixels are fetched."""

_SAMPLED = 512
_USUAL = 0.95


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

    part: float = 1.0
    """Side of the part of the real tile that it was compared with, as a share; 1 for the whole."""


class NearCopyIndex:
    """Fingerprints and embeddings of all real tiles of a run: 2 (576 + dim) bytes per tile.

    Args:
        settings: limits and sizes.
    """

    def __init__(self, settings: NearCopySettings | None = None) -> None:
        self.settings = settings or NearCopySettings()
        self._fingerprints = RowStore(self.settings.block_rows)
        self._whitened = RowStore(self.settings.block_rows)
        self._middles = RowStore(self.settings.block_rows)
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
        self._whitened.add(whitened(fingerprints))
        self._middles.add(middles(fingerprints))
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

    def search(
        self,
        images: Images,
        embeddings: Floats,
        real_tile: RealTile,
        *,
        query_groups: Indices | None = None,
        row_groups: Indices | None = None,
    ) -> list[Nearest]:
        """Nearest real tiles of a batch of synthetic ones.

        Args:
            images: (B, H, W, 3) RGB.
            embeddings: (B, D), from the same encoder as the real ones.
            real_tile: fetches a real tile; asked for at most ``candidates`` per synthetic tile.
            query_groups: (B,) with ``row_groups``: real tiles of the same group are passed over,
                as those of a patient whose own tile is searched.
            row_groups: (N,).

        Returns:
            One `Nearest` per synthetic tile, in order.

        Raises:
            ValueError: the index is empty, the lengths differ, an embedding is not finite or is
                zero, or all real tiles are of one group that is passed over.
        """
        if not len(self):
            raise ValueError("the index holds no real tile")
        if len(images) != len(embeddings):
            raise ValueError(f"{len(images)} images for {len(embeddings)} embeddings")
        groups = _Groups(query_groups, row_groups)
        in_encoder = self._nearest_embeddings(_unit(embeddings), groups)
        candidates = self._candidates(variants(fingerprint(images)), groups)
        details = structure(images, DETAIL)

        @cache  # the real tiles nearest to one are often those nearest to another
        def real_detail(index: int) -> Floats:
            detail: Floats = structure(real_tile(index)[None], DETAIL)[0]
            return detail

        found = []
        for i, (detail, near) in enumerate(zip(details, candidates, strict=True)):
            pixels = self._nearest_pixels(detail, near, real_detail)
            if pixels.score < self.settings.pixel_limit:
                part = self._nearest_part(images[i], groups.passed_over(i), real_detail)
                pixels = part if part.score >= self.settings.part_limit else pixels
            found.append(self._decide(pixels, in_encoder[i]))
        return found

    def _decide(self, pixels: _Match, similar: tuple[int, float]) -> Nearest:
        in_pixels = pixels.score >= self.settings.pixel_limit
        return Nearest(
            pixel_index=pixels.tile,
            pixel_ncc=pixels.score,
            transform=TRANSFORMS[pixels.turn],
            embedding_index=similar[0],
            embedding_similarity=similar[1],
            near_copy=in_pixels or similar[1] >= self.encoder_limit,
            part=pixels.part,
        )

    def _candidates(self, queries: Floats, groups: _Groups) -> list[list[tuple[int, int]]]:
        """For each query the real tiles to compare at full detail, and how to turn it for each.

        Args:
            queries: (B, 8, F), the transformed fingerprints.
            groups: what is passed over.
        """
        flat = whitened(queries.reshape(-1, queries.shape[2]))
        count = self.settings.candidates
        found = self._nearest(flat, self._whitened, count, "product", groups.each(8))
        near = found.indices.reshape(len(queries), -1)
        scores = np.round(-found.distances.reshape(near.shape), _DECIMALS)
        return [self._best_turns(*each) for each in zip(near, scores, strict=True)]

    def _best_turns(self, near: Indices, scores: Floats) -> list[tuple[int, int]]:
        """Of the nearest real tiles (8 x count) under each turn, the nearest under any."""
        turns = np.repeat(np.arange(8), len(near) // 8)
        chosen: dict[int, int] = {}
        for place in np.lexsort((turns, near, -scores)):
            wanted = not chosen or scores[place] >= self.settings.candidate_limit
            if wanted and near[place] >= 0:
                chosen.setdefault(int(near[place]), int(turns[place]))
        if not chosen:
            raise ValueError("every real tile is passed over")
        return list(chosen.items())[: self.settings.candidates]

    def _nearest_pixels(
        self, detail: Floats, candidates: list[tuple[int, int]], real_detail: RealDetail
    ) -> _Match:
        """The best of the candidates at full detail."""
        found = []
        for index, turn in candidates:
            turned = transform(detail, turn).astype(np.float32)
            score = shifted_correlation(turned, real_detail(index), self.settings.shift)
            found.append(_Match(index, round(score, _DECIMALS), turn))
        return min(found, key=lambda match: (-match.score, match.tile))

    def _nearest_part(
        self, image: Images, passed_over: NDArray[np.bool_] | None, real_detail: RealDetail
    ) -> _Match:
        """The real tile of which ``image`` is most likely a part."""
        best = _Match(0, -1.0, 0)
        if not self.settings.crop_candidates:
            return best
        parts = Parts(image)
        likely = []
        for index in parts.candidates(self._middles, self.settings.crop_candidates, passed_over):
            score, place = parts.place(self._fingerprints.take(np.array([index]))[0])
            likely.append((-round(score, _DECIMALS), index, place))
        for score, index, place in sorted(likely)[: self.settings.candidates]:
            if -score >= _LIKELY_PART:
                detail, part = parts.detail(real_detail(index), place)
                match = _Match(index, round(detail, _DECIMALS), place.turn, part)
                best = max(best, match, key=lambda match: match.score)
        return best

    def _usual_similarity(self) -> float:
        """95 % quantile of the cosine of a real tile with its nearest other one; -1 for one tile.

        Of many real tiles, `_SAMPLED` at even distances stand for all.
        """
        if len(self) < 2:
            return -1.0
        sampled = np.unique(np.linspace(0, len(self) - 1, _SAMPLED).astype(np.int64))
        queries = self._embeddings.take(sampled)
        found = self._nearest(queries, self._embeddings, 2, "cosine", _Groups())
        itself = found.indices[:, 0] == sampled
        others = 1.0 - np.where(itself, found.distances[:, 1], found.distances[:, 0])
        return min(1.0, round(float(np.quantile(others, _USUAL)), _DECIMALS))

    def _nearest_embeddings(self, embeddings: Floats, groups: _Groups) -> list[tuple[int, float]]:
        """Index and cosine of the nearest real embedding of each row (B, D)."""
        found = self._nearest(embeddings, self._embeddings, 1, "cosine", groups)
        cosines = np.round(1.0 - found.distances[:, 0].astype(np.float64), _DECIMALS)
        return list(zip(found.indices[:, 0].tolist(), cosines.tolist(), strict=True))

    def _nearest(
        self, queries: Floats, rows: RowStore, count: int, metric: Metric, groups: _Groups
    ) -> Neighbours:
        return nearest(
            queries,
            rows,
            count,
            metric=metric,
            query_groups=groups.queries,
            row_groups=groups.rows,
            block_bytes=8 * self.settings.block_rows * queries.shape[1],
        )


class _Match(NamedTuple):
    """A real tile and how well it matches in pixels."""

    tile: int
    score: float
    turn: int
    part: float = 1.0


@dataclass(frozen=True, eq=False)
class _Groups:
    """Which real tiles are passed over for which query: those of its own group."""

    queries: Indices | None = None
    rows: Indices | None = None

    def each(self, times: int) -> _Groups:
        """For queries that are each repeated."""
        return _Groups(None if self.queries is None else self.queries.repeat(times), self.rows)

    def passed_over(self, query: int) -> NDArray[np.bool_] | None:
        """(N,) which real tiles a query passes over."""
        if self.queries is None or self.rows is None:
            return None
        passed: NDArray[np.bool_] = self.rows == self.queries[query]
        return passed


def _unit(embeddings: Floats) -> Floats:
    """Embeddings at norm 1."""
    norms = np.linalg.norm(embeddings.astype(np.float32), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ValueError("an embedding is zero or not finite")
    unit: Floats = embeddings.astype(np.float32) / norms
    return unit
