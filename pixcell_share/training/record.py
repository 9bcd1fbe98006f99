"""``training.json``: which stores some weights were trained on, beside the weights.

A site that shares tiles of weights trained on its own patients has to ask whether the weights
tell who they were trained on. The record says that, and of which stores: by digest, without a
name of a slide or a patient. It helps whoever means well; someone who wants to hide the training
can delete it, so no signature should rest on its absence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pixcell_share.errors import DataError
from pixcell_share.files import atomic_write_text
from pixcell_share.training.latents import IndexRow, LatentStore, Source
from pixcell_share.training.latents.shards import DIGESTS, digest_lines, found_numbers, stem

FILE = "training.json"
_SCHEMA = 1


@dataclass(frozen=True)
class TrainedStore:
    """One store that weights were trained on."""

    rows_sha256: str
    """`rows_digest` of the store."""
    regions: int
    """Rows that were trained on."""
    holdout: int
    """Rows that were not."""
    patients: int
    """Patients of the rows trained on; where no table names them, slides."""
    region_px: int
    """Side of a region."""
    vae_sha256: str
    """Of the VAE that made the latents; empty where the store does not say."""
    encoder_sha256: str
    """Of the encoder that made the embeddings; empty where the store does not say."""

    @classmethod
    def of(cls, store: LatentStore) -> TrainedStore:
        """Describe a store."""
        info = store.info
        return cls(
            rows_sha256=rows_digest(store.folder),
            regions=store.count("train"),
            holdout=store.count("holdout"),
            patients=len({patient_of(row) for row in store.index("train")}),
            region_px=info.region_px,
            vae_sha256=str(info.vae.get("sha256", "")),
            encoder_sha256=str(info.encoder.get("sha256", "")),
        )


@dataclass(frozen=True)
class TrainingRecord:
    """What some weights were trained on, also before the stage that made them."""

    stores: tuple[TrainedStore, ...]
    """Each once. Empty where a run of an earlier version did not note them: then nobody can show
    which tiles they were, and a site refuses the weights."""


def patient_of(row: IndexRow) -> str:
    """The case of a row; where no table names it, the slide."""
    return row.case or row.slide


def rows_digest(folder: Path) -> str:
    """SHA-256 over the digests of all training shards of a store: changes with any of their rows.

    Raises:
        DataError: a shard cannot be read.
    """
    whole = hashlib.sha256()
    try:
        for number in sorted(found_numbers(folder, "train")):
            whole.update(_shard_digests(folder, stem("train", number)).encode())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{folder} cannot be read: {error}", "make the store again") from error
    return whole.hexdigest()


def _shard_digests(folder: Path, name: str) -> str:
    """The lines that were written with the shard; computed where that file was lost."""
    path = folder / f"{name}.{DIGESTS}"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return digest_lines(folder, name, lambda part: folder / f"{name}.{part}")


def record_of(
    sources: Sequence[Source],
    start: Path | None = None,
    noted: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``run.json`` notes each time a run is begun or gone on with.

    Args:
        sources: of the run.
        start: model folder that it starts from; what that was trained on counts as well.
        noted: what was noted before: the folder of ``start`` may be gone by now.

    Raises:
        DataError: a store's digests or the record of ``start`` cannot be read.
    """
    before = trained_here(start) if start is not None else None
    stores = [TrainedStore(**store) for store in (noted or {}).get("stores", ())]
    stores += before.stores if before else ()
    stores += [TrainedStore.of(source.store) for source in sources]
    return {"stores": [asdict(store) for store in {s.rows_sha256: s for s in stores}.values()]}


def write_record(folder: Path, noted: Mapping[str, Any] | None) -> None:
    """Write ``training.json``.

    Args:
        folder: of the model.
        noted: from `record_of`; None where a run of an earlier version noted nothing.
    """
    value = {"schema": _SCHEMA, **(noted or {"stores": []})}
    atomic_write_text(folder / FILE, json.dumps(value, indent=2) + "\n")


def trained_here(folder: Path | str) -> TrainingRecord | None:
    """What a model was trained on by ``pixcell-train``; None for a model without a record.

    Args:
        folder: of the model, or its ``transformer/``; a name that is no folder of this machine
            (``nano``, a repository) has no record.

    Raises:
        DataError: the record is damaged, or of a later version.
    """
    place = Path(folder).expanduser()
    place = place.parent if place.name == "transformer" else place
    path = place / FILE
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != _SCHEMA:
            raise ValueError(f"it is of version {value['schema']}, this program reads {_SCHEMA}")
        return TrainingRecord(tuple(TrainedStore(**store) for store in value["stores"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} does not say what the model was trained on: {error!r}",
            "export the model again with `pixcell-train export`",
        ) from error
