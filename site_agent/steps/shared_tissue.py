"""The same tissue under two patients' names: the groups of the audit would not be apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import ReleaseRefusedError
from pixcell_share.slides import SlideRecord
from site_agent.inputs import patient_of
from site_agent.run_folder import RunFolder, SlideState

_FEATURELESS = 0.99
"""Norm of a fingerprint below which a tile shows nothing (`fingerprints.Scale.floor`)."""


def refuse_shared_tissue(
    run: RunFolder, records: Sequence[SlideRecord], states: Sequence[SlideState]
) -> None:
    """Compare the pixel fingerprints of all patients with each other, bit by bit.

    Two tiles with structure in them are never equal by chance. A slide that lies there twice, under
    two patients, would put one person both into the cohort and among those set aside, be charged to
    neither whole in the ledger, and count twice in ``--mix``.

    Raises:
        ReleaseRefusedError: two patients share a tile; both are named, on this machine only.
    """
    used = [pair for pair in zip(records, states, strict=True) if pair[1].used]
    names = sorted({patient_of(record) for record, _ in used})
    hashes, owners = _hashed(run, used, {name: place for place, name in enumerate(names)})
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    shared = np.flatnonzero((hashes[1:] == hashes[:-1]) & (owners[1:] != owners[:-1]))
    if len(shared):
        one, other = (names[int(owners[shared[0] + step])] for step in (0, 1))
        raise ReleaseRefusedError(
            f"{len(shared)} tile{'s' if len(shared) > 1 else ''} of one patient are also another "
            f"patient's, the first of {one} and {other}: they are one patient, or a slide is there "
            "twice",
            "give both slides one case_id in the table, or take one of them away",
        )


def _hashed(
    run: RunFolder, used: Sequence[tuple[SlideRecord, SlideState]], number: dict[str, int]
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """(N,) a hash of each tile that has structure, and (N,) the number of its patient."""
    hashes, owners = [], []
    for record, _ in used:
        for block in _blocks(np.load(run.fingerprints(record.slide_id), mmap_mode="r")):
            hashes.append(_hash(block))
            owners.append(np.full(len(hashes[-1]), number[patient_of(record)], np.int32))
    return np.concatenate(hashes), np.concatenate(owners)


def _blocks(prints: NDArray[np.float16], rows: int = 4096) -> Iterator[NDArray[np.float16]]:
    for start in range(0, len(prints), rows):
        yield np.ascontiguousarray(prints[start : start + rows])


def _hash(prints: NDArray[np.float16]) -> NDArray[np.uint64]:
    """64 bits for each of those (N, 256) rows that have structure."""
    seen = prints[np.linalg.norm(prints.astype(np.float32), axis=1) >= _FEATURELESS]
    digests = b"".join(blake2b(row.tobytes(), digest_size=8).digest() for row in seen)
    return np.frombuffer(digests, np.uint64)
