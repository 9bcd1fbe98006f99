"""How strong is the linkage attack, and what makes it so?

Real lung tiles, their near-duplicate groups standing in for patients: 120 in a cohort, 40 set
aside. A synthetic tile is *simulated* in the encoder's space: it keeps a part of its source's
deviation from the class and takes the rest from a tile of a group in neither (part 0: nothing
leaks). The attack of the audit runs with and without whitening; two scores that also ask how near
other patients' real tiles come are compared by their area under the curve.

    python benchmarks/linkage.py              # writes results/linkage_<machine>.json
    python benchmarks/linkage.py --scale 0.2  # fewer repetitions, nothing written

Needs ../shared/data.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from _results import write_result
from PIL import Image
from scipy.spatial.distance import cdist

from pixcell_share.encoders import load_encoder
from pixcell_share.privacy.linkage import LinkageSettings, patient_linkage
from pixcell_share.privacy.rates import auc
from pixcell_share.privacy.sample import AuditSample, Tiles
from pixcell_share.privacy.whitening import Whitening

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "lung_tiles"
EACH = 6
HELD = 3
COHORT, OUTSIDE = 120, 40
PARTS = (0.0, 0.5, 0.7, 0.85)
REPEATS = 12


def embedded(encoder: str) -> Tiles:
    """Six tiles of every group that has as many."""
    with (DATA / "manifest.csv").open(newline="") as file:
        groups = defaultdict(list)
        for row in csv.DictReader(file):
            groups[row["near_duplicate_group"]].append(row)
    rows = [row for group in groups.values() if len(group) >= EACH for row in group[:EACH]]
    classes = sorted({row["class"] for row in rows})
    model, found = load_encoder(encoder), []
    for start in range(0, len(rows), 16):
        images = [Image.open(DATA / row["file"]) for row in rows[start : start + 16]]
        found.append(model.embed(np.stack([np.asarray(i.convert("RGB")) for i in images])))
    names = np.repeat(np.arange(len(rows) // EACH), EACH)
    labels = np.array([classes.index(row["class"]) for row in rows])
    return Tiles(np.concatenate(found).astype(np.float32), names, labels)


def cohort(tiles: Tiles, part: float, seed: int) -> AuditSample:
    """A cohort whose tiles keep ``part`` of their sources."""
    rng = np.random.default_rng(seed)
    people = rng.permutation(np.unique(tiles.patients))
    inside, outside = people[:COHORT], people[COHORT : COHORT + OUTSIDE]
    place = np.arange(len(tiles)) % EACH
    mine = np.isin(tiles.patients, inside)
    conditioning = tiles.take(mine & (place < EACH - HELD))
    pool = tiles.take(~np.isin(tiles.patients, people[: COHORT + OUTSIDE]))
    centres = np.stack([tiles.embeddings[tiles.labels == c].mean(axis=0) for c in range(3)])
    other = np.array([rng.choice(np.flatnonzero(pool.labels == c)) for c in conditioning.labels])
    centre = centres[conditioning.labels]
    kept = part * (conditioning.embeddings - centre)
    taken = np.sqrt(1 - part**2) * (pool.embeddings[other] - centre)
    return AuditSample(
        synthetic=(centre + kept + taken).astype(np.float32),
        synthetic_labels=conditioning.labels,
        sources=np.arange(len(conditioning))[:, None],
        conditioning=conditioning,
        probes=tiles.take(mine & (place >= EACH - HELD)),
        holdout=tiles.take(np.isin(tiles.patients, outside)),
    )


def calibrated(sample: AuditSample) -> dict[str, float]:
    """Area under the curve of the plain score and of two that know other patients' tiles."""
    outside = sample.holdout.take(np.arange(len(sample.holdout)) % EACH >= EACH - HELD)
    held = np.concatenate([sample.probes.embeddings, outside.embeddings])
    names = np.concatenate([sample.probes.patients, outside.patients])
    labels = np.concatenate([sample.probes.labels, outside.labels])
    space, out = Whitening.of(held), np.isin(names, outside.patients)
    rows, made = space(held), space(sample.synthetic)
    to_made = cdist(rows, made)
    to_made[labels[:, None] != sample.synthetic_labels] = np.inf
    to_real = cdist(rows, rows[out])
    own = (names[:, None] == names[out]) | (labels[:, None] != labels[out])
    to_real[own] = np.inf
    near, real = to_made.min(axis=1), to_real.min(axis=1)
    fit = np.polyfit(real[out], near[out], 1)
    scores = {"plain": -near, "difference": real - near, "regression": np.polyval(fit, real) - near}
    by_patient = {name: score.reshape(-1, HELD).mean(axis=1) for name, score in scores.items()}
    members = len(sample.probes) // HELD
    return {name: auc(score[:members], score[members:]) for name, score in by_patient.items()}


def measure(tiles: Tiles, part: float, repeats: int) -> dict[str, float]:
    """Means over repetitions."""
    found = defaultdict(list)
    for seed in range(repeats):
        sample = cohort(tiles, part, seed)
        for name, whiten in (("whitened", True), ("as_given", False)):
            attack = patient_linkage(sample, seed=seed, settings=LinkageSettings(whiten=whiten))
            found[f"{name}_attack_rate"].append(attack.attack.value)
            found[f"{name}_residual"].append(attack.residual.value)
            found[f"{name}_noticed"].append(attack.residual.low > 0)
            found[f"{name}_auc"].append(attack.auc.value)
        for name, area in calibrated(sample).items():
            found[f"auc_{name}"].append(area)
    return {name: round(float(np.mean(values)), 3) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the repetitions")
    parser.add_argument("--encoders", nargs="+", default=["texture", "nano"])
    options = parser.parse_args()
    repeats = max(1, round(options.scale * REPEATS))
    result: dict[str, Any] = {"cohort": COHORT, "outside": OUTSIDE, "repeats": repeats}
    for encoder in options.encoders:
        tiles = embedded(encoder)
        result[encoder] = {"dim": tiles.embeddings.shape[1], "tiles": len(tiles)}
        for part in PARTS:
            result[encoder][f"part_{part:g}"] = measure(tiles, part, repeats)
            print(encoder, part, result[encoder][f"part_{part:g}"], flush=True)
    if options.scale == 1.0:
        print(write_result("linkage", result, ("numpy", "scipy", "torch")))


if __name__ == "__main__":
    main()
