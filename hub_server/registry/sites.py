"""Members: invitations, admission, keys and their end.

::

    invited ── join ──> pending ── admit ──> active ── revoke ──> revoked ── invite ──> invited ...
       ^                   │
       └───── decline ─────┘

A key is pending, active, retired (replaced by one that it signed) or revoked. Bundles that a
retired or revoked key signed keep the state that they have; nothing new of it is taken. A site
whose last active key is revoked is invited again, for another one.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub_server.registry.columns import utc_now
from hub_server.registry.states import KeyState, SiteState
from hub_server.registry.tables import Invite, Site, SiteKeyRow
from pixcell_share.bundles import PublicKey, check_name, skeleton
from pixcell_share.bundles.keys import parse_public_key
from pixcell_share.errors import MembershipError, NotFoundError, StateError
from pixcell_share.wire import Refusal
from pixcell_share.wire.fingerprints import plain_fingerprint, same_fingerprint
from pixcell_share.wire.rotation import Rotation

INVITATION_LIFETIME = timedelta(days=14)
_CODE_BYTES = 15
"""120 random bits: 24 characters in base32, and beyond guessing without a limit of tries."""
_BEGINNING = 8
"""Digits of a fingerprint that are enough to name one of a site's few keys."""


@dataclass(frozen=True)
class Invitation:
    """What the operator passes on; the code is shown once and kept by nobody."""

    site: str
    code: str = field(repr=False)
    expires_at: datetime


def invite(
    session: Session, name: str, *, contact: str = "", lifetime: timedelta = INVITATION_LIFETIME
) -> Invitation:
    """Invite a site, or invite it again: an earlier code is void then.

    Raises:
        SettingsError: ``name`` may not be shown, see `pixcell_share.bundles.check_name`.
        StateError: it is pending or active, or another site's name reads the same.
    """
    check_name("site", name)
    alike = skeleton(name)
    site = session.scalar(select(Site).where(Site.name_key == alike).with_for_update())
    if site is None:
        site = Site(name=name, name_key=alike, status=SiteState.INVITED, contact=contact)
        session.add(site)
        session.flush()
    elif site.name != name or site.status in (SiteState.PENDING, SiteState.ACTIVE):
        raise StateError(
            f"the site {site.name!r} is {site.status}",
            "choose another name, or decline or revoke that site first",
            Refusal.CONFLICT,
        )
    site.status, site.contact = SiteState.INVITED, contact or site.contact
    now = utc_now()
    _void_invites(session, site, now)
    code, expires_at = _new_code(), now + lifetime
    session.add(Invite(code_hash=_code_hash(code), site_id=site.id, expires_at=expires_at))
    return Invitation(name, code, expires_at)


def join(session: Session, code: str, name: str, public_pem: bytes) -> SiteKeyRow:
    """Take a site's key for an invitation; it is pending until `admit`.

    Whoever calls has checked that the request is signed with this very key. A site whose answer was
    lost may ask again.

    Raises:
        KeyFileError: ``public_pem`` is no Ed25519 public key.
        MembershipError: the code is unknown, used, void, expired, or another site's; or the key
            was used before.
    """
    invitation = session.scalar(
        select(Invite).where(Invite.code_hash == _code_hash(code)).with_for_update()
    )
    if invitation is None:
        raise _no_invitation("no invitation has this code")
    site = session.get_one(Site, invitation.site_id)
    if site.name != name:
        raise MembershipError(
            f"the invitation is for the site {site.name!r}, and this one is called {name!r}",
            f'write site = "{site.name}" into site.toml, then join again',
            Refusal.INVITATION,
        )
    if known := _pending_again(site, public_pem):
        return known
    if invitation.used_at is not None:
        raise _no_invitation("the invitation was used, or replaced by a later one")
    now = utc_now()
    if invitation.expires_at <= now:
        raise _no_invitation("the invitation has expired")
    key = parse_public_key(public_pem, "the site's key")
    row = _add_key(session, site, key, KeyState.PENDING)
    invitation.used_at, site.status = now, SiteState.PENDING
    return row


