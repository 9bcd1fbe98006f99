"""Authenticity: is a synthetic tile farther from its nearest real tile than that is from others?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError
from pixcell_share.privacy._near import (
    require,
    source_patients,
    to_nearest,
    to_nearest_other,
)
from pixcell_share.privacy.bootstrap import share_by_patient
from pixcell_share.privacy.intervals import Estimate
from pixcell_share.privacy.sample import AuditSample, Floats, Tiles
from pixcell_share.privacy.whitening import standardised


@dataclass(frozen=True)
class Authenticity:
    """Share of authentic tiles, with intervals by patient."""

    authentic: Estimate
    """Of the synthetic tiles."""
    control: Estimate
    """Of the holdout tiles, put in their place: what real tiles of other patients reach."""


def authenticity(sample: AuditSample, *, seed: int) -> Authenticity:
    """Share of synthetic tiles that are no noisy copy of one training tile, and of holdout tiles.

    A tile s with the nearest conditioning tile x* is authentic where d(s, x*) > d(x*, the nearest
    conditioning tile of another *patient*); equal distances count one half. (Alaa, van Breugel,
    Saveliev & van der Schaar, How Faithful is your Synthetic Data?, ICML 2022, sec. 3.3. There
    "another tile"; tiles of one patient lie so close together that almost everything would be
    authentic.)

    Raises:
        AuditError: no holdout, no tile, or conditioning tiles of one patient only.
    """
    require(sample, "authenticity")
    sample = standardised(sample)
    conditioning = sample.conditioning
    if len(np.unique(conditioning.patients)) < 2:
        raise AuditError("the cohort has one patient only", "add patients")
    ours = _authentic(sample.synthetic, conditioning)
    control = _authentic(sample.holdout.embeddings, conditioning)
    return Authenticity(
        share_by_patient(ours, source_patients(sample), seed=seed),
        share_by_patient(control, sample.holdout.patients, seed=seed + 1),
    )


def _authentic(embeddings: Floats, conditioning: Tiles) -> NDArray[np.float64]:
    """(Q,) 1 where authentic, 0 where not, one half at equal distances."""
    distances, rows = to_nearest(embeddings, conditioning.embeddings)
    unique, back = np.unique(rows, return_inverse=True)
    between, _ = to_nearest_other(
        conditioning.embeddings[unique],
        conditioning.patients[unique],
        conditioning.embeddings,
        conditioning.patients,
    )
    scored: NDArray[np.float64] = (1.0 + np.sign(distances - between[back.reshape(-1)])) / 2
    return scored
