"""The hub that the corpus of hostile bundles attacks: its members, and what it has done before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from hub_server.home import HubHome
from hub_server.intake import IntakeOutcome, intake_folder, intake_upload, withdraw
from hub_server.registry import SiteKeyRow, sites
from hub_server.registry.sites import find_site
from pixcell_share.bundles import SiteKey, bundle_digest
from pixcell_share.wire.rotation import Rotation
from tests.bundles.hostile_corpus.keys import SITES, make_key, read_key
from tests.bundles.hostile_corpus.laying import CORPUS, GOOD, lay_out

REQUIRE = '[require]\n"patient_linkage.residual_high" = "<=0.1"\n'
FLOOR = "[uploads]\ndisk_floor_bytes = 1\n"


def make_hub(folder: Path) -> HubHome:
    """A hub with one member of each kind, and a requirement."""
    home = HubHome(folder)
    hub = home.initialise("Attacked hub")
    with home.config_file.open("a") as file:
        file.write(FLOOR + REQUIRE)
    registry = home.registry()
    with registry.session() as session:
        for name, site in SITES.items():
            add_member(session, site, read_key(CORPUS / "keys", name), admit=name != "pending")
        rotation = Rotation.sign(
            make_key("retired"), make_key("retired, and then this"), hub.key_id
        )
        sites.rotate(session, make_key("retired").key_id, rotation, hub.key_id)
        sites.revoke(session, SITES["revoked"], "left")
        expired = session.get_one(SiteKeyRow, make_key("expired").key_id)
        expired.created_at = datetime.now(UTC) - timedelta(days=731)
    registry.close()
    return home


def add_member(session: Session, site: str, key: SiteKey, *, admit: bool = True) -> None:
    """Invite, join and admit."""
    invitation = sites.invite(session, site)
    sites.join(session, invitation.code, site, key.public_pem)
    if admit:
        sites.admit(session, site, key.key_id)


def attack(home: HubHome, case: dict[str, Any], folder: Path) -> IntakeOutcome:
    """Lay a case out in ``folder``, do what comes before it, and take it in."""
    for act in case["before"]:
        _do(home, act)
    bundle = lay_out(case, folder / "bundle")
    if not case["sender"]:
        return intake_folder(home, bundle)
    return send(home, bundle, SITES[case["sender"]])


def send(home: HubHome, bundle: Path, site: str) -> IntakeOutcome:
    """As the job does that follows an upload; what `uploads` leaves is the bundle's folder."""
    digest = bundle_digest(bundle)
    upload = home.uploads / digest[:32]
    upload.mkdir(parents=True)
    bundle.rename(upload / "bundle")
    registry = home.registry()
    with registry.reading() as session:
        site_id = find_site(session, site).id
    registry.close()
    return intake_upload(home, {"cohort": digest, "upload": upload.name, "site": site_id})


def _do(home: HubHome, act: dict[str, str]) -> None:
    if "accept" in act:
        assert act["accept"] == GOOD
        outcome = intake_folder(home, CORPUS / GOOD)
        assert outcome.accepted, outcome
    else:
        withdraw(
            home, bundle_digest(CORPUS / act["withdraw"]), actor="operator", reason="asked for"
        )
