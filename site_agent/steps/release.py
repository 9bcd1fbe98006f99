"""Last step: the accepted tiles, shuffled, in a signed bundle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import (
    BundleSummary,
    Cohort,
    GenerationSettings,
    SiteKey,
    write_bundle,
)
from pixcell_share.progress import View
from site_agent.evidence import Gathered
from site_agent.models import Models
from site_agent.run_folder import RunFolder
from site_agent.steps.checking import final_image
from site_agent.steps.last_tests import LastTests
from site_agent.steps.release_order import release_order


def release(
    run: RunFolder,
    gathered: Gathered,
    cohort: Cohort,
    last: LastTests,
    key: SiteKey,
    view: View,
) -> BundleSummary:
    """Write the bundle, judge it, and sign it if it passed.

    Raises:
        ReleaseRefusedError: the gate refused it; ``last.result`` says why.
        StorageError: the disk is full.
    """
    accepted = gathered.accepted
    if not len(accepted):
        last.refuse_empty()
    sources = [block.source for block, _ in accepted.checked]
    number = {name: place for place, name in enumerate(cohort.classes)}
    order = release_order(key, len(accepted))
    with view.stage("bundle", len(accepted), "tiles") as advance:

        def tiles() -> Iterator[tuple[NDArray[np.uint8], int]]:
            for place in order:
                block, position = int(accepted.block[place]), int(accepted.position[place])
                image = final_image(run, gathered.inventory, *accepted.checked[block], position)
                yield image, number[sources[block].label]
                advance(1)

        return write_bundle(
            run.bundle, cohort, tiles(), last.judge, key,
            count=len(accepted), forbidden=last.secrets,
        )  # fmt: skip


def describe_cohort(run: RunFolder, gathered: Gathered, site: str, models: Models) -> Cohort:
    """What the bundle states about itself."""
    settings = run.settings
    classes = sorted({block.source.label for block, _ in gathered.checked})
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
