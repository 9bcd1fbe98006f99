"""Things of the hub in plain values, for the command line."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub_server.log import Act, Checkpoint
from hub_server.registry import Encoder, Evaluation, Job, JobKind
from hub_server.registry.cohorts import find_cohort
from hub_server.registry.jobs import find_job, list_jobs
from hub_server.registry.leaderboard import figure_of
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


def describe_jobs(session: Session) -> list[dict[str, object]]:
    """The latest jobs, a few fields of each."""
    return [
        {
            "job": job.id,
            "kind": job.kind.value,
            "state": job.state.value,
            "about": _about(job),
            "asked_for": f"{job.created_at:%Y-%m-%d %H:%M}",
        }
        for job in list_jobs(session)
    ]


def describe_job(session: Session, beginning: str) -> dict[str, object]:
    """One job; of a training with its encoder, of an evaluation with its figures.

    Args:
        session: of the registry.
        beginning: of the job's id.

    Raises:
        NotFoundError: there is no one such job.
    """
    begun = list(session.scalars(select(Job).where(Job.id.startswith(beginning)).limit(2)))
    job = begun[0] if len(begun) == 1 else find_job(session, beginning)
    fields: dict[str, object] = {
        "job": job.id,
        "kind": job.kind.value,
        "state": job.state.value,
        "about": _about(job),
        "error": job.error,
        **(job.progress or {}),
    }
    encoder = session.scalar(select(Encoder).where(Encoder.job_id == job.id))
    if encoder is not None:
        fields |= {"encoder": encoder.name, "sha256": encoder.digest}
        fields["noncommercial"] = encoder.noncommercial
    evaluation = session.scalar(select(Evaluation).where(Evaluation.job_id == job.id))
    if evaluation is not None and (found := figure_of(evaluation.result)):
        fields["balanced_accuracy"] = (
            f"{found.value:.3f} (95 % interval {found.low:.3f} to {found.high:.3f})"
        )
    return {name: value for name, value in fields.items() if value is not None}


def _about(job: Job) -> str:
    settings = job.settings
    if job.kind is JobKind.EVALUATE:
        return f"{settings['encoder']} on {settings['dataset']}, {settings['task']}"
    return str(settings.get("name") or settings.get("cohort", ""))[:24]
