"""From positions in the order of training to batches of crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixcell_share.ssl.architectures import Architecture
from pixcell_share.ssl.batch import CropBatch, masked_places
from pixcell_share.ssl.crops import Pixels, crops_of
from pixcell_share.ssl.draws import Purpose, generator
from pixcell_share.ssl.masking import Mask, Masker
from pixcell_share.ssl.order import MixedOrder
from pixcell_share.ssl.settings import SslSettings
from pixcell_share.ssl.sources import TileSource
from pixcell_share.training.division import Division


class CropMaker:
    """Makes the batch of any positions.

    Args:
        settings: of the run.
        architecture: that is trained.
        sources: of the tiles.
        order: of the same sources; by default by their settings.
    """

    def __init__(
        self,
        settings: SslSettings,
        architecture: Architecture,
        sources: Sequence[TileSource],
        order: MixedOrder | None = None,
    ) -> None:
        self._settings, self._depth, self._sources = settings, architecture.depth, sources
        self._order = order or MixedOrder(
            [len(source) for source in sources],
            [source.settings.share for source in sources],
            seed=settings.seed,
        )
        grid = settings.crops.global_px // architecture.patch
        self._masker = Masker(grid, settings.global_batch, settings.masks, settings.seed)
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="crops")

    def make(self, positions: NDArray[np.int64]) -> CropBatch:
        """The batch of ``positions`` (b,), on the CPU.

        Raises:
            DataError: a tile cannot be read.
        """
        # Masks first, here: they share the shuffled slots of a step.
        masks = np.stack([self._masker.masks(int(position)) for position in positions], axis=1)
        made = list(self._pool.map(self._crops, positions.tolist()))
        big = _stacked([pair[0] for pair in made])
        small = _stacked([pair[1] for pair in made])
        return self._batch(big, small, masks, positions)

    def describe(self, position: int) -> str:
        """Where the tile of a position comes from."""
        address = self._order.locate(position)
        return self._sources[address.source].where(address.row)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _crops(self, position: int) -> tuple[Pixels, Pixels]:
        address = self._order.locate(position)
        tile = self._sources[address.source].read(address.row)
        draw = generator(self._settings.seed, position, Purpose.CROPS)
        return crops_of(tile, self._settings.crops, draw)

    def _batch(
        self, big: Tensor, small: Tensor, masks: Mask, positions: NDArray[np.int64]
    ) -> CropBatch:
        flat = torch.from_numpy(masks).flatten(0, 1)
        masked, weights = masked_places(flat)
        draw = generator(self._settings.seed, int(positions[0]), Purpose.DEPTH)
        return CropBatch(
            globals=big,
            locals=small,
            masks=flat,
            masked=masked,
            weights=weights,
            global_kept=self._kept(len(flat), draw),
            local_kept=self._kept(small.shape[0] * small.shape[1], draw),
            positions=torch.from_numpy(positions),
        )

    def _kept(self, rows: int, draw: np.random.Generator) -> Tensor | None:
        """The rows that each branch of each block is computed for, ascending."""
        count = max(1, int(rows * (1 - self._settings.drop_path)))
        if count >= rows:
            return None
        chosen = draw.random((self._depth, 2, rows)).argsort(-1)[..., :count]
        return torch.from_numpy(np.sort(chosen, -1))


def _stacked(crops: list[Pixels]) -> Tensor:
    """Crops (b) of (n, 3, s, s) as (n, b, 3, s, s)."""
    return torch.from_numpy(np.stack(crops, axis=1))


def micro_batches(
    maker: CropMaker, division: Division, rank: int, steps: range, *, pin: bool
) -> Iterator[CropBatch]:
    """The micro-batches of a rank in their order, made as they are asked for.

    Args:
        maker: makes them.
        division: of a step.
        rank: whose.
        steps: from the one to go on with to the last.
        pin: in page-locked memory, from which a GPU copies beside its computing.
    """
    for step in steps:
        for part in range(division.accumulation):
            batch = maker.make(division.positions(step, rank, part))
            yield batch.mapped(Tensor.pin_memory) if pin else batch
