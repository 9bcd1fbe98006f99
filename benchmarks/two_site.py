"""Two sites: alone, pooled, by synthetic copies, and with adapters trained at several epsilons.

Each arm is a set of training tiles; the question is how well a classifier that learns from it
reads real tiles of both sites, and what its synthetic tiles tell of their patients:

1. `lung_tiles` by near-duplicate group: two sites, site B with a *simulated* other stain, and test
   groups that nano has never seen, in both stains (as ``table1.py``);
2. arms of real tiles: site A alone, site B alone, both pooled (the upper bound, which hospitals
   may not do);
3. arms of synthetic tiles, both sites' cohorts pooled: by nano as it is, and by nano with an
   adapter that both sites train by DP-SGD (patient = group) at epsilon 1, 3, 8 and infinity; five
   groups are behind each tile, in one arm a single one;
4. k-NN and a linear probe (Thunder's) on the `texture` descriptor, which no generator saw; the
   intervals are a bootstrap over test groups. Beside it the residual of patient linkage that each
   site's audit found, the larger of its two attacks. Limits of the gate are lifted, so that what
   it would refuse is shown too, and named.

    OMP_NUM_THREADS=1 python benchmarks/two_site.py --work DIR   # goes on where it stopped

Writes results/two_site_<machine>.json, docs/two-site.md and docs/images/two_site.svg. Needs
../shared/data.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from _results import write_result
from _table1_data import (
    CLASSES,
    SITES,
    DataSettings,
    group_numbers,
    read_split,
    real_tiles,
    write_tiles,
)
from _table1_sites import CohortSettings, SyntheticCohort, make_cohort
from _two_site_adapters import AdapterSettings, federated_generator, make_store
from _two_site_report import write_report
from PIL import Image

from pixcell_share.encoders import load_encoder
from pixcell_share.evaluation import (
    Embedded,
    EmbeddedDataset,
    balanced_accuracy_by_patient,
    run_task,
)
from pixcell_share.privacy import GateLimits

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("knn", "linear_probing")
EPSILONS = (1.0, 3.0, 8.0, math.inf)
_VALIDATION = 0.2
_LINKAGE = ("patient_linkage", "patient_linkage_conditioning")


@dataclass(frozen=True)
class Experiment:
    """All settings."""

    tiles: Path = ROOT.parent / "shared" / "data" / "lung_tiles"
    data: DataSettings = DataSettings(real_tiles=1)
    cohort: CohortSettings = CohortSettings(tiles_per_group=1, lifted=True)
    adapter: AdapterSettings = AdapterSettings()
    encoder: str = "texture"
    """What the classifiers see."""

    def describe(self) -> dict[str, Any]:
        """For the result, without paths."""
        return {key: value for key, value in asdict(self).items() if key != "tiles"}


class Tiles:
    """Embeddings, classes and groups of some tiles."""

    def __init__(self, embeddings: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> None:
        self.embeddings, self.labels, self.groups = embeddings, labels, groups

    @classmethod
    def of_folder(cls, folder: Path, encoder: Any) -> Tiles:
        """Tiles that `write_tiles` wrote."""
        rows = [line.split(",") for line in (folder / "tiles.csv").read_text().split()[1:]]
        pictures = [np.asarray(Image.open(folder / name).convert("RGB")) for name, _, _ in rows]
        labels = np.array([CLASSES.index(label) for _, _, label in rows], np.int64)
        groups = np.unique([group for _, group, _ in rows], return_inverse=True)[1]
        return cls(_embed(encoder, pictures), labels, groups.astype(np.int64))

    @classmethod
    def of_bundle(cls, bundle: Path, encoder: Any) -> Tiles:
        """A cohort; each tile is a group of its own, since the bundle does not say whose it is."""
        pictures, labels = [], []
        for path in sorted(bundle.glob("shard-*.h5")):
            with h5py.File(path) as file:
                pictures += list(file["images"][()])
                labels.append(file["labels"][()])
        numbers = np.concatenate(labels).astype(np.int64)
        return cls(_embed(encoder, pictures), numbers, np.arange(len(numbers)))

    def __add__(self, other: Tiles) -> Tiles:
        groups = np.concatenate([self.groups, other.groups + self.groups.max() + 1])
        return Tiles(
            np.concatenate([self.embeddings, other.embeddings]),
            np.concatenate([self.labels, other.labels]),
            groups,
        )

    def parts(self) -> tuple[Embedded, Embedded]:
        """To learn from and to choose by: a fifth of the groups."""
        rng = np.random.default_rng(0)
        names = rng.permutation(self.groups.max() + 1)
        chosen = np.isin(self.groups, names[: round(_VALIDATION * len(names))])
        return self._part(~chosen), self._part(chosen)

    def _part(self, rows: np.ndarray) -> Embedded:
        return Embedded(np.ascontiguousarray(self.embeddings[rows]), self.labels[rows])


def _embed(encoder: Any, pictures: list[np.ndarray]) -> np.ndarray:
    parts = []
    for picture in pictures:
        parts.append(np.asarray(encoder.embed(picture[None]), np.float32))
    return np.concatenate(parts)


def judge(name: str, kind: str, learned: Tiles, test: Tiles) -> dict[str, Any]:
    """Balanced accuracy of both protocols on the test tiles of both sites."""
    train, validation = learned.parts()
    dataset = EmbeddedDataset(name, train, validation, Embedded(test.embeddings, test.labels))
    figures = {}
    for task in TASKS:
        predicted = run_task(task, dataset).predicted[""]
        found = balanced_accuracy_by_patient(test.labels, predicted, test.groups, seed=0)
        figures[task] = asdict(found)
    return {"name": name, "kind": kind, "tiles": len(learned.labels), "figures": figures}


def linkage(cohort: SyntheticCohort) -> dict[str, float]:
    """Residual of the stronger attack in the audit of a cohort, with its interval."""
    audit = json.loads((cohort.bundle.parent / "audit.json").read_text())
    tests = [t["figures"] for t in audit["tests"] if t["name"] in _LINKAGE]
    worst = max(tests, key=lambda figures: figures["residual"])
    return {key: worst[f"residual{end}"] for key, end in
            (("value", ""), ("low", "_low"), ("high", "_high"))}  # fmt: skip


def usual_verdict(cohort: SyntheticCohort) -> str:
    """What a site's gate would say, whose limits were not lifted."""
    audit, usual = json.loads((cohort.bundle.parent / "audit.json").read_text()), GateLimits()
    figures = {test["name"]: test["figures"] for test in audit["tests"]}
    linked = max(figures[name]["residual"] for name in _LINKAGE) > usual.linkage_residual
    found = linked or figures["retrieval"]["excess"] > usual.retrieval_excess
    return "REFUSE" if found else str(cohort.outcome["verdict"])


