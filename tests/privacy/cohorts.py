"""Simulated cohorts, so named: points drawn around patients, who are drawn around classes."""

from __future__ import annotations

import numpy as np

from pixcell_share.privacy.sample import AuditSample, Tiles

DIM = 24


def simulate(
    patients: int = 60,
    holdout: int = 30,
    *,
    leak: float,
    mix: int = 1,
    each: int = 3,
    held: int = 3,
    classes: int = 2,
    within: float = 0.5,
    seed: int = 0,
) -> AuditSample:
    """A cohort of which each synthetic tile holds a part of its sources.

    Args:
        patients: in the cohort, each with ``each`` conditioning tiles and ``held`` probes.
        holdout: patients outside, with each + held tiles.
        leak: 1 copies the mean of the sources; 0 draws a tile of a patient whom nobody knows.
        mix: sources, of as many patients of the class, behind each synthetic tile.
        each: conditioning tiles per patient, and synthetic tiles too.
        held: probes per patient.
        classes: patients have one class each.
        within: deviation of tiles within a patient; patients have deviation 1.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    centres = 2.0 * rng.standard_normal((classes, DIM))

    def tiles(first: int, count: int, size: int, means: np.ndarray) -> Tiles:
        points = np.repeat(means, size, axis=0) + within * rng.standard_normal((count * size, DIM))
        names = np.repeat(np.arange(first, first + count), size)
        return Tiles(points.astype(np.float32), names, names % classes)

    def people(first: int, count: int) -> np.ndarray:
        return centres[np.arange(first, first + count) % classes] + rng.standard_normal(
            (count, DIM)
        )

    inside, outside = people(0, patients), people(patients, holdout)
    conditioning = tiles(0, patients, each, inside)
    sources = np.stack([_others(conditioning, row, mix, rng) for row in range(len(conditioning))])
    taken = conditioning.embeddings[sources].mean(axis=1)
    labels = conditioning.labels
    fresh = centres[labels] + rng.standard_normal((len(labels), DIM))
    fresh += within * rng.standard_normal(fresh.shape)
    return AuditSample(
        synthetic=(leak * taken + (1 - leak) * fresh).astype(np.float32),
        synthetic_labels=labels,
        sources=sources,
        conditioning=conditioning,
        probes=tiles(0, patients, held, inside),
        holdout=tiles(patients, holdout, each + held, outside),
    )


def _others(tiles: Tiles, row: int, mix: int, rng: np.random.Generator) -> np.ndarray:
    """The row and one tile of each of mix - 1 other patients of its class."""
    same = tiles.labels == tiles.labels[row]
    people = np.unique(tiles.patients[same & (tiles.patients != tiles.patients[row])])
    chosen = rng.choice(people, mix - 1, replace=False)
    rows = [rng.choice(np.flatnonzero(tiles.patients == patient)) for patient in chosen]
    return np.asarray([row, *rows], dtype=np.int64)


def constant(patients: int = 12, holdout: int = 12) -> AuditSample:
    """Every tile the same."""
    found = simulate(patients, holdout, leak=1.0)
    groups = {
        name: Tiles(np.ones_like(tiles.embeddings), tiles.patients, tiles.labels)
        for name in ("conditioning", "probes", "holdout")
        for tiles in (getattr(found, name),)
    }
    return AuditSample(
        np.ones_like(found.synthetic), found.synthetic_labels, found.sources, **groups
    )
