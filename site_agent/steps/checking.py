"""Fourth step: no synthetic tile that is a near copy of a real one goes on.

Every tile is compared with all real tiles of the run. One that comes too close is drawn again
with the next draw number, a few times, then dropped. With differentially private conditions
nothing is drawn again or dropped: that would depend on real tiles beyond what epsilon covers. A
near copy then refuses the release.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import SiteKey
from pixcell_share.files import atomic_path
from pixcell_share.privacy import NearCopyIndex, Nearest
from pixcell_share.progress import View
from site_agent.clock import Clock
from site_agent.models import Models
from site_agent.run_folder import RunFolder
from site_agent.steps.conditions import Source
from site_agent.steps.generation import Block, Draws, blocks_of
from site_agent.steps.real_tiles import RealTiles

_BATCH = 32


@dataclass(frozen=True)
class CheckedBlock:
    """What the checks said of one block of B draws."""

    accepted: NDArray[np.bool_]
    """(B,) whether the tile may be released."""
    redraws: NDArray[np.int64]
    """(B,) how often it was drawn again."""
    pixel_ncc: NDArray[np.float64]
    """(B,) correlation with the nearest real tile in pixels."""
    pixel_index: NDArray[np.int64]
    """(B,) number of that real tile."""
    embedding_similarity: NDArray[np.float64]
    """(B,) cosine with the nearest real tile in the encoder."""
    embedding_index: NDArray[np.int64]
    """(B,) number of that real tile."""
    replaced: NDArray[np.int64]
    """(R,) positions whose image is a later draw."""
    images: NDArray[np.uint8]
    """(R, H, W, 3) those images."""


class Checker:
    """Checks blocks against the real tiles of the run, and draws again where needed."""

    def __init__(
        self,
        run: RunFolder,
        real: RealTiles,
        index: NearCopyIndex,
        models: Models,
        draw: Draws,
        clock: Clock,
    ) -> None:
        self._run = run
        self._real = real
        self._index = index
        self._models = models
        self._draw = draw
        self._clock = clock

    def check(self, block: Block) -> CheckedBlock:
        """The verdict on each draw of a block."""
        images: NDArray[np.uint8] = np.load(self._run.draws(block.name, block.number))
        nearest = self._nearest(images)
        fixed = block.source.fixed
        redraws = np.zeros(len(images), np.int64)
        replaced: dict[int, NDArray[np.uint8]] = {}
        for turn in range(0 if fixed else self._run.settings.max_redraws):
            again = np.array([i for i, near in enumerate(nearest) if near.near_copy], np.int64)
            if not len(again):
                break
            fresh = np.stack(list(self._draw_again(block, again, turn)))
            for position, image, near in zip(again, fresh, self._nearest(fresh), strict=True):
                nearest[position] = near
                replaced[int(position)] = image
                redraws[position] += 1
        checked = _checked(nearest, redraws, replaced, images.shape[1:])
        return replace(checked, accepted=np.ones(len(images), np.bool_)) if fixed else checked

    def _nearest(self, images: NDArray[np.uint8]) -> list[Nearest]:
        found: list[Nearest] = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            with self._clock.measure("check", len(batch)):
                embeddings = self._models.embed_one(batch)
                found += self._index.search(batch, embeddings, self._real.image)
        return found

    def _draw_again(
        self, block: Block, again: NDArray[np.int64], turn: int
    ) -> Iterator[NDArray[np.uint8]]:
        """New draws; their numbers follow those of all first draws, and no two are the same."""
        settings = self._run.settings
        numbers = block.source.draws + block.draws[again] * settings.max_redraws + turn
        return self._draw(block.source, block.conditions[again], numbers)


def _checked(
    nearest: Sequence[Nearest],
    redraws: NDArray[np.int64],
    replaced: dict[int, NDArray[np.uint8]],
    shape: tuple[int, ...],
) -> CheckedBlock:
    accepted = np.array([not near.near_copy for near in nearest], np.bool_)
    kept = sorted(position for position in replaced if accepted[position])
    return CheckedBlock(
        accepted=accepted,
        redraws=redraws,
        pixel_ncc=np.array([near.pixel_ncc for near in nearest]),
        pixel_index=np.array([near.pixel_index for near in nearest], np.int64),
        embedding_similarity=np.array([near.embedding_similarity for near in nearest]),
        embedding_index=np.array([near.embedding_index for near in nearest], np.int64),
        replaced=np.array(kept, np.int64),
        images=np.stack([replaced[p] for p in kept]) if kept else np.empty((0, *shape), np.uint8),
    )


def check_slides(
    run: RunFolder,
    inventory: str,
    sources: Sequence[Source],
    real: RealTiles,
    index: NearCopyIndex,
    key: SiteKey,
    models: Models,
    view: View,
    clock: Clock,
) -> list[tuple[Block, CheckedBlock]]:
    """Check every block that was not checked against these real tiles before.

    Returns:
        All blocks with their verdicts, without the images.
    """
    blocks = [block for source in sources for block in blocks_of(source, run.settings)]
    run.forget_checks(except_of=inventory)
    checker = Checker(run, real, index, models, Draws(run, models, key), clock)

    def place(block: Block) -> Path:
        return run.checks(inventory, block.name, block.number)

    missing = [block for block in blocks if not place(block).exists()]
    total = sum(len(block.conditions) for block in blocks)
    done = total - sum(len(block.conditions) for block in missing)
    with view.stage("check", total, "tiles", done) as advance:
        for block in missing:
            checked = checker.check(block)
            with atomic_path(place(block)) as part, part.open("wb") as stream:
                np.savez(stream, **vars(checked))
            advance(len(block.conditions))
    return [(block, load_check(run, inventory, block, with_images=False)) for block in blocks]


def load_check(
    run: RunFolder, inventory: str, block: Block, *, with_images: bool = True
) -> CheckedBlock:
    """Read the verdict on a block; ``with_images`` also the later draws that replaced some."""
    with np.load(run.checks(inventory, block.name, block.number)) as stored:
        values: dict[str, Any] = {
            name: stored[name] for name in stored.files if with_images or name != "images"
        }
    return CheckedBlock(**{"images": np.empty((0, 0, 0, 3), np.uint8), **values})


def final_image(
    run: RunFolder, inventory: str, block: Block, check: CheckedBlock, position: int
) -> NDArray[np.uint8]:
    """The image (H, W, 3) at a position of a checked block: the first draw, or a later one.

    Tiles are asked for in shuffled order, so one image is mapped, not the block read.
    """
    if position in check.replaced:
        later = load_check(run, inventory, block).images
        image: NDArray[np.uint8] = later[np.flatnonzero(check.replaced == position)[0]]
    else:
        image = np.array(np.load(run.draws(block.name, block.number), mmap_mode="r")[position])
    return image


def released(checked: Sequence[tuple[Block, CheckedBlock]], score: str) -> NDArray[np.float64]:
    """(N,) one score of every draw that the checks accepted."""
    values = [getattr(check, score)[check.accepted] for _, check in checked]
    return np.concatenate(values) if values else np.empty(0)
