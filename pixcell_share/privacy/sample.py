"""What the attacks compare: synthetic tiles, the tiles behind them, and patients set aside.

All embeddings are of *one* encoder, the audit's, which is another than the one that conditioned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles of one group, with what the audit knows of each."""

    embeddings: Floats
    """(N, D) in the audit's encoder; finite."""
    patients: Ints
    """(N,) number of the patient of each."""
    labels: Ints
    """(N,) number of the class of each."""

    def __post_init__(self) -> None:
        if not len(self.embeddings) == len(self.patients) == len(self.labels):
            raise ValueError("embeddings, patients and labels differ in length")
        if not np.isfinite(self.embeddings).all():
            raise AuditError(
                "an embedding is not finite", "run again with --dtype fp32, or another encoder"
            )

    def __len__(self) -> int:
        return len(self.embeddings)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Tiles:
        """The tiles at ``rows``."""
        return Tiles(self.embeddings[rows], self.patients[rows], self.labels[rows])

    def mapped(self, space: Callable[[Floats], Floats]) -> Tiles:
        """The same tiles with embeddings in another ``space``."""
        return Tiles(space(self.embeddings), self.patients, self.labels)


@dataclass(frozen=True, eq=False)
class AuditSample:
    """Three groups of real tiles, and the synthetic ones that are to be released."""

    synthetic: Floats
    """(S, D) embeddings of synthetic tiles."""
    synthetic_labels: Ints
    """(S,) class of each."""
    sources: Ints | None
    """(S, k) rows of ``conditioning`` that each was made from; None where no tile alone was
    (differentially private conditioning) or it is not known."""
    conditioning: Tiles
    """Real tiles that conditioned the cohort."""
    probes: Tiles
    """Other tiles of the same patients, which conditioned nothing: what an attacker may hold."""
    holdout: Tiles
    """Tiles of patients who are not in the cohort: the control group."""

    def __post_init__(self) -> None:
        """Refuse groups that would make the comparison void.

        Raises:
            AuditError: a holdout patient is in the cohort, or an embedding is not finite.
        """
        members = np.union1d(self.conditioning.patients, self.probes.patients)
        shared = np.intersect1d(members, self.holdout.patients)
        if len(shared):
            raise AuditError(
                f"{len(shared)} patients are in the cohort and in the holdout",
                "set patients aside whole: correct case_id in the slide table",
            )
        if not np.isfinite(self.synthetic).all():
            raise AuditError(
                "an embedding of a synthetic tile is not finite",
                "run again with --dtype fp32, or another encoder",
            )
