"""The words that the registry's columns hold."""

from __future__ import annotations

from enum import StrEnum


class SiteState(StrEnum):
    """Where a site stands."""

    INVITED = "invited"
    PENDING = "pending"
    ACTIVE = "active"
    REVOKED = "revoked"


class KeyState(StrEnum):
    """Where a site's key stands; only an active one signs what the hub takes in."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"


class Role(StrEnum):
    """What a person may do. A site is no account: it signs each request with its key."""

    OPERATOR = "operator"
    """Changes everything."""
    AUDITOR = "auditor"
    """Reads everything, changes nothing."""
    RESEARCHER = "researcher"
    """Reads accepted cohorts, encoders and results."""


class CohortState(StrEnum):
    """Where a cohort stands; `hub_server.registry.cohorts.TRANSITIONS` says what may follow."""

    UPLOADED = "uploaded"
    QUARANTINED = "quarantined"
    VERIFIED = "verified"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class SourceRole(StrEnum):
    """What the tiles were that an encoder was trained on."""

    REAL = "real"
    SYNTHETIC = "synthetic"


class JobKind(StrEnum):
    """What a job does."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    INTAKE = "intake"


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
