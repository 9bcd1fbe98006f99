"""What became of every slide or picture of a run, in counts that add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixcell_share.errors import DataError
from pixcell_share.training.latents.entries import Entry
from pixcell_share.training.latents.info import SPLITS, read_store_file
from pixcell_share.training.latents.journal import Journal


@dataclass(frozen=True)
class Made:
    """What a run came to; the counts add up."""

    status: str
    """``done`` or ``nothing to do``."""
    store: Path
    unit: str
    """``slides`` or ``pictures``."""
    found: int
    """Slides or pictures that were there."""
    used: int
    left_out: tuple[dict[str, str], ...]
    """Name, code, cause and remedy of each that gives nothing."""
    not_reached: int
    """Those that ``--limit`` made unnecessary."""
    partly_lost: tuple[dict[str, str], ...]
    """As ``left_out``, for those of which some regions could not be read."""
    rows: dict[str, int]
    """Rows by split."""
    shards: dict[str, int]
    """Shards by split."""
    candidates: dict[str, int] = field(default_factory=dict)
    """Squares of the grids of all slides, and what became of them."""

    @property
    def exit_code(self) -> int:
        """3 where something was left out."""
        return 3 if self.left_out or self.partly_lost else 0


def sum_up(status: str, store: Path, unit: str, entries: Sequence[Entry], journal: Journal) -> Made:
    """The outcome of a finished store."""
    known = {entry: journal[entry] for entry in entries if entry in journal}
    used = {entry for entry, what in known.items() if what.usable}
    reasons = [
        (entry in used, {"name": entry.name, **what.reason})
        for entry, what in known.items()
        if what.reason
    ]
    shards = read_store_file(store).shards or {split: [] for split in SPLITS}
    return Made(
        status=status,
        store=store,
        unit=unit,
        found=len(entries),
        used=len(used),
        left_out=tuple(reason for is_used, reason in reasons if not is_used),
        not_reached=len(entries) - len(known),
        partly_lost=tuple(reason for is_used, reason in reasons if is_used),
        rows={split: sum(rows) for split, rows in shards.items()},
        shards={split: len(rows) for split, rows in shards.items()},
        candidates=_summed([what.counts for what in known.values()]),
    )


def nothing_left(unit: str, entries: Sequence[Entry], journal: Journal) -> DataError:
    """The error for a run that has no region to store."""
    known = [journal[entry] for entry in entries if entry in journal]
    causes = [what.reason["cause"] for what in known if what.reason]
    return DataError(
        f"none of {len(entries)} {unit} can be used: {'; '.join(causes[:3])}",
        "look at the first of them; survey.jsonl in the store names all",
    )


def _summed(counts: list[dict[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for count in counts for name in count)
    return {name: sum(count.get(name, 0) for count in counts) for name in names}
