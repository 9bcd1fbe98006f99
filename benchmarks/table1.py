"""The paper's table 1 in small: real tiles, a synthetic copy, and real plus another site's copy.

PixCell's table 1 reports mean balanced accuracies of 77.89 (real), 76.64 (synthetic) and 79.11
(real plus another site's synthetic) for DINOv2 encoders on nine tasks. Here the same three arms
are run with what is at hand:

1. `lung_tiles` by near-duplicate group: two sites, site B with a *simulated* other stain, and other
   groups for the evaluation, the test groups being those that nano has never seen;
2. each site's synthetic cohort by `pixcell-site synthesize` with nano: audited, and signed;
3. three DINOv2 encoders of equal budget (`small`, shrunk), for each of five seeds;
4. k-NN and linear probe (Thunder's) on tiles of both stains, and from stain A to stain B; the
   intervals are a bootstrap over test groups and seeds.

For reference: the encoder as a training begins with it, and nano's.

    python benchmarks/table1.py --work DIR      # the same command goes on where it stopped
    python benchmarks/table1.py --work DIR --config benchmarks/table1_a100.toml

Writes results/table1_<machine>.json, docs/table1.md and docs/images/table1.svg. Needs
../shared/data.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from _results import write_result
from _table1_data import (
    SITES,
    DataSettings,
    Split,
    group_numbers,
    judged_dataset,
    read_split,
    real_tiles,
    write_tiles,
)
from _table1_judging import Judge, Predictions, predict
from _table1_report import write_report
from _table1_sites import CohortSettings, SyntheticCohort, make_cohort
from _table1_training import (
    ARMS,
    BOTH,
    REAL_A,
    SYNTHETIC_A,
    UNTRAINED,
    TrainingSettings,
    sources_of,
    train,
    untrained,
)

from pixcell_share.evaluation import ImageDataset
from pixcell_share.ssl.job import updated

ROOT = Path(__file__).resolve().parents[1]
NANO = "nano"


@dataclass(frozen=True)
class Experiment:
    """All settings."""

    tiles: Path = ROOT.parent / "shared" / "data" / "lung_tiles"
    """Folder with ``manifest.csv``: ``file``, ``class`` and ``near_duplicate_group``."""
    data: DataSettings = DataSettings()
    cohort: CohortSettings = CohortSettings()
    training: TrainingSettings = TrainingSettings()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    processes: int = 2
    """Trainings at once."""

    def describe(self) -> dict[str, Any]:
        """For the result, without paths."""
        found = {key: value for key, value in asdict(self).items() if key != "tiles"}
        found["training"].pop("launcher")
        return found


def prepare(experiment: Experiment, work: Path) -> tuple[Split, dict[str, ImageDataset]]:
    """All tiles on the disk; the evaluation's tiles in each stain."""
    split = read_split(experiment.tiles, experiment.data)
    for stain in SITES:
        write = (experiment.tiles, split.sites[stain], stain)
        write_tiles(*write, work / "sites" / stain / "tiles", experiment.data)
        for part, tiles in split.judged.items():
            folder = work / "judged" / stain / part
            write_tiles(experiment.tiles, tiles, stain, folder, experiment.data)
    real = real_tiles(split.sites["A"], experiment.data.real_tiles)
    write_tiles(experiment.tiles, real, "A", work / "real", experiment.data)
    return split, {s: judged_dataset(work / "judged", split.judged, s) for s in SITES}


def trained(
    experiment: Experiment, cohorts: dict[str, SyntheticCohort], work: Path
) -> dict[tuple[str, int], Path]:
    """Folders of all encoders, by arm and seed."""
    sources = sources_of(work / "real", {site: each.bundle for site, each in cohorts.items()})
    wanted = [(arm, seed) for seed, arm in product(experiment.seeds, ARMS)]

    def one(key: tuple[str, int]) -> Path:
        arm, seed = key
        return train(arm, seed, sources[arm], experiment.training, work / "encoders")

    with ThreadPoolExecutor(experiment.processes) as pool:
        found = dict(zip(wanted, pool.map(one, wanted), strict=True))
    for seed in experiment.seeds:
        found[UNTRAINED, seed] = untrained(seed, experiment.training, work / "encoders")
    return found


def judged(
    encoders: dict[tuple[str, int], Path], stains: dict[str, ImageDataset], work: Path
) -> dict[str, list[Predictions]]:
    """Predictions of every encoder, a list over seeds."""
    found: dict[str, list[Predictions]] = {}
    for (arm, _), folder in encoders.items():
        key = folder.parent.name if folder.name == "encoder" else folder.name
        found.setdefault(arm, []).append(predict(str(folder), stains, work, key))
    found[NANO] = [predict(NANO, stains, work, NANO)]
    return found


def run(experiment: Experiment, work: Path) -> dict[str, Any]:
    """The whole experiment; its result."""
    began = time.monotonic()
    split, stains = prepare(experiment, work)
    cohorts = {
        site: make_cohort(site, work / "sites" / site / "tiles", work / "sites" / site,
                          experiment.cohort)
        for site in SITES
    }  # fmt: skip
    made = time.monotonic()
    encoders = trained(experiment, cohorts, work)
    learned = time.monotonic()
    found = judged(encoders, stains, work)
    judge = Judge(stains["A"].test.labels, group_numbers(split.judged["test"]))
    pairs = ((REAL_A, SYNTHETIC_A), (REAL_A, BOTH), (UNTRAINED, REAL_A), (UNTRAINED, SYNTHETIC_A),
             (UNTRAINED, BOTH))  # fmt: skip
    return {
        "settings": experiment.describe(),
        "tiles": _tile_counts(split, cohorts, experiment),
        "cohorts": {site: _said(cohort) for site, cohort in cohorts.items()},
        "lines": [asdict(judge.line(name, each)) for name, each in found.items()],
        "differences": [
            asdict(judge.difference(pair, found[pair[0]], found[pair[1]])) for pair in pairs
        ],
        # Of the last start alone: parts that were there cost nothing.
        "seconds_of_the_last_start": {
            "cohorts": round(made - began),
            "encoders": round(learned - made),
            "evaluation": round(time.monotonic() - learned),
        },
    }


def _tile_counts(
    split: Split, cohorts: dict[str, SyntheticCohort], experiment: Experiment
) -> dict[str, Any]:
    real = real_tiles(split.sites["A"], experiment.data.real_tiles)
    parts = {"real A": real, **split.judged}
    counted = {
        name: {"tiles": len(tiles), "groups": len({tile.group for tile in tiles})}
        for name, tiles in parts.items()
    }
    made = {f"synthetic {s}": {"tiles": c.outcome["counts"]["tiles_released"]}
            for s, c in cohorts.items()}  # fmt: skip
    return counted | made


def _said(cohort: SyntheticCohort) -> dict[str, Any]:
    return {key: cohort.outcome[key] for key in ("verdict", "counts", "weak")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of all parts")
    parser.add_argument("--config", type=Path, help="TOML with settings in place of the small ones")
    args = parser.parse_args()
    changes = tomllib.loads(args.config.read_text()) if args.config else {}
    experiment = updated(Experiment(), changes)
    result = run(experiment, args.work.resolve())
    path = write_result("table1", result, ("torch", "numpy", "timm", "pixcell-share"))
    write_report(result, ROOT / "docs")
    print(path)


if __name__ == "__main__":
    main()
