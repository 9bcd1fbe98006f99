"""How fast this machine reads, embeds and generates, measured on a few tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pixcell_share.pixcell import SamplerSettings
from pixcell_share.slides import TileGrid, open_slide, read_tiles
from pixcell_share.slides.records import SlideRecord
from site_agent.clock import Clock, Work
from site_agent.models import Models
from site_agent.settings import SynthesisSettings

_BATCHES = 2


@dataclass(frozen=True)
class Rates:
    """Tiles a second of each kind of work, one kind at a time."""

    read: float
    embed: float
    generate: float

    def shares(self) -> dict[str, float]:
        """Share of the time that each kind takes when every tile is read, embedded and drawn."""
        times = {"read": 1 / self.read, "embed": 1 / self.embed, "generate": 1 / self.generate}
        total = sum(times.values())
        return {kind: seconds / total for kind, seconds in times.items()}


def measure_rates(
    record: SlideRecord,
    grid: TileGrid,
    models: Models,
    settings: SynthesisSettings,
    *,
    read_tiles_count: int,
    embed_count: int,
    generate_count: int | None,
) -> Rates:
    """Read, embed and generate some tiles of one slide; the models are warmed up first.

    Args:
        record: the slide.
        grid: its tiles.
        models: loaded when needed.
        settings: of the run to come.
        read_tiles_count: tiles to read.
        embed_count: tiles to embed.
        generate_count: tiles to generate; None: two whole batches.

    Raises:
        SlideError: the slide cannot be read.
        WeightsError: the models cannot be loaded.
    """
    clock = Clock()
    with open_slide(record) as slide:
        tiles = clock.iterate("read", islice(read_tiles(slide, grid), read_tiles_count))
        images = np.stack([tile for tile, _ in zip(tiles, range(read_tiles_count), strict=False)])
    few = np.resize(images, (embed_count, *images.shape[1:]))
    embeddings = _measure_embedding(clock, models, few)
    _measure_generation(clock, models, settings, embeddings, generate_count)
    work: Sequence[Work] = [clock.work[kind] for kind in ("read", "embed", "generate")]
    return Rates(*(entry.rate for entry in work))


def _measure_embedding(
    clock: Clock, models: Models, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    models.embed(images[:1])
    with clock.measure("embed", len(images)):
        return models.embed(images)


def _measure_generation(
    clock: Clock,
    models: Models,
    settings: SynthesisSettings,
    embeddings: NDArray[np.float32],
    count: int | None,
) -> None:
    generator, sampler = models.generator, settings.sampler
    batch = generator.batch_size(sampler)
    count = _BATCHES * batch if count is None else count

    def generate(count: int, sampler: SamplerSettings) -> None:
        wanted = np.resize(embeddings, (count, *embeddings.shape[1:]))
        for _ in generator.generate(wanted, range(count), sampler):
            pass

    generate(min(count, batch), replace(sampler, steps=1))  # compiles, where that is asked for
    with clock.measure("generate", count):
        generate(count, sampler)
