"""Sites: inviting, comparing fingerprints, admitting, declining, revoking; their keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from hub_server.acts import Acts
from hub_server.registry import KeyState, Site, SiteKeyRow, SiteState, cohorts, sites
from hub_server.web.notes import Note
from hub_server.web.pages._forms import Line, Words, submit
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Operator, Reader
from hub_server.web.pages._words import SHORT
from hub_server.web.state import hub_of
from pixcell_share.errors import NotFoundError

router = APIRouter(prefix="/sites", include_in_schema=False)
_FEW = 50
Id = Annotated[str, Path(max_length=64)]


@router.get("")
def listed(request: Request, person: Reader) -> Response:
    """All sites; those that wait come first."""
    hub = hub_of(request)
    with hub.registry.reading() as session:
        found = sites.list_sites(session)
        pending = {site.id: _pending(site) for site in found if _pending(site)}
        stored = {site.id: cohorts.stored_bytes(session, site) for site in found}
    return page(
        request,
        person,
        "sites.html",
        waiting=[site for site in found if site.id in pending],
        pending=pending,
        members=[site for site in found if site.status is not SiteState.PENDING],
        stored=stored,
        hub_url=hub.config.url,
        fingerprint=hub.key.key_id,
    )


@router.get("/{site_id}")
def one(request: Request, person: Reader, site_id: Id) -> Response:
    """A site, its keys and its cohorts."""
    hub = hub_of(request)
    with hub.registry.reading() as session:
        site = session.get(Site, site_id)
        if site is None:
            raise NotFoundError("there is no such site", "see the list of sites")
        keys, key = list(site.keys), _pending(site)
        sent = cohorts.list_cohorts(session, site=site, limit=_FEW + 1)
    return page(
        request,
        person,
        "site.html",
        site=site,
        keys=keys,
        key=key,
        sent=sent[:_FEW],
        more=len(sent) > _FEW,
        revocable=[row for row in keys if row.status in (KeyState.ACTIVE, KeyState.RETIRED)],
        may_revoke=site.status is not SiteState.REVOKED,
    )


@router.post("/invite")
async def invite(
    request: Request,
    person: Operator,
    name: Line,
    contact: Line = "",
) -> Response:
    """Invite a site; the code is shown once."""

    def work(acts: Acts) -> Note:
        made = acts.invite(name.strip(), contact)
        values = {
            "site": made.site,
            "code": made.code,
            "expires": f"{made.expires_at:%d %b %Y}",
        }
        return Note("The site is invited.", form="invited", values=values)

    values = {"name": name, "contact": contact}
    return await submit(request, person, work, "/sites", form="invite", values=values)


@router.post("/{site_id}/admit")
async def admit(request: Request, person: Operator, site_id: Id, fingerprint: Line) -> Response:
    """Admit a site whose fingerprint was compared: it is typed as the site read it out."""

    def work(acts: Acts) -> Note:
        site = _name(acts, site_id)
        acts.admit(site, fingerprint)
        return Note(f"{site} is a member.", "What it signs is taken in from now on.")

    values = {"fingerprint": fingerprint}
    back = f"/sites/{_in_path(site_id)}"
    return await submit(request, person, work, back, form="admit", values=values)


@router.post("/{site_id}/decline")
async def decline(request: Request, person: Operator, site_id: Id, reason: Words) -> Response:
    """Refuse a key that came for an invitation."""

    def work(acts: Acts) -> Note:
        site = _name(acts, site_id)
        acts.decline(site, reason)
        return Note(f"The key of {site} is declined.", "The site may be invited again.")

    back = f"/sites/{_in_path(site_id)}"
    return await submit(request, person, work, back, form="decline", values={"reason": reason})


@router.post("/{site_id}/revoke-key")
async def revoke_key(
    request: Request, person: Operator, site_id: Id, key: Line, reason: Words
) -> Response:
    """End one key of a site."""

    def work(acts: Acts) -> Note:
        row = acts.revoke_key(_name(acts, site_id), key, reason)
        last = row.site.status is SiteState.INVITED
        return Note(
            f"The key {row.key_id[:SHORT]} is revoked.",
            "It was the last: invite the site again, so that it can give another one."
            if last
            else "Nothing that it signs is taken from now on.",
        )

    values = {"key": key, "reason": reason}
    back = f"/sites/{_in_path(site_id)}"
    return await submit(request, person, work, back, form="revoke-key", values=values)


@router.post("/{site_id}/revoke")
async def revoke(request: Request, person: Operator, site_id: Id, reason: Words) -> Response:
    """End a membership."""

    def work(acts: Acts) -> Note:
        site = _name(acts, site_id)
        acts.revoke(site, reason)
        return Note(
            f"The membership of {site} is over.",
            "Nothing that its keys sign is taken from now on; its accepted cohorts stay until they "
            "are withdrawn.",
        )

    back = f"/sites/{_in_path(site_id)}"
    return await submit(request, person, work, back, form="revoke", values={"reason": reason})


def _name(acts: Acts, site_id: str) -> str:
    with acts.registry.reading() as session:
        site = session.get(Site, site_id)
    if site is None:
        raise NotFoundError("there is no such site", "see the list of sites")
    return site.name


def _pending(site: Site) -> SiteKeyRow | None:
    return next((key for key in site.keys if key.status is KeyState.PENDING), None)


def _in_path(text: str) -> str:
    """An id as it may stand in an address: hex digits, or nothing."""
    return text if text.isalnum() and text.isascii() else ""
