"""Which patients condition the cohort, and which are set aside as its control group."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import SiteKey, shuffled_order
from pixcell_share.slides import SlideRecord
from site_agent.inputs import patient_of
from site_agent.run_folder import SlideState

_PATIENTS = "holdout v1"
_TILES = "tile choice v2"
_PROBES = 8
_PROBE_SHARE = 5


@dataclass(frozen=True)
class Groups:
    """The patients of a run, each in one of two groups, whole."""

    cohort: tuple[str, ...]
    """They condition the synthetic tiles; sorted."""
    holdout: tuple[str, ...]
    """They condition nothing; sorted."""

    @property
    def patients(self) -> tuple[str, ...]:
        """All of them: a patient's number is the place in here."""
        return (*self.cohort, *self.holdout)

    def conditions(self, record: SlideRecord) -> bool:
        """Whether a slide's tiles may condition synthetic ones."""
        return patient_of(record) in self._members

    @property
    def _members(self) -> frozenset[str]:
        return frozenset(self.cohort)


def split_patients(records: Sequence[SlideRecord], share: float, key: SiteKey) -> Groups:
    """Set aside ``share`` of the patients, rounded up, of each class alike.

    The choice is the key's: it stays when slides are added, as far as the shares allow, and
    nobody without the key can repeat it. A class keeps one patient in the cohort where it can.
    """
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for patient, label in sorted({patient_of(r): r.label or "" for r in records}.items()):
        by_class[label].append(patient)
    total = sum(len(names) for names in by_class.values())
    wanted = min(math.ceil(share * total), total - 1)
    ranked = {
        label: sorted(names, key=lambda n: _rank(key, n)) for label, names in by_class.items()
    }
    holdout: set[str] = set()
    for _ in range(wanted):
        holdout.add(_next(ranked, holdout, share))
    everyone = sorted(name for names in by_class.values() for name in names)
    return Groups(tuple(n for n in everyone if n not in holdout), tuple(sorted(holdout)))


def _next(ranked: dict[str, list[str]], holdout: set[str], share: float) -> str:
    """The next patient to set aside: of the class that is furthest below its share."""

    def lack(label: str) -> tuple[bool, float, str]:
        names = ranked[label]
        taken = sum(name in holdout for name in names)
        return len(names) - taken > 1, share * len(names) - taken, label

    label = max((label for label in ranked if set(ranked[label]) - holdout), key=lack)
    return next(name for name in ranked[label] if name not in holdout)


def _rank(key: SiteKey, patient: str) -> bytes:
    return key.derive(f"{_PATIENTS}|{patient}")


def conditioning_tiles(state: SlideState, limit: int | None, key: SiteKey) -> NDArray[np.int64]:
    """Positions of a slide's tiles that condition: all but the probes, at most ``limit``."""
    order = _tile_order(state, key)[_probes(state) :]
    return np.sort(order if limit is None else order[:limit])


def probe_tiles(state: SlideState, key: SiteKey) -> NDArray[np.int64]:
    """Positions of the tiles that condition nothing, so that the audit can play the attacker.

    A fifth of a slide's tiles, at most eight, and one where there are two.
    """
    return np.sort(_tile_order(state, key)[: _probes(state)])


def _probes(state: SlideState) -> int:
    return min(_PROBES, max(state.tiles // _PROBE_SHARE, int(state.tiles > 1)))


def _tile_order(state: SlideState, key: SiteKey) -> NDArray[np.int64]:
    return shuffled_order(key.derive(f"{_TILES}|{state.slide_id}"), state.tiles)