def run(experiment: Experiment, work: Path) -> dict[str, Any]:
    """The whole experiment; its result."""
    split = read_split(experiment.tiles, experiment.data)
    encoder = load_encoder(experiment.encoder)
    own, real, test = {}, {}, []
    for site in SITES:
        write = (experiment.tiles, split.sites[site], site)
        own[site] = write_tiles(*write, work / "sites" / site / "tiles", experiment.data)
        some = real_tiles(split.sites[site], experiment.data.real_tiles)
        folder = write_tiles(experiment.tiles, some, site, work / "real" / site, experiment.data)
        real[site] = Tiles.of_folder(folder, encoder)
        judged = (experiment.tiles, split.judged["test"], site)
        folder = write_tiles(*judged, work / "test" / site, experiment.data)
        test.append(Tiles.of_folder(folder, encoder))
    both = Tiles(
        np.concatenate([t.embeddings for t in test]),
        np.concatenate([t.labels for t in test]),
        np.tile(group_numbers(split.judged["test"]), 2),  # a group is one unit in both stains
    )
    arms = [
        judge("site A alone", "real", real["A"], both),
        judge("site B alone", "real", real["B"], both),
        judge("pooled real", "real", real["A"] + real["B"], both),
    ]
    stores = {site: make_store(own[site], work / "stores" / site) for site in SITES}
    usual = experiment.cohort
    plans: dict[str, tuple[CohortSettings, list[dict]]] = {
        "pooled synthetic": (usual, []),
        "pooled synthetic, mix 1": (replace(usual, mix=1), []),
    }
    for epsilon in EPSILONS:
        folder, records = federated_generator(
            stores, epsilon, experiment.adapter, work / f"adapter-{epsilon:g}"
        )
        name = f"adapter, epsilon {epsilon:g}".replace("inf", "∞")
        plans[name] = (replace(usual, model=str(folder)), records)
    for name, (settings, records) in plans.items():
        place = work / "cohorts" / name.replace(", ", "-").replace(" ", "-").replace("∞", "inf")
        cohorts = {site: make_cohort(site, own[site], place / site, settings) for site in SITES}
        tiles = [Tiles.of_bundle(cohort.bundle, encoder) for cohort in cohorts.values()]
        arm = judge(name, "synthetic", tiles[0] + tiles[1], both)
        arms.append(arm | {
            "linkage": {site: linkage(cohort) for site, cohort in cohorts.items()},
            "verdicts": {site: usual_verdict(cohort) for site, cohort in cohorts.items()},
            "records": records,
        })  # fmt: skip
        print(json.dumps(arms[-1]["figures"]), flush=True)
    counts = {site: len(group_numbers(split.sites[site])) for site in SITES}
    groups = {site: int(group_numbers(split.sites[site]).max()) + 1 for site in SITES}
    return {
        "settings": experiment.describe(),
        "tiles": counts,
        "groups": groups | {"test": int(both.groups.max()) + 1},
        "arms": arms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of all parts")
    work = parser.parse_args().work.resolve()
    result = run(Experiment(), work)
    path = write_result("two_site", result, ("torch", "numpy", "opacus", "pixcell-share"))
    write_report(result, ROOT / "docs")
    print(path)


if __name__ == "__main__":
    main()
