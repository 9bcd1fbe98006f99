"""Which encoders a cohort has gone into, also by way of cohorts that an encoder helped to make.

A cohort names the weights that made it by their SHA-256. Where those are an encoder of this hub,
what the encoder learned from is in that cohort too, and in the encoders trained on it.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub_server.registry.tables import CohortModel, Encoder, EncoderSource


def trained_on(session: Session, cohort_id: str) -> list[Encoder]:
    """Encoders that learned from this cohort, at first or any further hand, oldest first."""
    found: dict[str, Encoder] = {}
    cohorts, seen = {cohort_id}, {cohort_id}
    while cohorts:
        direct = select(EncoderSource.encoder_id).where(EncoderSource.cohort_id.in_(cohorts))
        learned = session.scalars(select(Encoder).where(Encoder.id.in_(direct)))
        new = [encoder for encoder in learned if encoder.id not in found]
        found |= {encoder.id: encoder for encoder in new}
        made = select(CohortModel.cohort_id).where(
            CohortModel.sha256.in_([encoder.digest for encoder in new])
        )
        cohorts = set(session.scalars(made)) - seen
        seen |= cohorts
    return sorted(found.values(), key=lambda encoder: (encoder.created_at, encoder.id))


def learned_from(session: Session, encoder: Encoder) -> list[str]:
    """Ids of all cohorts that are in this encoder, at first or any further hand, sorted."""
    seen: set[str] = set()
    cohorts = {source.cohort_id for source in encoder.sources if source.cohort_id}
    while cohorts:
        seen |= cohorts
        before = (
            select(EncoderSource.cohort_id)
            .join(Encoder)
            .join(CohortModel, CohortModel.sha256 == Encoder.digest)
            .where(CohortModel.cohort_id.in_(cohorts), EncoderSource.cohort_id.is_not(None))
        )
        cohorts = {found for found in session.scalars(before) if found} - seen
    return sorted(seen)