def admit(session: Session, name: str, fingerprint: str) -> SiteKeyRow:
    """Make a site a member, once the operator has compared ``fingerprint`` with it.

    Args:
        session: of the registry.
        name: the site.
        fingerprint: of the key, as the site read it out; spaces and case do not matter.

    Raises:
        NotFoundError: there is no such site.
        StateError: it is not pending, or its key has another fingerprint.
    """
    site = find_site(session, name, lock=True)
    pending = _pending_key(site)
    if not same_fingerprint(fingerprint, pending.key_id):
        raise StateError(
            f"the key that came for {site.name!r} has another fingerprint",
            "ask the site to read it out again; if it differs, decline the site: the key is "
            "somebody else's",
        )
    pending.status, site.status, site.admitted_at = KeyState.ACTIVE, SiteState.ACTIVE, utc_now()
    site.revoked_at = site.revoked_reason = None  # of an earlier membership; its keys keep it
    return pending


def decline(session: Session, name: str, reason: str) -> Site:
    """Refuse a pending key; the site may be invited again.

    Raises:
        NotFoundError: there is no such site.
        StateError: it is not pending.
    """
    site = find_site(session, name, lock=True)
    _end(_pending_key(site), KeyState.REVOKED, reason)
    site.status = SiteState.INVITED
    return site


def rotate(session: Session, key_id: str, rotation: Rotation, hub_key_id: str) -> SiteKeyRow:
    """Replace an active key by one that it signed; the old one is retired. Twice is as once.

    Raises:
        KeyFileError: the new key is no Ed25519 public key.
        MembershipError: the old key is not active, a signature does not hold, or the new key was
            used before.
    """
    old = session.get(SiteKeyRow, key_id, with_for_update=True)
    if old is not None and old.replaced_by:
        new = rotation.check(public_key(old), hub_key_id)
        if new.key_id == old.replaced_by:
            return session.get_one(SiteKeyRow, new.key_id)
    old = signer(session, key_id)
    new = rotation.check(public_key(old), hub_key_id)
    row = _add_key(session, old.site, new, KeyState.ACTIVE)
    row.signature = rotation.by_old
    session.flush()
    _end(old, KeyState.RETIRED, "replaced")
    old.replaced_by = row.key_id
    return row


def revoke(session: Session, name: str, reason: str) -> Site:
    """End a membership: nothing that any of its keys signs is taken from now on.

    Raises:
        NotFoundError: there is no such site.
        StateError: it is revoked already.
    """
    site = find_site(session, name, lock=True)
    if site.status is SiteState.REVOKED:
        raise StateError(f"the site {site.name!r} is revoked already", "nothing is left to do")
    now = utc_now()
    for key in site.keys:
        if key.status is not KeyState.REVOKED:
            _end(key, KeyState.REVOKED, reason)
    _void_invites(session, site, now)
    site.status, site.revoked_at, site.revoked_reason = SiteState.REVOKED, now, reason
    return site


def revoke_key(session: Session, name: str, fingerprint: str, reason: str) -> SiteKeyRow:
    """End one key: nothing that it signs is taken from now on; what was accepted stays.

    Args:
        session: of the registry.
        name: the site.
        fingerprint: of the key, or its first eight or more digits.
        reason: in plain words.

    Raises:
        NotFoundError: there is no such site, or it has not one key that begins so.
        StateError: the key is revoked already, or waits for admission.
    """
    key = _find_key(find_site(session, name, lock=True), fingerprint)
    if key.status is KeyState.REVOKED:
        raise StateError("this key is revoked already", "nothing is left to do")
    if key.status is KeyState.PENDING:
        raise StateError("this key waits for admission", "decline it")
    _end(key, KeyState.REVOKED, reason)
    left = any(other.status is KeyState.ACTIVE for other in key.site.keys)
    if key.site.status is SiteState.ACTIVE and not left:
        key.site.status = SiteState.INVITED
    return key


