"""How the `latents` commands show their results, to people and as ``--json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from pixcell_share.console import output, print_json
from pixcell_share.training.latents.info import SPLITS
from pixcell_share.training.latents.outcome import Made
from pixcell_share.training.latents.store import Fault
from pixcell_share.training.latents.summary import Count, Summary

_out = output()
_TABLE_2 = "By source (as Table 2 of arXiv 2506.05127)"
_TABLE_11 = "By organ (as Table 11)"


def show_made(made: Made, as_json: bool) -> int:
    """What a run came to; returns the exit code."""
    if as_json:
        print_json({**_plain(asdict(made)), "exit_code": made.exit_code})
        return made.exit_code
    if made.status == "nothing to do":
        _out.print("nothing to do: the store is finished")
    reached = f" + {made.not_reached} not needed for --limit" if made.not_reached else ""
    _out.print(
        f"{made.unit:<9}{made.found} found = {made.used} used "
        f"+ {len(made.left_out)} left out{reached}"
    )
    for entry in (*made.left_out, *made.partly_lost):
        _out.print(f"  {entry['name']}: {entry['cause']}\n    {entry['remedy']}", markup=False)
    if made.candidates:
        parts = [f"{count} {name}" for name, count in made.candidates.items() if count]
        _out.print(f"squares  {', '.join(parts).replace('_', ' ')}")
    for split in SPLITS:
        _out.print(f"{split:<9}{made.rows[split]} rows in {made.shards[split]} shards")
    _out.print(f"store    {made.store}", markup=False)
    return made.exit_code


def show_summary(summary: Summary, as_json: bool) -> None:
    """Tables 2 and 11 for the data at hand, and what lies on the disk."""
    if as_json:
        print_json(
            {
                "sources": _counts(summary.sources),
                "organs": _counts(summary.organs),
                "splits": _counts(summary.splits),
                "total": summary.total.as_dict(),
                "stores": [_plain(asdict(store)) for store in summary.stores],
            }
        )
        return
    _out.print(_table(_TABLE_2, "source", summary, {**summary.sources, "all": summary.total}))
    _out.print(_table(_TABLE_11, "organ", summary, {**summary.organs, "all": summary.total}))
    _out.print(_table("By split", "split", summary, summary.splits))
    _out.print(_store_table(summary))
    for store in summary.stores:
        for fault in store.faults:
            _out.print(f"not counted: {fault}", markup=False)


def show_faults(faults: Sequence[Fault], folders: Sequence[Path], as_json: bool) -> int:
    """What is wrong with stores; returns the exit code."""
    code = 1 if faults else 0
    if as_json:
        listed = [{"store": str(f.store), "where": f.where, "what": f.what} for f in faults]
        print_json({"faults": listed, "exit_code": code})
        return code
    for fault in faults:
        _out.print(str(fault), markup=False)
    _out.print(f"{len(folders)} stores checked, {len(faults)} faults")
    return code


def _table(title: str, name: str, summary: Summary, counts: Mapping[str, Count]) -> Table:
    large = [px for px in summary.sizes if px > 256]
    table = Table(title=title, title_justify="left")
    table.add_column(name)
    for column in ("slides", "cases", *(f"{px} px regions" for px in large), "256 px patches"):
        table.add_column(column, justify="right")
    for key, count in counts.items():
        sizes = [count.regions.get(px, 0) for px in large]
        numbers = [len(count.slides), len(count.cases), *sizes, count.patches]
        table.add_row(key, *(f"{number:,}" for number in numbers))
    return table


def _store_table(summary: Summary) -> Table:
    table = Table(title="Stores", title_justify="left")
    for column in ("store", "px", "turns", "train", "holdout", "shards", "GB", "VAE", "encoder"):
        table.add_column(
            column, justify="left" if column in {"store", "VAE", "encoder"} else "right"
        )
    for store in summary.stores:
        rows = [f"{store.rows[split]:,}" for split in SPLITS]
        shards = str(sum(store.shards.values()))
        table.add_row(
            str(store.folder), str(store.region_px), str(store.turns), *rows, shards,
            f"{store.bytes / 1e9:.3f}", store.vae, store.encoder,
        )  # fmt: skip
    return table


def _counts(counts: Mapping[str, Count]) -> dict[str, Any]:
    return {key: count.as_dict() for key, count in counts.items()}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}
