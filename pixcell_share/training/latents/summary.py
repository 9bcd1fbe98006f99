"""What stores hold, counted as the paper counts its data: by source and by organ.

The tables that these stand for are Table 2 (sources) and Table 11 (organs) of PixCell,
arXiv 2506.05127.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixcell_share.training.latents.info import SPLITS
from pixcell_share.training.latents.shards import IndexRow
from pixcell_share.training.latents.store import LatentStore

UNNAMED = "not named"
"""Where the tables of the stores say no source or organ."""


@dataclass
class Count:
    """One line of a table."""

    slides: set[str] = field(default_factory=set)
    cases: set[str] = field(default_factory=set)
    """Patients; a slide without a case counts as a patient of its own."""
    regions: dict[int, int] = field(default_factory=dict)
    """Regions by their side in pixels; the orientations of one count once."""
    patches: int = 0
    """256 px patches in these regions."""

    def add(self, row: IndexRow, region_px: int, tokens: int) -> None:
        """Count one row of an index."""
        self.slides.add(row.slide)
        self.cases.add(row.case or row.slide)
        if row.turn == "0":
            self.regions[region_px] = self.regions.get(region_px, 0) + 1
            self.patches += tokens

    def as_dict(self) -> dict[str, Any]:
        """The numbers by name."""
        return {
            "slides": len(self.slides),
            "cases": len(self.cases),
            "regions": {str(px): count for px, count in sorted(self.regions.items())},
            "patches_256": self.patches,
        }


@dataclass(frozen=True)
class StoreSummary:
    """One store on the disk."""

    folder: Path
    region_px: int
    turns: int
    rows: dict[str, int]
    """Rows by split."""
    shards: dict[str, int]
    """Shards by split."""
    bytes: int
    vae: str
    encoder: str
    faults: tuple[str, ...]
    """What was left out of all counts."""


@dataclass(frozen=True)
class Summary:
    """What some stores hold together."""

    stores: tuple[StoreSummary, ...]
    sources: dict[str, Count]
    organs: dict[str, Count]
    splits: dict[str, Count]
    total: Count

    @property
    def sizes(self) -> list[int]:
        """Sides of the regions, largest first."""
        return sorted(self.total.regions, reverse=True)


def summarise(folders: Sequence[Path]) -> Summary:
    """Count the rows of stores; bad shards are left out and named.

    Raises:
        SettingsError: a folder is no store.
        DataError: a ``store.json`` or an index is damaged.
    """
    stores = [LatentStore.open(folder, on_bad="skip", say=_nobody) for folder in folders]
    summary = Summary(tuple(map(_of_store, stores)), {}, {}, {}, Count())
    for store in stores:
        for split in SPLITS:
            _count(summary, store, split, store.index(split))
    return Summary(
        summary.stores,
        dict(sorted(summary.sources.items())),
        dict(sorted(summary.organs.items())),
        summary.splits,
        summary.total,
    )


def _count(summary: Summary, store: LatentStore, split: str, rows: Iterable[IndexRow]) -> None:
    info = store.info
    here = summary.splits.setdefault(split, Count())
    for row in rows:
        for count in (
            summary.sources.setdefault(row.source or UNNAMED, Count()),
            summary.organs.setdefault(row.organ or UNNAMED, Count()),
            here,
            summary.total,
        ):
            count.add(row, info.region_px, info.tokens)


def _of_store(store: LatentStore) -> StoreSummary:
    info = store.info
    return StoreSummary(
        folder=store.folder,
        region_px=info.region_px,
        turns=info.turns,
        rows={split: store.count(split) for split in SPLITS},
        shards={split: len(store.shard_rows(split)) for split in SPLITS},
        bytes=sum(path.stat().st_size for path in store.folder.iterdir() if path.is_file()),
        vae=_model(info.vae),
        encoder=_model(info.encoder),
        faults=tuple(map(str, store.faults)),
    )


def _model(identity: dict[str, Any]) -> str:
    """Name and the beginning of the weights' digest: two models of one name differ in it."""
    return f"{identity.get('name', '?')} ({str(identity.get('sha256', ''))[:8]})"


def _nobody(text: str) -> None:
    """The faults are in the summary."""
