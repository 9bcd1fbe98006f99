"""Whose signature it is: the registry's say on the key that signed a bundle."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub_server.intake.reasons import Reason
from hub_server.registry import KeyState, Site, SiteKeyRow, SiteState
from hub_server.registry.sites import public_key
from pixcell_share.bundles import skeleton
from pixcell_share.bundles._codec import MANIFEST_NAME
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.errors import FormatError, SignatureError

_NOT_IN_USE = {
    KeyState.PENDING: (Reason.KEY_PENDING, "admit the site first, then take the bundle in again"),
    KeyState.RETIRED: (Reason.KEY_RETIRED, "ask the site to sign it with its present key"),
    KeyState.REVOKED: (Reason.KEY_REVOKED, "do not use the bundle"),
}


def signer_of(
    session: Session,
    manifest: bytes,
    now: datetime,
    *,
    key_days: float,
    sender: str | None = None,
) -> SiteKeyRow:
    """The member's key that signed a manifest, and may.

    Args:
        session: of the registry.
        manifest: the bytes of the file.
        now: the time at which the key must be in use.
        key_days: how old a key may be.
        sender: id of the site that sent it over the network; None for the operator's own folder.

    Raises:
        FormatError: it is no envelope.
        SignatureError: the key is unknown, not in use, or not the sender's, or its signature does
            not hold. The state of a key is told only of bundles that it did sign.
    """
    envelope = Envelope.from_bytes(manifest, MANIFEST_NAME)
    row = session.get(SiteKeyRow, envelope.key_id)
    envelope.check([] if row is None else [public_key(row)], MANIFEST_NAME)
    assert row is not None  # `check` found its key
    state = KeyState.REVOKED if row.site.status is SiteState.REVOKED else row.status
    if state in _NOT_IN_USE:
        reason, remedy = _NOT_IN_USE[state]
        raise SignatureError(
            f"{MANIFEST_NAME} is signed by a key that is {state}: {row.key_id[:16]}", remedy, reason
        )
    if now - row.created_at > timedelta(days=key_days):
        raise SignatureError(
            f"{MANIFEST_NAME} is signed by a key of more than {key_days:g} days",
            "ask the site to rotate its key and to sign again",
            Reason.KEY_EXPIRED,
        )
    if sender is not None and row.site_id != sender:
        raise SignatureError(
            f"{MANIFEST_NAME} is signed by another site than the one that sent it",
            "ask the sender where it has the bundle from",
            Reason.SENT_BY_ANOTHER_SITE,
        )
    return row


def check_label(session: Session, label: str, site: Site) -> None:
    """Refuse a label that another member's name could be taken for.

    Raises:
        FormatError: naming it.
    """
    for other in session.scalars(select(Site).where(Site.id != site.id)):
        if skeleton(other.name) == skeleton(label):
            raise FormatError(
                f"{MANIFEST_NAME}: the site's label {label!a} reads like the name of another",
                "ask the site to take a label of its own",
                Reason.NAME_OF_ANOTHER_SITE,
            )


def bundle_digest_of(manifest: bytes) -> str:
    """The bundle's name: SHA-256 of its manifest."""
    return hashlib.sha256(manifest).hexdigest()
