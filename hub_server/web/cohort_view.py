"""What the page of a cohort shows of its manifest, which a site wrote and the hub has verified."""

from __future__ import annotations

from dataclasses import dataclass

from hub_server.registry import Cohort
from pixcell_share.weights import ModelIdentity

MOST_SHEETS = 40
"""Classes whose tiles are shown; a cohort may have a thousand."""


@dataclass(frozen=True)
class ClassRow:
    """One class."""

    label: int
    name: str
    tiles: int
    share: float
    """Of the largest class, 0 to 1: the length of its bar."""


@dataclass(frozen=True)
class CohortView:
    """A cohort as it is shown; empty where the manifest was not read yet."""

    classes: tuple[ClassRow, ...]
    """In the order of the labels."""
    models: tuple[ModelIdentity, ...]
    facts: tuple[tuple[str, str], ...]
    """What the tiles are and how they were made, by name."""


def cohort_view(cohort: Cohort) -> CohortView:
    """The parts of a manifest."""
    if cohort.manifest is None:
        return CohortView((), (), ())
    stated = cohort.manifest["predicate"]
    tiles, made = stated["tiles"], stated["generation"]
    models = tuple(ModelIdentity(**model) for model in stated["models"])
    most = max((entry["count"] for entry in stated["classes"]), default=0)
    classes = tuple(
        ClassRow(label, entry["name"], entry["count"], entry["count"] / most if most else 0.0)
        for label, entry in enumerate(stated["classes"])
    )
    facts = (
        ("Tile", f"{tiles['px']} × {tiles['px']} px at {tiles['mpp']:g} µm/px, RGB"),
        ("Shards", str(len(stated["shards"]))),
        ("Sampler", f"{made['sampler']}, {made['steps']} steps"),
        ("Guidance", f"{made['guidance_scale']:g}"),
        ("Drawn for each real tile", str(made["per_tile"])),
        ("Written by", f"{stated['software']['name']} {stated['software']['version']}"),
    )
    return CohortView(classes, models, facts)
