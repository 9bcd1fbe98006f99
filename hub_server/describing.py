"""Things of the hub in plain values, for the command line."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub_server.log import Act, Checkpoint
from hub_server.registry.cohorts import find_cohort
from hub_server.registry.lineage import trained_on


def describe_cohort(session: Session, digest: str) -> dict[str, object]:
    """State, counts, terms and what was made of one cohort.

    Args:
        session: of the registry.
        digest: of the bundle, or its beginning.

    Raises:
        NotFoundError: there is no one such cohort.
    """
    cohort = find_cohort(session, digest)
    fields: dict[str, object] = {
        "cohort": cohort.id,
        "site": cohort.site.name,
        "state": cohort.state.value,
        "reason": cohort.reason,
        "detail": cohort.detail,
        "came": f"{cohort.created_at:%Y-%m-%d %H:%M} UTC",
        "bytes": cohort.bytes,
        "tiles": cohort.tiles,
        "counts": cohort.counts,
        "noncommercial": cohort.noncommercial if cohort.manifest else None,
        "licences": cohort.licences,
        "verdict": (cohort.audit or {}).get("verdict"),
        "encoders": [encoder.name for encoder in trained_on(session, cohort.id)] or None,
        "withdrawn": cohort.withdrawn_at and f"{cohort.withdrawn_at:%Y-%m-%d %H:%M} UTC",
        "withdrawn_because": cohort.withdrawn_reason,
    }
    return {name: value for name, value in fields.items() if value is not None}


def describe_proof(shown: Act | Checkpoint, log: Checkpoint) -> dict[str, object]:
    """What a proof that holds has shown.

    Args:
        shown: the act that is in the log, or the checkpoint that the log has only grown from.
        log: the checkpoint that the proof ends in.
    """
    if isinstance(shown, Checkpoint):
        grown = f"from act {shown.size} to act {log.size} the log only grew"
        return {"proof": grown, "root": log.root.hex()}
    when = f"{shown.time:%Y-%m-%d %H:%M} UTC"
    return {
        "proof": f"act {shown.sequence} is in the log of {log.size} acts",
        "act": f"{shown.act} by {shown.actor} on {shown.subject!r}, {when}",
        "root": log.root.hex(),
    }
