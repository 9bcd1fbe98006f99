"""What a new store will be, and whether a begun one is the same."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pixcell_share.errors import WorkFolderError
from pixcell_share.files import canonical_json
from pixcell_share.training.latents.entries import RegionSource
from pixcell_share.training.latents.info import (
    StoreInfo,
    forget_store_file,
    has_store_file,
    read_store_file,
    rows_of_a_shard,
)
from pixcell_share.training.latents.journal import forget_journal
from pixcell_share.training.latents.models import RegionCoder
from pixcell_share.training.latents.settings import LatentSettings
from pixcell_share.training.latents.shards import DIGESTS


def describe_store(settings: LatentSettings, source: RegionSource, coder: RegionCoder) -> StoreInfo:
    """What all rows will have in common."""
    making = {
        "from": source.unit,
        "inputs": _inputs(source),
        "holdout": settings.holdout.share,
        "holdout_by": settings.holdout.by,
        "limit": settings.limit,
        "overlap_px": settings.overlap_px,
        "resize": settings.resize,
        "precision": coder.precisions,
    }
    values: dict[str, Any] = {
        **coder.geometry(settings.region_px),
        "region_px": settings.region_px,
        "mpp": source.mpp,
        "vae_source": settings.coder.vae,
        "encoder_source": settings.coder.encoder,
        "encoder_weights": settings.coder.weights,
        "turns": settings.turns,
        "making": making,
    }
    row_bytes = StoreInfo(**values).row_bytes
    return StoreInfo(
        **values, shard_rows=rows_of_a_shard(row_bytes, settings.shard_mb, settings.turns)
    )


def _inputs(source: RegionSource) -> str:
    """Changes with the files and with what the table says about them."""
    entries = sorted(
        [e.name, e.size, e.slide, e.case, e.organ, e.source, e.split or ""] for e in source.entries
    )
    digest = hashlib.sha256(canonical_json(entries)).hexdigest()[:16]
    return f"{len(entries)} {source.unit}, {digest}"


def settle(folder: Path, info: StoreInfo, unit: str) -> None:
    """Make way for a store of ``info`` where one was begun before.

    A store that holds no shard yet, because its first run met a wrong option, begins anew.

    Raises:
        WorkFolderError: shards were made of other files, or of another table. (What else differs
            is for `StoreWriter` to refuse.)
    """
    if not has_store_file(folder):
        return
    before = read_store_file(folder)
    if before.info == info:
        return
    if not before.finished and not any(folder.glob(f"*.{DIGESTS}")):
        forget_store_file(folder)
        forget_journal(folder)
    elif before.info.making.get("inputs") != info.making["inputs"]:
        raise WorkFolderError(
            f"the {unit} or their table have changed since {folder} was begun "
            f"({before.info.making.get('inputs')} then, {info.making['inputs']} now)",
            "make a second store of what is new (training takes several), or choose another --out",
        )
