"""Rows that tests of the registry need before they can begin."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub_server.registry import Cohort, Encoder, Site, SiteState, SourceRole, cohorts, encoders
from hub_server.registry.cohorts import Facts
from hub_server.registry.encoders import NewEncoder, Source
from hub_server.registry.states import KeyState
from hub_server.registry.tables import SiteKeyRow
from pixcell_share.weights import ModelIdentity

KEY = "ce" * 32


def digest(letter: str) -> str:
    """A bundle's digest of one hex digit."""
    return letter * 64


def model(sha256: str, *, noncommercial: bool = False, role: str = "generator") -> ModelIdentity:
    return ModelIdentity(
        role=role,
        name="net",
        source="hub:net",
        revision="1",
        sha256=sha256,
        licence="cc-by-nc-4.0" if noncommercial else "apache-2.0",
        noncommercial=noncommercial,
    )


def facts(*models: ModelIdentity, counts: dict[str, int] | None = None) -> Facts:
    return Facts(
        key_id=KEY,
        manifest={"predicate": {"classes": ["tumour", "stroma"]}},
        audit={"verdict": "PASS"},
        counts=counts or {"tumour": 7, "stroma": 5},
        models=models or (model("0" * 64),),
    )


def a_site(session: Session, name: str = "Köln") -> Site:
    """A site; the first one also has the key that signs every bundle here."""
    site = Site(name=name, name_key=name.casefold(), status=SiteState.ACTIVE)
    session.add(site)
    session.flush()
    if session.get(SiteKeyRow, KEY) is None:
        row = SiteKeyRow(key_id=KEY, site_id=site.id, public_pem="", status=KeyState.ACTIVE)
        session.add(row)
        session.flush()
    return site


def accepted(session: Session, site: Site, letter: str, *models: ModelIdentity) -> Cohort:
    """A cohort on its whole way to acceptance."""
    bundle = digest(letter)
    cohorts.receive(session, bundle, site, 1000)
    cohorts.quarantine(session, bundle)
    cohorts.mark_verified(session, bundle, facts(*models))
    return cohorts.accept(session, bundle, {"files": []}, {"payload": ""})


def trained(session: Session, name: str, *cohort_letters: str, sha256: str = "") -> Encoder:
    """An encoder that learned from these cohorts."""
    sources = [Source(SourceRole.SYNTHETIC, cohort_id=digest(each)) for each in cohort_letters]
    new = NewEncoder(
        name=name,
        arch="dinov2_vits14",
        folder=f"encoders/{name}",
        digest=sha256 or digest("9"),
        card={},
        sources=sources or [Source(SourceRole.REAL, dataset="lung_tiles")],
    )
    return encoders.add_encoder(session, new)
