"""Last step: the accepted tiles, shuffled, in a signed bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    last: LastTests,
    site: str,
    key: SiteKey,
    models: Models,
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
    classes = sorted({source.label for source in sources})
    number = {name: place for place, name in enumerate(classes)}
    order = release_order(key, len(accepted))
    with view.stage("bundle", len(accepted), "tiles") as advance:

        def tiles() -> Iterator[tuple[NDArray[np.uint8], int]]:
            for place in order:
                block, position = int(accepted.block[place]), int(accepted.position[place])
                image = final_image(run, gathered.inventory, *accepted.checked[block], position)
                yield image, number[sources[block].label]
                advance(1)

        return write_bundle(
            run.bundle, _describe(run, site, classes, models), tiles(), last.judge, key,
            count=len(accepted), forbidden=last.secrets,
        )  # fmt: skip


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
