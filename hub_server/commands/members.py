"""Sites: invite, admit, decline, revoke, list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from hub_server.commands.options import ACTOR, Home, Json, Reason, show_fields, show_rows
from pixcell_share import console

if TYPE_CHECKING:
    from hub_server.registry import Site as SiteRow

Site = Annotated[str, typer.Argument(help="Name of the site.")]


def invite(
    site: Site,
    contact: Annotated[str, typer.Option(help="Whom to call there.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Invite a site: a code that works once, and what the site has to type.

    Example: pixcell-hub invite "Uniklinik Koeln" --contact "Dr. Weber, +49 221 ..."
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome
    from pixcell_share.wire.fingerprints import readable

    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        made = acts.invite(site, contact)
        key_id = acts.home.load_key().key_id
        url = acts.config.url
    fields: dict[str, object] = {
        "site": made.site,
        "code": made.code,
        "valid_until": made.expires_at.isoformat(timespec="minutes"),
        "fingerprint": readable(key_id),
        "the_site_types": f"pixcell-site join {url} --code {made.code} --fingerprint {key_id}",
    }
    show_fields(fields, as_json)


def admit(
    site: Site,
    fingerprint: Annotated[
        str, typer.Option(help="Fingerprint of the site's key, as the site read it out.")
    ],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Admit a site whose key waits, after comparing fingerprints by telephone.

    Example: pixcell-hub admit "Uniklinik Koeln" --fingerprint "3f9a 02c1 ..."
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome

    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        key = acts.admit(site, fingerprint)
    show_fields({"site": site, "status": "active", "key": key.key_id}, as_json)


def decline(site: Site, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Refuse a site's key that waits; the site may be invited again.

    Example: pixcell-hub decline "Uniklinik Koeln" --reason "the fingerprint differs"
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome

    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        acts.decline(site, reason)
    show_fields({"site": site, "status": "invited"}, as_json)


def revoke(
    site: Site,
    reason: Reason,
    key: Annotated[
        str | None,
        typer.Option(
            help="Revoke this key alone: its fingerprint, or the first 8 digits.",
            show_default=False,
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """End a membership: nothing that the site's keys sign is taken from now on.

    With --key only that key is revoked; if it was the last, invite the site again. Cohorts that
    were accepted stay; withdraw them one by one if they must go.

    \b
    pixcell-hub revoke "Uniklinik Koeln" --reason "left the consortium"
    pixcell-hub revoke "Uniklinik Koeln" --key 3f9a02c1 --reason "a laptop was stolen"
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome

    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        if key is None:
            fields = {"site": site, "status": acts.revoke(site, reason).status.value}
        else:
            row = acts.revoke_key(site, key, reason)
            fields = {"site": site, "status": row.site.status.value, "revoked_key": row.key_id}
    show_fields(dict(fields), as_json)


def sites(home: Home = None, as_json: Json = False) -> None:
    """List sites, their state and their keys.

    Example: pixcell-hub sites
    """
    from hub_server.home import HubHome
    from hub_server.registry.sites import list_sites
    from pixcell_share.wire.fingerprints import readable

    registry = HubHome.locate(home).registry()
    with registry.reading() as session:
        rows = list(_keys_of(list_sites(session)))
    registry.close()
    if as_json:
        names = ("site", "status", "key_status", "key_id")
        found = [dict(zip(names, row, strict=True)) for row in rows]
        console.print_json({"sites": found, "exit_code": 0})
        return
    shown = [(*row[:3], readable(row[3]) if row[3] else "") for row in rows]
    show_rows(
        ("site", "status", "key is", "fingerprint of the key"),
        shown,
        "no site yet: pixcell-hub invite SITE",
    )


def _keys_of(sites: Iterable[SiteRow]) -> Iterator[tuple[str, str, str, str]]:
    """Name and state of each site, with state and id of each of its keys, if it has one."""
    for site in sites:
        for key in site.keys:
            yield site.name, site.status.value, key.status.value, key.key_id
        if not site.keys:
            yield site.name, site.status.value, "", ""
