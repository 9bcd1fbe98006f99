"""Which tiles the hub has seen: a digest of each tile of each cohort that was verified."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from hub_server.registry.tables import TileDigest


def repeats(session: Session, digest: str, tile_digests: Collection[bytes]) -> dict[str, int]:
    """How many of these tiles other cohorts have, by cohort.

    Args:
        session: of the registry.
        digest: the bundle's, which is left out.
        tile_digests: of its tiles, each once.
    """
    counts: dict[str, int] = {}
    for part in _parts(sorted(set(tile_digests))):
        wanted = (
            select(TileDigest.cohort_id, func.count())
            .where(TileDigest.digest.in_(part), TileDigest.cohort_id != digest)
            .group_by(TileDigest.cohort_id)
        )
        for cohort_id, count in session.execute(wanted):
            counts[cohort_id] = counts.get(cohort_id, 0) + count
    return counts


def known_tiles(session: Session, digest: str) -> int:
    """How many different tiles of a cohort the registry knows, also of a withdrawn one."""
    wanted = select(func.count()).where(TileDigest.cohort_id == digest)
    return int(session.scalar(wanted) or 0)


def keep_digests(session: Session, cohort: str, digests: Iterable[bytes]) -> None:
    """Keep these as the digests of a cohort's tiles, each once."""
    session.execute(delete(TileDigest).where(TileDigest.cohort_id == cohort))
    # In parts: a row as a dict takes far more than its digest.
    for part in _parts(sorted(set(digests)), 10_000):
        session.execute(insert(TileDigest), [{"cohort_id": cohort, "digest": d} for d in part])


def _parts(digests: list[bytes], size: int = 500) -> Iterable[list[bytes]]:
    """Below the number of parameters that SQLite takes in one statement."""
    return (digests[start : start + size] for start in range(0, len(digests), size))
