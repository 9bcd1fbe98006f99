"""Do weights that were trained on a site's tiles tell which tiles those were?

Reads the latent stores that ``pixcell-train`` learned from: their ``train`` rows are members, and
their ``holdout`` rows, of other patients, are not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import DataError, SettingsError, WeightsMismatchError
from pixcell_share.pixcell import PixCell
from pixcell_share.privacy.membership import Membership, infer_membership
from pixcell_share.privacy.membership_scores import (
    MembershipScores,
    MembershipSettings,
    membership_scores,
)
from pixcell_share.progress import Advance, View
from pixcell_share.training.latents import SPLITS, LatentStore, Split
from pixcell_share.training.record import TrainingRecord, patient_of, rows_digest

Ints = NDArray[np.int64]
_PORTION = 32
"""Regions read and scored between two steps of the view."""
_ROUNDING = 1e-3
_AS_SCANNED = "0"
"""Of a region stored in eight orientations only this one is scored: they are no eight tiles."""


@dataclass(frozen=True)
class _Region:
    """One row of one store."""

    store: int
    row: int
    patient: str


def check_membership(
    generator: PixCell,
    stores: Sequence[Path],
    *,
    limit: int,
    seed: int,
    view: View,
    record: TrainingRecord | None = None,
    settings: MembershipSettings | None = None,
) -> Membership:
    """Score regions that the weights were trained on, and regions that were held out.

    Args:
        generator: best in float32.
        stores: what it was trained on, from ``pixcell-train latents``.
        limit: regions scored of each kind, at most; they are spread over the patients.
        seed: of the choice of regions and of the bootstrap; the noise's is in ``settings``.
        view: shows how it goes on.
        record: what the model's folder says it was trained on (`trained_here`); the stores then
            have to be those.
        settings: time steps and noise.

    Raises:
        SettingsError: no region is held out or may be scored, or the stores are not those of
            ``record``.
        DataError: a store is damaged, or a patient is both trained on and held out.
        WeightsMismatchError: the store's numbers mean something else than the generator's.
    """
    if limit < 1:
        raise SettingsError(f"the limit is {limit}", "score at least one region, better hundreds")
    opened = [LatentStore.open(folder) for folder in stores]
    for store in opened:
        _check_fit(generator, store)
    if record is not None:
        _check_record(generator.tile_px, opened, record, view)
    regions = {split: _regions(opened, split) for split in SPLITS}
    _check_sides(stores, regions)
    chosen = {split: _spread(regions[split], limit, seed) for split in SPLITS}
    scorer = _Scorer(generator, opened, settings or MembershipSettings(), seed)
    with view.stage("membership", sum(map(len, chosen.values())), "regions") as advance:
        member, other = (scorer.scores(split, chosen[split], advance) for split in SPLITS)
    patients = [_numbers([region.patient for region in chosen[split]]) for split in SPLITS]
    shift = 1 + int(patients[0].max())  # no patient is on both sides: `_check_sides`
    return infer_membership(member, patients[0], other, patients[1] + shift, seed=seed)


def _check_fit(generator: PixCell, store: LatentStore) -> None:
    """Refuse a store whose numbers mean something else; its VAE may be stored more precisely."""
    info, config = store.info, generator.transformer.config
    cell = config.sample_size / math.isqrt(generator.tokens)
    pairs = {
        "embeddings have length": (info.embedding_dim, generator.embedding_dim),
        "latents have this many channels:": (info.latent_channels, config.in_channels),
        "latent pixels along a tile are": (info.latent_side / info.grid, cell),
        "VAE has the scaling_factor": (info.scaling_factor, generator.codec.scale),
        "VAE has the shift_factor": (info.shift_factor, generator.codec.shift),
    }
    for name, (found, wanted) in pairs.items():
        if abs(found - wanted) > _ROUNDING * abs(wanted):
            raise WeightsMismatchError(
                f"in {store.folder} the {name} {found:g}; the generator's is {wanted:g}",
                "name the stores that this generator was trained on",
            )
    if info.grid**2 < generator.tokens:
        raise WeightsMismatchError(
            f"{store.folder} holds regions of {info.region_px} px, and the generator draws "
            f"{generator.tile_px} px",
            "name a store of regions at least as large as the generator's tiles",
        )


def _check_record(
    tile_px: int, opened: Sequence[LatentStore], record: TrainingRecord, view: View
) -> None:
    """Refuse other stores than the recorded ones, and recorded ones that were not named."""
    given = {rows_digest(store.folder): store for store in opened}
    known = {store.rows_sha256: store for store in record.stores}
    if not known:
        raise SettingsError(
            "the model's training.json does not say which stores it was trained on",
            "go on with its run for a step and export it again with this version",
        )
    strange = [str(given[digest].folder) for digest in given if digest not in known]
    if strange:
        raise SettingsError(
            f"the model was not trained on {', '.join(strange)}, or that has changed since",
            "name the stores that `pixcell-train run` was given, unchanged",
        )
    absent = [known[digest] for digest in known if digest not in given]
    missing = [store for store in absent if store.region_px >= tile_px]
    if missing:
        listed = ", ".join(f"{s.regions} regions of {s.patients} patients" for s in missing)
        raise SettingsError(
            f"the model was also trained on a store that was not named: {listed}",
            "name every store that the model was trained on",
        )
    if absent:
        view.say(
            f"{len(absent)} stores of an earlier stage hold regions smaller than this model "
            "draws: what it may remember of those is not tested"
        )


def _regions(opened: Sequence[LatentStore], split: Split) -> list[_Region]:
    return [
        _Region(number, row, patient_of(entry))
        for number, store in enumerate(opened)
        for row, entry in enumerate(store.index(split))
        if entry.turn == _AS_SCANNED
    ]


def _spread(regions: Sequence[_Region], limit: int, seed: int) -> list[_Region]:
    """At most ``limit`` random regions, as equally many of each patient as there are."""
    by_patient: dict[str, list[_Region]] = defaultdict(list)
    for at in np.random.default_rng(seed).permutation(len(regions)):
        by_patient[regions[at].patient].append(regions[at])
    ranked = [(place, region) for own in by_patient.values() for place, region in enumerate(own)]
    ranked.sort(key=lambda pair: pair[0])  # stable: the first of each patient, then the second
    return [region for _, region in ranked[:limit]]


def _check_sides(stores: Sequence[Path], regions: Mapping[Split, Sequence[_Region]]) -> None:
    """Refuse stores in which there is nothing to compare, or where a control is none.

    Raises:
        SettingsError: a split is empty.
        DataError: a patient is on both sides.
    """
    kinds: Mapping[Split, str] = {"train": "to train on", "holdout": "held out"}
    for split, what in kinds.items():
        if not regions[split]:
            names = ", ".join(map(str, stores)) or "no store"
            raise SettingsError(
                f"there is no region {what} in {names}",
                "give stores made with --holdout 0.1: without others nothing can be compared",
            )
    sides = [{region.patient for region in regions[split]} for split in SPLITS]
    shared = sides[0] & sides[1]
    if shared:
        raise DataError(
            f"{len(shared)} patients are both trained on and held out",
            "make the store, and the weights, anew with --holdout-by slide and a table of cases",
        )


def _numbers(names: Sequence[str]) -> Ints:
    """A number for each name, from 0 on."""
    numbers: Ints = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    return numbers


class _Scorer:
    """Reads regions in portions and scores them."""

    def __init__(
        self,
        generator: PixCell,
        opened: Sequence[LatentStore],
        settings: MembershipSettings,
        seed: int,
    ) -> None:
        self._generator, self._opened, self._settings = generator, opened, settings
        self._tokens = math.isqrt(generator.tokens)
        self._seed = seed

    def scores(
        self, split: Split, regions: Sequence[_Region], advance: Advance
    ) -> MembershipScores:
        """Scores of ``regions``, in their order.

        Raises:
            DataError: a region holds NaN or infinite numbers.
        """
        parts = []
        for start in range(0, len(regions), _PORTION):
            portion = regions[start : start + _PORTION]
            pairs = [self._read(split, region) for region in portion]
            latents, embeddings = (np.stack(values) for values in zip(*pairs, strict=True))
            rows = np.arange(start, start + len(portion)) + SPLITS.index(split) * 2**32
            parts.append(
                membership_scores(
                    self._generator, latents, embeddings, rows=rows, settings=self._settings
                )
            )
            advance(len(portion))
        return MembershipScores.join(parts)

    def _read(
        self, split: Split, region: _Region
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Latents (C, S, S) and embeddings (T, D); of a larger region a random part, as trained."""
        store = self._opened[region.store]
        rng = np.random.default_rng([self._seed, region.store, SPLITS.index(split), region.row])
        place = rng.integers(0, store.info.grid - self._tokens + 1, size=(1, 2))
        found = store.read_crops(split, np.array([region.row]), place, self._tokens)
        if not found.finite.all():
            about = store.describe(split, region.row)
            raise DataError(
                f"{store.folder}, shard {about['shard']}, row {about['row']} holds NaN or "
                "infinite numbers",
                "find what is wrong with `pixcell-train latents check`",
            )
        return found.latents[0], found.embeddings[0]
