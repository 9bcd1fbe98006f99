"""The tables of the hub's registry.

Ids are texts: a UUID in hex, or a SHA-256 where a thing has one. Times are UTC, with their zone.
All changes of state go through the functions beside this file, never through the rows alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub_server.registry.columns import Base, new_id, utc_now
from hub_server.registry.states import (
    CohortState,
    JobKind,
    JobState,
    KeyState,
    Role,
    SiteState,
    SourceRole,
)


class Site(Base):
    """A member, or one on its way."""

    __tablename__ = "sites"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    name_key: Mapped[str] = mapped_column(unique=True)
    """Two names with the same one look the same to somebody in a hurry."""
    status: Mapped[SiteState]
    contact: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    admitted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    revoked_reason: Mapped[str | None]
    keys: Mapped[list[SiteKeyRow]] = relationship(
        back_populates="site", order_by="SiteKeyRow.created_at"
    )


class SiteKeyRow(Base):
    """A public key of a site."""

    __tablename__ = "site_keys"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    """See `pixcell_share.bundles.PublicKey.key_id`."""
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    public_pem: Mapped[str]
    status: Mapped[KeyState]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    ended_at: Mapped[datetime | None]
    """When it was retired or revoked."""
    ended_reason: Mapped[str | None]
    replaced_by: Mapped[str | None] = mapped_column(ForeignKey("site_keys.key_id"))
    signature: Mapped[str | None]
    """Of the rotation that brought it in, by the key before it (hex)."""
    site: Mapped[Site] = relationship(back_populates="keys")


class Invite(Base):
    """A one-time code, of which only the hash is kept."""

    __tablename__ = "invites"

    code_hash: Mapped[str] = mapped_column(primary_key=True)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Account(Base):
    """A person who looks at the pages."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[Role]
    password_hash: Mapped[str | None]
    """argon2id in its PHC text; None where only OIDC logs in."""
    oidc_subject: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    disabled_at: Mapped[datetime | None]


class WebSession(Base):
    """A person who is logged in."""

    __tablename__ = "sessions"

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    csrf: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    account: Mapped[Account] = relationship()


class Cohort(Base):
    """What became of a bundle."""

    __tablename__ = "cohorts"

    id: Mapped[str] = mapped_column(primary_key=True)
    """The bundle's digest: SHA-256 of its manifest."""
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    key_id: Mapped[str | None] = mapped_column(ForeignKey("site_keys.key_id"))
    """The key that signed it, once that is known."""
    state: Mapped[CohortState] = mapped_column(default=CohortState.UPLOADED, index=True)
    reason: Mapped[str | None]
    """Code of the rejection, see ``hub_server/intake/reasons.py``."""
    detail: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    changed_at: Mapped[datetime] = mapped_column(default=utc_now)
    bytes: Mapped[int] = mapped_column(default=0)
    manifest: Mapped[dict[str, Any] | None]
    audit: Mapped[dict[str, Any] | None]
    counts: Mapped[dict[str, int] | None]
    """Tiles by class."""
    tiles: Mapped[int | None]
    noncommercial: Mapped[bool] = mapped_column(default=False)
    licences: Mapped[list[str] | None]
    canonical: Mapped[dict[str, Any] | None]
    """Its files in the hub's own form, each with its digest; None once they are deleted."""
    summary: Mapped[dict[str, Any] | None]
    """The hub's verification summary, a DSSE envelope."""
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None]
    withdrawn_reason: Mapped[str | None]
    site: Mapped[Site] = relationship()


class CohortModel(Base):
    """Weights that had a part in making a cohort: how an encoder comes back into a cohort."""

    __tablename__ = "cohort_models"

    cohort_id: Mapped[str] = mapped_column(ForeignKey("cohorts.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True, index=True)
    role: Mapped[str]
    name: Mapped[str]


class TileDigest(Base):
    """A digest of one tile, to find repeats across cohorts, and tiles of withdrawn ones."""

    __tablename__ = "tile_digests"

    cohort_id: Mapped[str] = mapped_column(ForeignKey("cohorts.id"), primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True, index=True)


class Encoder(Base):
    """A trained encoder."""

    __tablename__ = "encoders"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    arch: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    folder: Mapped[str]
    """Storage key of its files."""
    digest: Mapped[str] = mapped_column(index=True)
    """SHA-256 of its weights."""
    card: Mapped[dict[str, Any]]
    noncommercial: Mapped[bool]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    sources: Mapped[list[EncoderSource]] = relationship(
        back_populates="encoder", order_by="EncoderSource.position"
    )


class EncoderSource(Base):
    """What an encoder was trained on: a cohort of the hub, or a dataset by name."""

    __tablename__ = "encoder_sources"
    __table_args__ = (CheckConstraint("(cohort_id IS NULL) <> (dataset IS NULL)", "one_source"),)

    encoder_id: Mapped[str] = mapped_column(ForeignKey("encoders.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    cohort_id: Mapped[str | None] = mapped_column(ForeignKey("cohorts.id"), index=True)
    dataset: Mapped[str | None]
    role: Mapped[SourceRole]
    encoder: Mapped[Encoder] = relationship(back_populates="sources")


class Evaluation(Base):
    """How an encoder did on a dataset; an encoder from elsewhere is known by its name only."""

    __tablename__ = "evaluations"
    __table_args__ = (
        CheckConstraint("(encoder_id IS NULL) <> (external IS NULL)", "one_encoder"),
        Index("ix_evaluations_board", "task", "dataset"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    encoder_id: Mapped[str | None] = mapped_column(ForeignKey("encoders.id"), index=True)
    external: Mapped[str | None]
    dataset: Mapped[str]
    dataset_digest: Mapped[str]
    task: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    result: Mapped[dict[str, Any]]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))


class Job(Base):
    """Work that is queued, under way, or over."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_queue", "state", "created_at"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[JobKind]
    state: Mapped[JobState] = mapped_column(default=JobState.QUEUED)
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str | None]
    folder: Mapped[str | None]
    """Where it keeps its files, below the hub's home."""
