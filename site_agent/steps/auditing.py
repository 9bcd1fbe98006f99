"""Fifth step: embed what the audit compares in its own encoder, and attack.

The attacks see tiles, never more of them than `AuditSettings` says; which ones, the key decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import SiteKey, shuffled_order
from pixcell_share.encoders import Encoder
from pixcell_share.files import atomic_path
from pixcell_share.privacy import AuditSample, Tiles
from pixcell_share.progress import View
from pixcell_share.slides import SlideRecord, read_features
from site_agent.clock import Clock
from site_agent.groups import Groups, conditioning_tiles, probe_tiles
from site_agent.inputs import UNLABELLED, patient_of
from site_agent.models import Embedder, one_vector
from site_agent.run_folder import RunFolder, SlideState
from site_agent.steps.accepted import Accepted
from site_agent.steps.checking import final_image
from site_agent.steps.conditions import Source
from site_agent.steps.real_tiles import RealTiles

_SAMPLE = "audit sample v1"
_BATCH = 32
_NO_CLASS = -1

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class AuditSettings:
    """How many tiles the attacks compare. More sharpen the intervals and take time."""

    synthetic: int = 20_000
    """Synthetic tiles at most, chosen with the site's key."""
    slide_tiles: int = 64
    """Real tiles of a slide at most, in the group that conditions and in the one set aside."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """Real tiles of a run, by number, with patient and class."""

    tiles: Ints
    patients: Ints
    labels: Ints


class Auditor:
    """Gathers what the attacks compare."""

    def __init__(
        self,
        run: RunFolder,
        inventory: str,
        records: Sequence[SlideRecord],
        states: Sequence[SlideState],
        groups: Groups,
        real: RealTiles,
        encoder: Encoder | Embedder,
        key: SiteKey,
        view: View,
        clock: Clock,
        settings: AuditSettings | None = None,
        seed: int = 0,
    ) -> None:
        self._run = run
        self._inventory = inventory
        used = [pair for pair in zip(records, states, strict=True) if pair[1].used]
        self._used = used
        self._groups = groups
        self._real = real
        self._encoder = encoder
        self._key = key
        self._view = view
        self._clock = clock
        self._settings = settings or AuditSettings()
        self._seed = seed
        self._number = {name: place for place, name in enumerate(groups.patients)}
        names = sorted({record.label or UNLABELLED for record, _ in used})
        self._label = {name: place for place, name in enumerate(names)}

    def sample(self, accepted: Accepted) -> AuditSample:
        """The three groups of real tiles and the synthetic ones, in the audit's encoder.

        Raises:
            AuditError: an embedding is not finite.
        """
        chosen = self._chosen(accepted)
        conditioning, probes, holdout = self._groups_of_tiles()
        synthetic, labels, members = self._synthetic(accepted, chosen)
        if members is not None:
            behind = np.unique(members)
            conditioning = self._only(conditioning, behind)
            sources = np.searchsorted(behind, members)
        sample = AuditSample(
            synthetic=synthetic,
            synthetic_labels=labels,
            sources=None if members is None else sources,
            conditioning=self._embedded(conditioning),
            probes=self._embedded(probes),
            holdout=self._embedded(holdout),
        )
        return sample if (labels >= 0).all() else _without_classes(sample)

    def _chosen(self, accepted: Accepted) -> Ints:
        """Released tiles to attack: of each slide, or of all together, no more than its share.

        The groups would differ in size otherwise, and a larger group lies nearer to everything.
        """
        order = shuffled_order(self._key.derive(f"{_SAMPLE}|{self._seed}"), len(accepted))
        sources = [block.source for block, _ in accepted.checked]
        names = {source.name: place for place, source in enumerate(sources)}
        owner = np.array([names[source.name] for source in sources])[accepted.block[order]]
        share = np.array([self._share(source) for source in sources])[accepted.block[order]]
        kept = order[_rank_within(owner) < share]
        return np.sort(kept[: self._settings.synthetic])

    def _share(self, source: Source) -> int:
        """Synthetic tiles of a source at most."""
        if source.slide:
            return self._settings.slide_tiles
        slides = sum(
            self._groups.conditions(record) and (record.label or UNLABELLED) == source.label
            for record, _ in self._used
        )
        return max(1, self._settings.slide_tiles * slides // max(1, self._run.settings.mix))

    # -- real tiles -----------------------------------------------------------------------

    def _groups_of_tiles(self) -> tuple[_Rows, _Rows, _Rows]:
        """Conditioning tiles, probes of the same patients, and tiles of patients set aside.

        Patients set aside give the tiles that they would have given in the cohort, so that the
        groups differ in nothing but what conditioned.
        """
        limit = self._run.settings.max_tiles
        groups: tuple[list[_Rows], list[_Rows], list[_Rows]] = ([], [], [])
        for record, state in self._used:
            conditioning = conditioning_tiles(state, limit, self._key)
            probes = probe_tiles(state, self._key)
            if self._groups.conditions(record):
                if self._run.settings.dp_epsilon is not None:
                    conditioning = self._some(state, conditioning)
                groups[0].append(self._rows(record, conditioning))
                groups[1].append(self._rows(record, probes))
            else:
                some = self._some(state, conditioning)
                groups[2].append(self._rows(record, np.union1d(some, probes)))
        return _joined(groups[0]), _joined(groups[1]), _joined(groups[2])

    def _some(self, state: SlideState, tiles: Ints) -> Ints:
        order = shuffled_order(self._key.derive(f"{_SAMPLE}|{state.slide_id}"), len(tiles))
        return np.sort(tiles[order[: self._settings.slide_tiles]])

    def _rows(self, record: SlideRecord, positions: Ints) -> _Rows:
        start = self._real.index(record.slide_id, 0)
        patient, label = self._number[patient_of(record)], record.label or UNLABELLED
        return _Rows(
            positions + start,
            np.full(len(positions), patient, np.int64),
            np.full(len(positions), self._label[label], np.int64),
        )

    def _only(self, rows: _Rows, tiles: Ints) -> _Rows:
        """The rows of ``tiles``, sorted by tile."""
        order = np.argsort(rows.tiles)
        kept = order[np.searchsorted(rows.tiles[order], tiles)]
        return _Rows(rows.tiles[kept], rows.patients[kept], rows.labels[kept])

    def _embedded(self, rows: _Rows) -> Tiles:
        found = np.empty((len(rows.tiles), self._encoder.dim), np.float32)
        places = np.searchsorted(self._real.starts, rows.tiles, side="right") - 1
        with self._view.stage("audit real", len(rows.tiles), "tiles", 0) as advance:
            for slide in np.unique(places):
                mine = np.flatnonzero(places == slide)
                found[mine] = self._of_slide(int(slide), rows.tiles[mine])
                advance(len(mine))
        return Tiles(found, rows.patients, rows.labels)

    def _of_slide(self, slide: int, tiles: Ints) -> Floats:
        """Embeddings of tiles of one slide; those computed before are kept in the work folder."""
        start = self._real.starts[slide]
        slide_id = self._real.place(start)[0].slide_id
        if self._encoder.name == self._run.settings.encoder_name:
            with read_features(self._run.features(slide_id)) as features:
                rows = [features[place : place + 1] for place in (tiles - start).tolist()]
            return one_vector(np.concatenate(rows).astype(np.float32))
        place = self._run.audit_real(self._encoder.name, slide_id)
        known, embeddings = _load(place, self._encoder.dim)
        missing = np.setdiff1d(tiles - start, known)
        if len(missing):
            fresh = self._embed(self._real.image(start + int(at)) for at in missing)
            known, embeddings = np.concatenate([known, missing]), np.vstack([embeddings, fresh])
            order = np.argsort(known)
            known, embeddings = known[order], embeddings[order]
            _save(place, known, embeddings)
        found: Floats = embeddings[np.searchsorted(known, tiles - start)]
        return found

    # -- synthetic tiles ------------------------------------------------------------------

    def _synthetic(self, accepted: Accepted, chosen: Ints) -> tuple[Floats, Ints, Ints | None]:
        """Embeddings (S, D), classes (S,), and the real tiles (S, k) behind each."""
        embeddings, labels, members = [], [], []
        blocks = accepted.block[chosen]
        with self._view.stage("audit synthetic", len(chosen), "tiles", 0) as advance:
            for number in np.unique(blocks):
                positions = accepted.position[chosen[blocks == number]]
                block, _ = accepted.checked[int(number)]
                embeddings.append(self._of_block(accepted, int(number), positions))
                label = self._label.get(block.source.label, _NO_CLASS)
                labels.append(np.full(len(positions), label, np.int64))
                start = self._real.index(block.name, 0) if block.source.slide else 0
                members.append(block.source.members(block.conditions[positions], start))
                advance(len(positions))
        if not embeddings:
            return np.empty((0, self._encoder.dim), np.float32), np.empty(0, np.int64), None
        known = [found for found in members if found is not None]
        behind = np.concatenate(known) if len(known) == len(members) else None
        return np.concatenate(embeddings), np.concatenate(labels), behind

    def _of_block(self, accepted: Accepted, number: int, positions: Ints) -> Floats:
        block, check = accepted.checked[number]
        place = self._run.audit_draws(self._encoder.name, self._inventory, block.name, block.number)
        known, embeddings = _load(place, self._encoder.dim)
        if not np.isin(positions, known).all():
            known = np.flatnonzero(check.accepted)
            embeddings = self._embed(
                final_image(self._run, self._inventory, block, check, int(at)) for at in known
            )
            _save(place, known, embeddings)
        found: Floats = embeddings[np.searchsorted(known, positions)]
        return found

    def _embed(self, images: Iterator[NDArray[np.uint8]]) -> Floats:
        """Embeddings of images, in batches of one size."""
        pending: list[NDArray[np.uint8]] = []
        found: list[Floats] = []
        for image in images:
            pending.append(image)
            if len(pending) == _BATCH:
                found.append(self._one_batch(pending))
                pending = []
        if pending:
            found.append(self._one_batch(pending))
        return np.concatenate(found)

    def _one_batch(self, images: list[NDArray[np.uint8]]) -> Floats:
        with self._clock.measure("audit", len(images)):
            embeddings: Floats = self._encoder.embed(np.stack(images))
        return embeddings


def _without_classes(sample: AuditSample) -> AuditSample:
    """The same in one class, where tiles from elsewhere have classes that the run does not know."""

    def plain(tiles: Tiles) -> Tiles:
        return replace(tiles, labels=np.zeros(len(tiles), np.int64))

    return replace(
        sample,
        synthetic_labels=np.zeros(len(sample.synthetic), np.int64),
        conditioning=plain(sample.conditioning),
        probes=plain(sample.probes),
        holdout=plain(sample.holdout),
    )


def _rank_within(owner: Ints) -> Ints:
    """How many entries before each have the same owner."""
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], owner[order])
    ranks = np.empty(len(owner), np.int64)
    ranks[order] = np.arange(len(owner)) - starts
    return ranks


def _joined(rows: list[_Rows]) -> _Rows:
    empty = [_Rows(*(np.empty(0, np.int64) for _ in range(3)))]
    parts = zip(*((r.tiles, r.patients, r.labels) for r in rows or empty), strict=True)
    return _Rows(*(np.concatenate(part) for part in parts))


def _load(place: Path, dim: int) -> tuple[Ints, Floats]:
    if not place.exists():
        return np.empty(0, np.int64), np.empty((0, dim), np.float32)
    with np.load(place) as stored:
        return stored["tiles"], stored["embeddings"]


def _save(place: Path, tiles: Ints, embeddings: Floats) -> None:
    with atomic_path(place) as part, part.open("wb") as stream:
        np.savez(stream, tiles=tiles, embeddings=embeddings)
