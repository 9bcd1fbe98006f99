"""The tiles that an encoder learns from: accepted cohorts, and real data of the operator."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub_server.intake import files_of
from hub_server.jobs.settings import RealData
from hub_server.registry import Cohort, CohortState, Site
from hub_server.registry.cohorts import find_cohort, list_cohorts
from hub_server.storage import Storage
from pixcell_share.errors import NotFoundError, SettingsError, StateError
from pixcell_share.ssl import SourceSettings

_SYNTHETIC, _REAL = ":synthetic", ":real"


def accepted_cohort(session: Session, words: str) -> Cohort:
    """The accepted cohort that a person named.

    Args:
        session: of the registry.
        words: its digest or the first eight or more digits of it, or the name of a site that has
            one accepted cohort; ``:synthetic`` may follow.

    Raises:
        SettingsError: ``:real`` follows, and a site sends synthetic tiles alone.
        NotFoundError: there is no such cohort.
        StateError: it is not accepted (any more), or the site has several.
    """
    name = words.removesuffix(_SYNTHETIC)
    if name.endswith(_REAL):
        raise SettingsError(
            f"{words}: what a site sends is synthetic", "give real tiles of your own with --real"
        )
    site = session.scalar(select(Site).where(Site.name == name))
    cohort = find_cohort(session, name) if site is None else _only_cohort(session, site)
    if cohort.state is not CohortState.ACCEPTED:
        raise StateError(
            f"the cohort {cohort.id[:16]} is {cohort.state}, and encoders learn from accepted ones",
            "leave it out",
        )
    return cohort


def cohort_source(cohort: Cohort, storage: Storage, fetched: Path) -> SourceSettings:
    """Where the canonical tiles of a cohort lie, and what the card says of them.

    Args:
        cohort: an accepted one, with its site.
        storage: of the hub.
        fetched: folder for the tiles of a storage elsewhere, see `fetch`.
    """
    assert cohort.canonical is not None
    here = storage.path(files_of(cohort.canonical)[0].key)
    return SourceSettings(
        folder=(fetched / cohort.id) if here is None else here.absolute().parent,
        name=f"{cohort.site.name} ({cohort.id[:8]})",
        role="synthetic",
        digest=cohort.id,
        licences=tuple(cohort.licences or ()),
        noncommercial=cohort.noncommercial,
    )


def real_source(real: RealData) -> SourceSettings:
    """Real tiles of the operator.

    Raises:
        SettingsError: there is no such folder.
    """
    folder = real.folder.expanduser().absolute()
    if not folder.exists():
        raise SettingsError(f"there is no folder {real.folder}", "give the folder of your tiles")
    return SourceSettings(
        folder=folder,
        name=folder.name,
        role="real",
        licences=real.licences,
        noncommercial=real.noncommercial,
    )


def fetch(cohort: Cohort, storage: Storage, fetched: Path) -> None:
    """Copy the images of a cohort to this machine, where the storage is elsewhere.

    Raises:
        StorageError: the storage does not answer, a file was changed, or the disk is full.
    """
    assert cohort.canonical is not None
    for file in files_of(cohort.canonical):
        target = fetched / cohort.id / file.name
        if storage.path(file.key) is None and "/images-" in file.key and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            storage.fetch(file.key, target, sha256=file.sha256)


def _only_cohort(session: Session, site: Site) -> Cohort:
    found = list_cohorts(session, (CohortState.ACCEPTED,), site)
    if not found:
        raise NotFoundError(
            f"{site.name} has no accepted cohort", "see `pixcell-hub cohorts` for what there is"
        )
    if len(found) > 1:
        raise StateError(
            f"{site.name} has {len(found)} accepted cohorts",
            f"name one by its digest, such as {found[0].id[:12]}",
        )
    return find_cohort(session, found[0].id)
