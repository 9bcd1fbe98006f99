"""`pixcell-train latents check`: every file, digest, index line and number of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pixcell_share.progress import Advance, View
from pixcell_share.training.latents.info import SPLITS, read_store_file
from pixcell_share.training.latents.shards import (
    DIGESTS,
    EMBEDDINGS,
    INDEX,
    LATENTS,
    PARTS,
    found_numbers,
    open_rows,
    read_index,
    stem,
)
from pixcell_share.training.latents.store import Fault, find_faults, finite_rows

_CHUNK_BYTES = 2**26
_CHUNK = 2**22


def check_stores(folders: Sequence[Path], view: View) -> list[Fault]:
    """Everything that is wrong with some stores.

    Raises:
        SettingsError: a folder is no store.
        DataError: a ``store.json`` is damaged.
    """
    faults: list[Fault] = []
    for folder in folders:
        found = find_faults(folder, read_store_file(folder))
        faults += found
        bad = {fault.where for fault in found}
        names = [name for name in _names(folder) if name not in bad]
        # The arrays are read twice: for their digests and for their numbers.
        parts = (*PARTS, LATENTS, EMBEDDINGS)
        size = sum((folder / f"{name}.{part}").stat().st_size for name in names for part in parts)
        with view.stage("check", size, "bytes") as advance:
            for name in names:
                faults += _check_shard(folder, name, advance)
    return faults


def _names(folder: Path) -> list[str]:
    return [stem(split, n) for split in SPLITS for n in sorted(found_numbers(folder, split))]


def _check_shard(folder: Path, name: str, advance: Advance) -> Iterator[Fault]:
    yield from (Fault(folder, name, what) for what in _digest_faults(folder, name, advance))
    try:
        read_index(folder / f"{name}.{INDEX}")
    except (OSError, ValueError) as error:
        yield Fault(folder, name, str(error))
    for part in (LATENTS, EMBEDDINGS):
        rows = _bad_rows(folder / f"{name}.{part}", advance)
        if rows:
            listed = ", ".join(map(str, rows))
            yield Fault(
                folder, name, f"NaN or infinite {part.removesuffix('.npy')} in row {listed}"
            )


def _bad_rows(path: Path, advance: Advance) -> list[int]:
    """Rows with a number that is not finite."""
    rows = open_rows(path)
    step = max(1, _CHUNK_BYTES // rows[0].nbytes)
    bad: list[int] = []
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        bad += (start + np.flatnonzero(~finite_rows(chunk))).tolist()
        advance(chunk.nbytes)
    return bad


def _digest_faults(folder: Path, name: str, advance: Advance) -> Iterator[str]:
    path = folder / f"{name}.{DIGESTS}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        stored = {file: hexes for hexes, _, file in (line.partition("  ") for line in lines)}
    except (OSError, UnicodeDecodeError) as error:
        yield f"{path.name} cannot be read: {error}"
        return
    for part in PARTS:
        file = f"{name}.{part}"
        if stored.get(file) != _digest(folder / file, advance):
            yield f"{file} is not as it was written: its SHA-256 differs from {path.name}"


def _digest(path: Path, advance: Advance) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()
