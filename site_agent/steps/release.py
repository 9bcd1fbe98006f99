"""Last step: the accepted tiles, shuffled, in a signed bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import (
    AuditResult,
    BundleSummary,
    Cohort,
    GenerationSettings,
    SiteKey,
    shuffled_order,
    write_bundle,
)
from pixcell_share.progress import View
from pixcell_share.slides import SlideRecord
from site_agent.models import Models
from site_agent.run_folder import RunFolder
from site_agent.steps.checking import CheckedBlock, final_image
from site_agent.steps.generation import Block

_ORDER = "tile order v1"
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Accepted:
    """The tiles that may be released, as positions in checked blocks."""

    checked: Sequence[tuple[Block, CheckedBlock]]
    block: NDArray[np.int64]
    """(N,) number of the block of each tile."""
    position: NDArray[np.int64]
    """(N,) its place in the block."""

    @classmethod
    def of(cls, checked: Sequence[tuple[Block, CheckedBlock]]) -> Accepted:
        """Those that the checks accepted, in the order of the run."""
        positions = [np.flatnonzero(check.accepted) for _, check in checked]
        numbers = [np.full(len(found), number) for number, found in enumerate(positions)]
        empty = [np.empty(0, np.int64)]
        return cls(
            checked,
            np.concatenate(numbers or empty).astype(np.int64),
            np.concatenate(positions or empty).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.block)


def release(
    run: RunFolder,
    inventory: str,
    records: Sequence[SlideRecord],
    accepted: Accepted,
    audit: AuditResult,
    site: str,
    key: SiteKey,
    models: Models,
    view: View,
) -> BundleSummary:
    """Write and sign the bundle.

    Raises:
        ReleaseRefusedError: the audit did not pass.
        StorageError: the disk is full.
    """
    labels = {record.slide_id: record.label or UNLABELLED for record in records}
    classes = sorted({labels[block.slide_id] for block, _ in accepted.checked})
    number = {name: place for place, name in enumerate(classes)}
    per_block = np.array([number[labels[block.slide_id]] for block, _ in accepted.checked])
    order = shuffled_order(key.derive(_ORDER), len(accepted))
    with view.stage("bundle", len(accepted), "tiles") as advance:

        def tiles() -> Iterator[tuple[NDArray[np.uint8], int]]:
            for place in order:
                block, position = int(accepted.block[place]), int(accepted.position[place])
                yield (
                    final_image(run, inventory, *accepted.checked[block], position),
                    int(per_block[block]),
                )
                advance(1)

        cohort = _describe(run, site, classes, models)
        return write_bundle(run.bundle, cohort, tiles(), audit, key, count=len(accepted))


def _describe(run: RunFolder, site: str, classes: Sequence[str], models: Models) -> Cohort:
    settings = run.settings
    guidance_scale = settings.sampler.guidance_scale
    if guidance_scale is None:
        guidance_scale = models.generator.guidance_scale
    return Cohort(
        site=site,
        classes=tuple(classes),
        tile_px=settings.tiling.tile_px,
        mpp=settings.tiling.mpp,
        models=models.identities,
        generation=GenerationSettings(
            sampler=settings.sampler.name,
            steps=settings.sampler.steps,
            guidance_scale=guidance_scale,
            per_tile=settings.per_tile,
        ),
    )