def signer(session: Session, key_id: str, *, pending: bool = False) -> SiteKeyRow:
    """The key of a member, for a request that says it is signed by it.

    Args:
        session: of the registry.
        key_id: what the request says.
        pending: whether a site that waits for admission will do.

    Raises:
        MembershipError: the key is unknown, pending, retired or revoked.
    """
    key = session.get(SiteKeyRow, key_id)
    if key is None:
        raise MembershipError(
            "the hub does not know this key",
            "join the hub first: `pixcell-site join`",
            Refusal.UNKNOWN_KEY,
        )
    if key.status is KeyState.ACTIVE or (pending and key.status is KeyState.PENDING):
        return key
    if key.status is KeyState.PENDING:
        raise MembershipError(
            "the operator has not admitted this site yet",
            "read the site's fingerprint to the operator",
            Refusal.PENDING,
        )
    raise MembershipError(
        f"this key is {key.status}",
        "use the key that replaced it" if key.replaced_by else "ask the operator of the hub",
        Refusal.REVOKED,
    )


def trusted_keys(session: Session) -> list[PublicKey]:
    """What `pixcell_share.bundles.verify_bundle` may trust: active keys of active sites."""
    wanted = (
        select(SiteKeyRow)
        .join(Site)
        .where(SiteKeyRow.status == KeyState.ACTIVE, Site.status == SiteState.ACTIVE)
        .order_by(SiteKeyRow.key_id)
    )
    return [public_key(row) for row in session.scalars(wanted)]


def find_site(session: Session, name: str, *, lock: bool = False) -> Site:
    """The site of that name; with ``lock`` nobody else changes it until the unit of work ends.

    Raises:
        NotFoundError: there is none.
    """
    wanted = select(Site).where(Site.name == name)
    site = session.scalar(wanted.with_for_update() if lock else wanted)
    if site is None:
        raise NotFoundError(f"there is no site {name!r}", "see `pixcell-hub sites`")
    return site


def list_sites(session: Session) -> list[Site]:
    """All sites by name."""
    return list(session.scalars(select(Site).order_by(Site.name)))


def public_key(row: SiteKeyRow) -> PublicKey:
    """The key of a row."""
    return parse_public_key(row.public_pem.encode(), f"the key {row.key_id[:16]}")


def _add_key(session: Session, site: Site, key: PublicKey, status: KeyState) -> SiteKeyRow:
    if session.get(SiteKeyRow, key.key_id) is not None:
        raise MembershipError(
            "this key was given to the hub before", "make a new key for the site", Refusal.CONFLICT
        )
    row = SiteKeyRow(key_id=key.key_id, public_pem=key.pem.decode(), status=status)
    site.keys.append(row)
    return row


def _pending_again(site: Site, public_pem: bytes) -> SiteKeyRow | None:
    """The site's pending key if it is this one."""
    waiting = [key for key in site.keys if key.status is KeyState.PENDING]
    same = waiting and parse_public_key(public_pem, "the site's key").key_id == waiting[0].key_id
    return waiting[0] if same else None


def _pending_key(site: Site) -> SiteKeyRow:
    for key in site.keys:
        if key.status is KeyState.PENDING:
            return key
    raise StateError(f"the site {site.name!r} is {site.status}: no key waits", "invite it first")


def _find_key(site: Site, fingerprint: str) -> SiteKeyRow:
    wanted = plain_fingerprint(fingerprint)
    found = [key for key in site.keys if key.key_id.startswith(wanted)]
    if len(wanted) < _BEGINNING or len(found) != 1:
        raise NotFoundError(
            f"{site.name!r} has no one key {ascii(fingerprint)[1:-1][:80]}",
            "see `pixcell-hub sites`",
        )
    return found[0]


def _end(key: SiteKeyRow, status: KeyState, reason: str) -> None:
    key.status, key.ended_at, key.ended_reason = status, utc_now(), reason


def _void_invites(session: Session, site: Site, now: datetime) -> None:
    unused = (Invite.site_id == site.id, Invite.used_at.is_(None))
    session.execute(update(Invite).where(*unused).values(used_at=now))


def _new_code() -> str:
    text = base64.b32encode(secrets.token_bytes(_CODE_BYTES)).decode().lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def _code_hash(code: str) -> str:
    """A plain hash will do: what is hashed is random, not chosen by a person."""
    plain = "".join(code.split()).replace("-", "").lower()
    return hashlib.sha256(b"pixcell-share/invitation/v1\n" + plain.encode()).hexdigest()


def _no_invitation(cause: str) -> MembershipError:
    return MembershipError(cause, "ask the operator for a new code", Refusal.INVITATION)
