"""Does the audit's encoder see anything: what the attack finds if the real tiles were released."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pixcell_share.privacy._near import require
from pixcell_share.privacy.intervals import Share
from pixcell_share.privacy.linkage import Linkage, LinkageSettings, patient_linkage
from pixcell_share.privacy.neighbours import nearest
from pixcell_share.privacy.sample import AuditSample

DISTINCT = 0.5
"""Share of distinct tiles below which an encoder sees nothing: it maps most of them to others."""
_ASKED = 4096
_EQUAL = 1e-6


@dataclass(frozen=True, eq=False)
class EncoderControl:
    """What the encoder could have shown on these tiles."""

    real_tiles: int
    dim: int
    distinct: Share
    """Real tiles whose nearest other real tile is not the same to the encoder. Of many tiles,
    4096 at even distances are asked."""
    ceiling: Linkage
    """Patient linkage with the conditioning tiles themselves in place of the synthetic ones."""

    @property
    def valid(self) -> bool:
        """Whether the encoder tells most tiles apart (`DISTINCT`)."""
        return self.distinct.value >= DISTINCT


def encoder_control(
    sample: AuditSample, *, seed: int, settings: LinkageSettings | None = None
) -> EncoderControl:
    """Measure the audit's encoder on the real tiles, with the seed and settings of the linkage.

    Raises:
        AuditError: as `patient_linkage`.
    """
    require(sample, "the control of the second encoder")
    conditioning = sample.conditioning
    released = replace(
        sample,
        synthetic=conditioning.embeddings,
        synthetic_labels=conditioning.labels,
        sources=np.arange(len(conditioning), dtype=np.int64)[:, None],
    )
    groups = (conditioning, sample.probes, sample.holdout)
    return EncoderControl(
        real_tiles=sum(len(group) for group in groups),
        dim=conditioning.embeddings.shape[1],
        distinct=_distinct(sample),
        ceiling=patient_linkage(released, seed=seed, settings=settings),
    )


def _distinct(sample: AuditSample) -> Share:
    groups = (sample.conditioning, sample.probes, sample.holdout)
    rows = np.concatenate([group.embeddings for group in groups])
    asked = np.unique(np.linspace(0, len(rows) - 1, _ASKED).astype(np.int64))
    found = nearest(rows[asked], rows, 1, metric="euclidean", exclude=asked)
    scale = np.linalg.norm(rows[asked], axis=1) + 1.0
    return Share(int((found.distances[:, 0] > _EQUAL * scale).sum()), len(asked))
