"""Third step: synthetic tiles, drawn in blocks that a later run finds again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import SiteKey
from pixcell_share.files import atomic_path
from pixcell_share.pixcell import PixCell, tile_seed
from pixcell_share.pixcell.drawing import Batch
from pixcell_share.progress import View
from site_agent.clock import Clock
from site_agent.models import Models
from site_agent.run_folder import RunFolder
from site_agent.settings import SynthesisSettings
from site_agent.steps.conditions import Source

_SEEDS = "tile seeds v1"
_BLOCK_TILES = 64  # what a killed run may lose; 13 MB at 256 px


@dataclass(frozen=True, eq=False)
class Block:
    """Draws of one source that are generated, stored and checked together."""

    source: Source
    number: int
    conditions: NDArray[np.int64]
    """(B,) the condition of each draw, as a position in the source."""
    draws: NDArray[np.int64]
    """(B,) draw number of each."""

    @property
    def name(self) -> str:
        """The source's name: the block's folder."""
        return self.source.name


def blocks_of(source: Source, settings: SynthesisSettings) -> list[Block]:
    """All blocks of a source. They depend on the settings and the key, never on what is done."""
    conditions = np.repeat(source.conditions, source.draws)
    draws = np.tile(np.arange(source.draws), len(source.conditions))
    batch = settings.sampler.batch_size
    assert batch is not None, "RunFolder.pin_batch_size comes first"
    # A block is a whole number of batches, so that a resumed run forms the same batches and a
    # floating-point sum cannot come out differently.
    size = max(1, _BLOCK_TILES // batch) * batch
    return [
        Block(source, number, conditions[start : start + size], draws[start : start + size])
        for number, start in enumerate(range(0, len(conditions), size))
    ]


class Draws:
    """Generates draws of conditions; the noise of each depends on its condition and number."""

    def __init__(self, run: RunFolder, models: Models, key: SiteKey) -> None:
        self._run = run
        self._models = models
        self._secret = key.derive(_SEEDS)

    def __call__(
        self, source: Source, conditions: NDArray[np.int64], draws: NDArray[np.int64]
    ) -> Iterator[NDArray[np.uint8]]:
        """Synthetic tiles (H, W, 3), one for each condition and draw number."""
        batch = self._prepare(source, conditions, draws)
        generator = self._models.generator
        return generator.generate(batch.embeddings, batch.seeds, self._run.settings.sampler)

    def blocks(self, blocks: Sequence[Block]) -> Iterator[NDArray[np.uint8]]:
        """Batches (B, H, W, 3) of all blocks, one after the other without a pause.

        No batch reaches over the end of a block.
        """
        return self._models.generator.draw(self._batches(blocks), self._run.settings.sampler)

    def _batches(self, blocks: Sequence[Block]) -> Iterator[Batch]:
        size = self._run.settings.sampler.batch_size
        assert size is not None
        for block in blocks:
            for start in range(0, len(block.conditions), size):
                part = slice(start, start + size)
                yield self._prepare(block.source, block.conditions[part], block.draws[part])

    def _prepare(
        self, source: Source, conditions: NDArray[np.int64], draws: NDArray[np.int64]
    ) -> Batch:
        embeddings, places = source.read(conditions)
        seeds = [
            tile_seed(self._secret, source.name, int(x), int(y), int(draw))
            for (x, y), draw in zip(places, draws, strict=True)
        ]
        generator: PixCell = self._models.generator
        return generator.batch(embeddings, seeds)


def generate_tiles(
    run: RunFolder,
    sources: Sequence[Source],
    key: SiteKey,
    models: Models,
    view: View,
    clock: Clock,
) -> None:
    """Generate every block that is not there yet; one is written while the next is generated."""
    run.pin_batch_size(lambda: models.generator.batch_size(run.settings.sampler))
    blocks = [block for source in sources for block in blocks_of(source, run.settings)]
    missing = [block for block in blocks if not run.draws(block.name, block.number).exists()]
    total = sum(len(block.conditions) for block in blocks)
    done = total - sum(len(block.conditions) for block in missing)
    made = Draws(run, models, key).blocks(missing)
    with (
        view.stage("generate", total, "tiles", done) as advance,
        closing(made),  # type: ignore[type-var]  # a generator, which may have threads to stop
        _Writer(run, clock) as writer,
    ):
        for block in missing:
            images: list[NDArray[np.uint8]] = []
            while sum(map(len, images)) < len(block.conditions):
                began = time.perf_counter()
                images.append(next(made))
                clock.add("generate", time.perf_counter() - began, len(images[-1]))
                advance(len(images[-1]))
            writer.write(block, np.concatenate(images))


class _Writer:
    """Writes blocks in a thread, one at a time; an error is raised at the next call or the end."""

    def __init__(self, run: RunFolder, clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "write-draws")
        self._last: Future[None] | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self._finish()

    def write(self, block: Block, images: NDArray[np.uint8]) -> None:
        """Write (B, H, W, 3) when the block before is written."""
        self._finish()
        self._last = self._thread.submit(self._save, block, images)

    def _finish(self) -> None:
        if self._last is not None:
            self._last.result()

    def _save(self, block: Block, images: NDArray[np.uint8]) -> None:
        with (
            self._clock.measure("write", len(images)),
            atomic_path(self._run.draws(block.name, block.number)) as part,
            part.open("wb") as stream,
        ):
            np.save(stream, images)
