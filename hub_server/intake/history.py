"""What the hub has seen before: replays, shards that come back, tiles of other cohorts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from sqlalchemy.orm import Session

from hub_server.intake.reasons import Reason
from hub_server.intake_settings import IntakeSettings
from hub_server.registry import Cohort, CohortState
from hub_server.registry.cohorts import shard_digests
from hub_server.registry.tile_digests import known_tiles, repeats
from pixcell_share.bundles import Manifest
from pixcell_share.errors import BundleError, DigestError, FormatError

_AT_ONCE = 10_000
_ENDED = (CohortState.ACCEPTED, CohortState.WITHDRAWN)


def check_replay(session: Session, digest: str) -> None:
    """Refuse a bundle that was accepted, or withdrawn after that: it comes in once.

    A rejected one may come again, since the reason may have been the hub's, and one whose intake
    was interrupted goes on.

    Raises:
        DigestError: the hub has it, or had it.
    """
    cohort = session.get(Cohort, digest)
    if cohort is not None and cohort.state in _ENDED:
        raise DigestError(
            f"the hub has had this bundle before: it is {cohort.state}",
            "nothing is left to do; a new cohort needs a new bundle",
            Reason.REPLAYED,
        )


def check_shards(session: Session, digest: str, manifest: Manifest) -> None:
    """Refuse shards that came under another manifest: an old cohort with a new audit, or one that
    was withdrawn and is sent again. A cohort that is made anew has all its tiles in another order.

    Raises:
        DigestError: naming the shard.
    """
    shards = {sha256: name for name, sha256 in manifest.files if name.endswith(".h5")}
    for cohort, state, known in shard_digests(session, digest):
        if known in shards:
            raise _known_shard(shards[known], cohort, state)


def repeats_of_others(session: Session, digest: str, tiles: Iterable[bytes]) -> dict[str, int]:
    """How many of these tiles each cohort has that was accepted, be it withdrawn since.

    Args:
        session: of the registry.
        digest: of the bundle that they are from.
        tiles: 16 bytes of each, each once.
    """
    counts: dict[str, int] = {}
    for part in _parts(tiles):
        for cohort, count in repeats(session, digest, part).items():
            counts[cohort] = counts.get(cohort, 0) + count
    return {c: n for c, n in counts.items() if session.get_one(Cohort, c).state in _ENDED}


def check_repeats(
    session: Session, site_id: str, tiles: int, found: Mapping[str, int], settings: IntakeSettings
) -> None:
    """Refuse a cohort that is another one, wholly or in part, or brings a withdrawn one back.

    Args:
        session: of the registry.
        site_id: who sends it.
        tiles: how many different ones it has.
        found: from `repeats_of_others`.
        settings: the limits.

    Raises:
        BundleError: saying how many tiles, and of which cohort.
    """
    for cohort_id, count in found.items():
        cohort = session.get_one(Cohort, cohort_id)
        own, withdrawn = cohort.site_id == site_id, cohort.state is CohortState.WITHDRAWN
        if own and withdrawn:
            of, limit = known_tiles(session, cohort_id), settings.withdrawn_back_share
        else:
            of, limit = tiles, settings.own_repeats_share if own else settings.other_repeats_share
        if count > limit * of:
            raise _known_tiles(cohort, own, f"{count} of {of}", limit)


def _known_tiles(cohort: Cohort, own: bool, count: str, limit: float) -> BundleError:
    whose = f"the cohort {cohort.id[:16]} of {'this' if own else 'another'} site"
    if cohort.state is CohortState.WITHDRAWN:
        return FormatError(
            f"{count} tiles are those of {whose}, which is withdrawn, and a share of {limit:g} "
            "may be",
            "ask the site for a cohort without what was withdrawn",
            Reason.PICTURES_WITHDRAWN,
        )
    return FormatError(
        f"{count} tiles are in {whose}, and a share of {limit:g} may be",
        "ask the site how it made them",
        Reason.PICTURES_HELD_ALREADY if own else Reason.PICTURES_OF_ANOTHER_SITE,
    )


def _known_shard(name: str, cohort: str, state: CohortState) -> BundleError:
    withdrawn = state is CohortState.WITHDRAWN
    return DigestError(
        f"{name} is a shard of the bundle {cohort[:16]}, which is {state}",
        "ask the site for a cohort without what was withdrawn"
        if withdrawn
        else "withdraw that bundle first, if this one is to take its place",
        Reason.SHARDS_WITHDRAWN if withdrawn else Reason.SHARDS_HELD_ALREADY,
    )


def _parts(tiles: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(tiles)
    while part := list(islice(rest, _AT_ONCE)):
        yield part
