"""Can tiles that nano was trained on be told from tiles that it never saw?

On the lung tiles (LC25000), with nano's own split: its card names the near-duplicate groups that
were held out. A group is the unit of every interval; groups are originals, not patients.

- nano: tiles of training groups against as many of held-out ones, spread over the groups, scored
  as `pixcell-site` does it, in float32.
- control: nano is trained further on one tile of each of half of the held-out groups alone; then
  the same attack has to find these among those of the other half. Where it does not, the first
  figure says nothing.

    python benchmarks/membership.py [--data ../shared/data] [--limit 400] [--work FOLDER]

Writes benchmarks/results/membership_<machine>.json.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_result

from pixcell_share.nano.tiles import SplitSettings
from pixcell_share.pixcell import PixCell
from pixcell_share.privacy.membership import Membership, infer_membership
from pixcell_share.privacy.membership_scores import MembershipSettings, membership_scores
from pixcell_share.progress import choose_view
from pixcell_share.training.batch import Batch
from pixcell_share.training.latents import LatentStore
from pixcell_share.training.latents.make import make_store
from pixcell_share.training.latents.models import CoderSettings
from pixcell_share.training.latents.settings import LatentSettings
from pixcell_share.training.objective import DiffusionObjective, ObjectiveSettings
from site_agent.membership import check_membership

COLUMNS = ("file", "slide", "case", "organ", "source", "split")
BATCH = 8
PER_GROUP = 6
"""Tiles of a held-out group in the store; of a training group one is enough."""
RATE = 1e-3


def make_latents(data: Path, folder: Path) -> Path:
    """A store by `pixcell-train latents`: one tile of each training group, some of the others."""
    groups = defaultdict(list)
    with (data / "lung_tiles" / "manifest.csv").open() as manifest:
        for row in csv.DictReader(manifest):
            groups[row["near_duplicate_group"]].append(row["file"])
    rows = []
    for group, files in sorted(groups.items()):
        held = SplitSettings().held_out(group)
        side = "holdout" if held else "train"
        chosen = np.linspace(0, len(files) - 1, min(len(files), PER_GROUP if held else 1))
        rows += [(files[int(at)], group, group, "lung", "LC25000", side) for at in chosen]
    with (folder / "lung.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    coder = CoderSettings(vae="nano", encoder="nano", dtype="fp32", device="cpu")
    settings = LatentSettings(
        out=folder / "store", coder=coder, regions=data / "lung_tiles", table=folder / "lung.csv",
        region_px=256, resize=True,
    )  # fmt: skip
    with choose_view() as view:
        make_store(settings, view)
    return settings.out


def attack_nano(store: Path, limit: int) -> tuple[Membership, float]:
    """Nano as it is shipped; and the time."""
    began = time.perf_counter()
    with choose_view() as view:
        found = check_membership(
            PixCell.from_pretrained("nano"), [store], limit=limit, seed=0, view=view
        )
    return found, time.perf_counter() - began


def attack_control(store: Path, steps: int) -> Membership:
    """Nano after it has learned half of the held-out groups by heart."""
    opened = LatentStore.open(store)
    regions = opened.read("holdout", np.arange(opened.count("holdout")))
    names = [row.case for row in opened.index("holdout")]
    groups = np.unique(names, return_inverse=True)[1]
    first = np.isin(np.arange(len(groups)), np.unique(groups, return_index=True)[1])
    members, others = (np.flatnonzero(first & (groups % 2 == side)) for side in (0, 1))
    model = PixCell.from_pretrained("nano")
    train(model, regions.latents[members], regions.embeddings[members], steps)
    mine, theirs = (
        membership_scores(model, regions.latents[rows], regions.embeddings[rows], rows=rows)
        for rows in (members, others)
    )
    return infer_membership(mine, groups[members], theirs, groups[others], seed=0)


def train(model: PixCell, latents: np.ndarray, embeddings: np.ndarray, steps: int) -> None:
    """All weights, AdamW, the squared error of the prediction."""
    draw = torch.Generator().manual_seed(0)
    clean = torch.from_numpy(latents.astype(np.float32))
    clean = (clean - model.codec.shift) * model.codec.scale
    condition = torch.from_numpy(embeddings.astype(np.float32))
    prediction = model.new_scheduler().config.prediction_type
    objective = DiffusionObjective(ObjectiveSettings(prediction, learned_variance=False))
    weights = model.transformer.requires_grad_(True).parameters()
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    for step in range(steps):
        rows = torch.randperm(len(clean), generator=draw)[:BATCH]
        batch = Batch(
            latents=clean[rows],
            condition=condition[rows],
            noise=torch.randn((len(rows), *clean.shape[1:]), generator=draw),
            timesteps=torch.randint(0, 1000, (len(rows),), generator=draw),
            dropped=torch.rand(len(rows), generator=draw) < 0.1,
            weights=torch.ones(len(rows)),
            positions=rows,
        )
        losses = objective(model.transformer, batch)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"control: step {step}, loss {losses.total.item():.3f}", flush=True)
    model.transformer.requires_grad_(False)


def report(name: str, found: Membership) -> dict[str, Any]:
    """Print a row of the table, and give it as JSON."""
    print(f"{name}: {found.members} members, {found.nonmembers} others")
    for score in ("loss", "clid"):
        curve = getattr(found, score)
        values = [
            f"{rate} {value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
            for rate, value in (("AUC", curve.auc), ("TPR at 1 %", curve.tpr_1))
        ]
        print(f"  {score}: " + ", ".join(values))
    return {
        "member_groups": found.member_patients,
        "other_groups": found.nonmember_patients,
        **{key: round(value, 4) for key, value in found.figures().items()},
        "resolvable_1_percent": found.loss.resolvable_1,
        "resolvable_0_1_percent": found.loss.resolvable_01,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--limit", type=int, default=400, help="tiles of each kind")
    parser.add_argument("--steps", type=int, default=80, help="of the control's training")
    parser.add_argument("--work", type=Path, help="keeps the latents there for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = make_latents(options.data, options.work or Path(folder))
        nano, seconds = attack_nano(store, options.limit)
        result = {
            "data": "LC25000 lung tiles; near-duplicate groups stand in for patients",
            "settings": asdict(MembershipSettings()),
            "nano": report("nano", nano),
            "milliseconds_per_tile": round(1000 * seconds / (nano.members + nano.nonmembers), 1),
            "control_steps": options.steps,
            "control_rate": RATE,
            "control": report("control", attack_control(store, options.steps)),
        }
    print(write_result("membership", result, packages=("numpy", "torch", "diffusers")))


if __name__ == "__main__":
    main()
