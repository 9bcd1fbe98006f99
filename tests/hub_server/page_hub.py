"""A hub with something on each page: members, cohorts in every end state, encoders, jobs, a log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub_server.acts import Acts
from hub_server.home import HubHome
from hub_server.intake import IntakeOutcome, intake_folder
from hub_server.registry import JobKind, SourceRole, encoders, jobs
from hub_server.registry.encoders import NewEncoder, Source
from pixcell_share.bundles import BundleSummary, SiteKey, write_bundle
from tests.bundles.forging import COHORT, PASSED, make_tiles

SITE, OTHER = "Uniklinik Köln", "מרכז רפואי"
OPEN = "[uploads]\ndisk_floor_bytes = 1\n"
TASKS = ("knn", "linear_probing", "simple_shot")


@dataclass(frozen=True)
class Furnished:
    """What lies in the hub, by what a test looks for."""

    accepted: str
    withdrawn: str
    rejected: str
    encoder: str
    training: str
    failed: str
    pending: str
    """Id of the site that waits."""
    pending_key: str


def furnish(home: HubHome, folder: Path, bundle: Path, key: SiteKey, site: str) -> Furnished:
    """Fill a fresh hub.

    Args:
        home: made by `HubHome.initialise`, with `OPEN` in its settings.
        folder: for what is not kept.
        bundle: a good one, signed with ``key``.
        key: of the site.
        site: its name, as the bundle has it.
    """
    with Acts.opened(home, "operator:cli") as acts:
        _member(acts, site, key)
        other = SiteKey.create(folder / "other.key")
        _member(acts, OTHER, other)
        waiting = SiteKey.create(folder / "waiting.key")
        code = acts.invite("Hôpital Saint-Louis", "Dr. Martin, +33 1 00 00 00 00").code
        waits = acts.join(code, "Hôpital Saint-Louis", waiting.public_pem).site_id
        accepted = _taken(intake_folder(home, bundle), "accepted")
        gone = _bundle(folder / "gone", OTHER, other, make_tiles(12, seed=5))
        withdrawn = _taken(intake_folder(home, gone.folder), "accepted")
        blank = _bundle(folder / "blank", OTHER, other, _blank(12))
        rejected = _taken(intake_folder(home, blank.folder), "rejected")
        encoder, training, failed = _trained(acts, accepted, withdrawn)
        acts.withdraw(withdrawn, "A patient of the site has withdrawn consent")
    return Furnished(
        accepted, withdrawn, rejected, encoder, training, failed, waits, waiting.key_id
    )


def good_bundle(folder: Path, key: SiteKey) -> Path:
    """Twenty-four tiles of two classes."""
    return _bundle(folder, SITE, key, make_tiles(24)).folder


def _member(acts: Acts, site: str, key: SiteKey) -> None:
    code = acts.invite(site).code
    acts.join(code, site, key.public_pem)
    acts.admit(site, key.key_id)


def _bundle(
    folder: Path, site: str, key: SiteKey, tiles: Iterator[tuple[NDArray[np.uint8], int]]
) -> BundleSummary:
    found = list(tiles)
    cohort = replace(COHORT, site=site)
    return write_bundle(folder, cohort, iter(found), PASSED, key, count=len(found))


def _blank(count: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
    for place in range(count):
        yield np.full((COHORT.tile_px, COHORT.tile_px, 3), 240, np.uint8), place % 2


def _taken(outcome: IntakeOutcome, state: str) -> str:
    assert outcome.state == state, outcome
    return outcome.cohort


def _trained(acts: Acts, accepted: str, withdrawn: str) -> tuple[str, str, str]:
    """Two encoders with results, a training that runs, and one that failed."""
    with acts.registry.session() as session:
        done = jobs.enqueue(session, JobKind.TRAIN, {"arch": "dinov2_vits14", "steps": 2000})
        jobs.claim(session, "test")
        jobs.finish(session, done.id, "test", {"step": 2000, "steps": 2000})
        first = encoders.add_encoder(
            session, _encoder("both-sites", done.id, [accepted, withdrawn], acts, 0.77)
        )
        second = encoders.add_encoder(session, _encoder("real-only", None, [], acts, 0.74))
        for place, task in enumerate(TASKS):
            for name, start in (("bracs", 0.62), ("crc", 0.81)):
                encoders.record_evaluation(
                    session, first.id, result(task, name, start + 0.02 * place), done.id
                )
                encoders.record_evaluation(session, second.id, result(task, name, start - 0.015))
        encoders.record_evaluation(session, "uni2-h", result("knn", "crc", 0.9))
        bad = jobs.enqueue(session, JobKind.EVALUATE, {"dataset": "crc"})
        jobs.claim(session, "test")
        jobs.fail(session, bad.id, "test", "the data set crc is not on this machine")
        running = jobs.enqueue(
            session, JobKind.TRAIN, {"arch": "dinov2_vits14", "seed": 1}, "jobs/running"
        )
        jobs.claim(session, "test")
        jobs.heartbeat(session, running.id, "test", {"step": 840, "steps": 2000, "loss": 6.21})
        ids = (first.id, running.id, bad.id)
    write_log(acts.home.jobs / "running", 84)
    return ids


def _encoder(name: str, job: str | None, cohorts: list[str], acts: Acts, loss: float) -> NewEncoder:
    folder = f"encoders/{name}"
    storage = acts.home.storage(acts.config)
    storage.put(f"{folder}/model.safetensors", name.encode() * 4000)
    storage.put(f"{folder}/card.md", f"# Encoder {name}\n".encode())
    sources = [Source(SourceRole.SYNTHETIC, cohort_id=cohort) for cohort in cohorts]
    card = {
        "dim": 384,
        "steps": 2000,
        "tiles_seen": 128_000,
        "last_loss": loss,
        "licences": ["CC-BY-NC-4.0"],
        "settings": {"crops": {"global_px": 224, "locals": 8}, "bf16": True},
        "versions": {"torch": "2.11"},
    }
    real = Source(SourceRole.REAL, dataset="lung_tiles, site A")
    return NewEncoder(
        name,
        "dinov2_vits14",
        folder,
        name.encode().hex()[:8] * 8,
        card,
        [real, *sources],
        job_id=job,
    )


def result(task: str, dataset: str, value: float) -> dict[str, Any]:
    """As `pixcell_share.evaluation.EvaluationResult.to_dict` writes it."""
    names = ("accuracy", "balanced_accuracy", "f1", "jaccard")
    figures = {
        name: {"value": value - 0.01 * at, "low": value - 0.03, "high": value + 0.025}
        for at, name in enumerate(names)
    }
    return {
        "schema": "pixcell-share.evaluation/1",
        "task": task,
        "dataset": {"name": dataset, "digest": "ab" * 32, "classes": 9, "sizes": {"test": 7180}},
        "encoder": None,
        "figures": {"": figures},
        "chosen": {"k": 20},
        "versions": {},
    }


def write_log(folder: Path, lines: int) -> None:
    """A training's log as `pixcell_share.training.logs` writes it, its last line not whole yet."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("w") as file:
        for at in range(1, lines + 1):
            figures = {
                "step": 10 * at,
                "loss": 5.8 + 4.6 * float(np.exp(-at / 22)) + generator.normal(0, 0.06),
                "images_per_second": 412 + generator.normal(0, 9),
                "mfu": 0.316 + generator.normal(0, 0.006),
                "rate": 1e-4,
            }
            file.write(json.dumps(figures) + "\n")
        file.write('{"step": 990, "lo')
