"""From positions in the data order to batches, so that every number of ranks sees the same data.

Step ``s`` covers the positions from ``s * G`` to ``(s + 1) * G``, where ``G`` is the global batch.
All that is random about a sample (place, turn, time step, noise, ...) is drawn by Philox (Salmon
et al., SC 2011) with the key (seed, position): it depends neither on the rank, nor on the batch
that the sample comes in, nor on a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixcell_share.errors import DataError, SettingsError
from pixcell_share.training.batch import Batch
from pixcell_share.training.division import Division
from pixcell_share.training.latents import Address, Source, Split, StoreInfo

_Array = NDArray[np.floating[Any]]
_Crop = tuple[_Array, _Array]
_TILE_PX = 256
_TIMES = 1000
_SAMPLE, _STEP, _JITTER = range(3)
"""Highest word of Philox's counter: one stream for each purpose of the same key."""


@dataclass(frozen=True)
class SampleSettings:
    """What is drawn for each sample."""

    stage: int
    """Side of the image in pixels: 256, 512 or 1024."""
    global_batch: int
    """Samples of a step."""
    seed: int = 0
    """Of everything drawn."""
    condition_dropout: float = 0.1
    """Share of samples trained with the null embedding."""
    condition_noise: float = 0.0
    """Deviation of noise added to the embeddings, in their own units."""
    turn: bool = False
    """Turn and flip latents and the grid of embeddings together: eight symmetries."""
    spread_timesteps: bool = False
    """One time step in each of ``global_batch`` equal parts of 0 to 999, instead of independent."""
    skip_bad: bool = False
    """Leave out samples with NaN or infinite numbers (weight 0), instead of stopping."""


class Order(Protocol):
    """Which region is at a position."""

    split: Split
    """Of the stores."""

    def locate(self, position: int) -> Address:
        """The region at a position from 0 on."""
        ...


class BatchMaker:
    """Makes the batch of any positions.

    Args:
        order: which region is at a position.
        sources: the stores of the order; their regions may differ in size, their models may not.
        settings: what is drawn.
        say: is told of each bad sample that is left out, once.

    Raises:
        SettingsError: a store's regions are smaller than the stage, or its models are others.
    """

    def __init__(
        self,
        order: Order,
        sources: Sequence[Source],
        settings: SampleSettings,
        say: Callable[[str], None] = print,
    ) -> None:
        self._order = order
        self._sources = sources
        self.settings = settings
        self._say = say
        self._known_bad: set[Address] = set()
        self._spread: tuple[int, NDArray[np.int64]] | None = None
        info = sources[0].store.info
        self._scale, self._shift = info.scaling_factor, info.shift_factor
        self.tokens = _tokens_per_side(settings.stage, [source.store.info for source in sources])
        self._places = [source.store.info.grid - self.tokens + 1 for source in sources]

    def make(self, positions: NDArray[np.int64]) -> Batch:
        """The batch of ``positions`` (b,), on the CPU.

        Raises:
            DataError: a sample is not finite; names its shard and row.
        """
        addresses = [self._order.locate(int(position)) for position in positions]
        draws = [
            self._draw(int(position), self._places[address.source])
            for position, address in zip(positions, addresses, strict=True)
        ]
        pairs = [
            _turned(*crop, draw.turn, self.tokens)
            for crop, draw in zip(self._read(addresses, draws), draws, strict=True)
        ]
        clean = np.stack([pair[0] for pair in pairs]).astype(np.float32)
        condition = np.stack([pair[1] for pair in pairs]).astype(np.float32)
        weights = self._weigh(clean, condition, addresses)
        condition += np.stack([self._jitter(draw, condition[0].shape) for draw in draws])
        return Batch(
            latents=torch.from_numpy((clean - self._shift) * self._scale),
            condition=torch.from_numpy(condition),
            noise=torch.from_numpy(np.stack([self._noise(d, clean[0].shape) for d in draws])),
            timesteps=torch.from_numpy(np.array([d.timestep for d in draws], dtype=np.int64)),
            dropped=torch.from_numpy(np.array([d.dropped for d in draws])),
            weights=torch.from_numpy(weights),
            positions=torch.from_numpy(positions),
        )

    def describe(self, position: int) -> dict[str, str]:
        """Where the sample of a position comes from: store, shard, row, slide, x, y, ..."""
        address = self._order.locate(position)
        store = self._sources[address.source].store
        about = store.describe(self._order.split, address.row)
        return {"position": str(position), "store": str(store.folder), **about}

    def _read(self, addresses: Sequence[Address], draws: Sequence[_Draw]) -> list[_Crop]:
        """Crops in the order of the addresses, each store read once."""
        crops: dict[int, _Crop] = {}
        for number, source in enumerate(self._sources):
            at = [i for i, address in enumerate(addresses) if address.source == number]
            if not at:
                continue
            rows = np.array([addresses[i].row for i in at], dtype=np.int64)
            places = np.array([(draws[i].row, draws[i].column) for i in at], dtype=np.int64)
            found = source.store.read_crops(self._order.split, rows, places, self.tokens)
            crops.update(zip(at, zip(found.latents, found.embeddings, strict=True), strict=True))
        return [crops[i] for i in range(len(addresses))]

    def _draw(self, position: int, places: int) -> _Draw:
        generator = _generator(self.settings.seed, position, _SAMPLE)
        # Always the same draws in the same order: a setting changes what it governs, no more.
        row, column, turn, drop, time = generator.random(5)
        if self.settings.spread_timesteps:
            time = (self._slot(position) + time) / self.settings.global_batch
        return _Draw(
            position=position,
            row=int(row * places),
            column=int(column * places),
            turn=int(turn * 8) if self.settings.turn else 0,
            dropped=bool(drop < self.settings.condition_dropout),
            timestep=min(int(time * _TIMES), _TIMES - 1),
            generator=generator,
        )

    def _slot(self, position: int) -> int:
        """Which part of the time steps a position has within its step."""
        step, index = divmod(position, self.settings.global_batch)
        if self._spread is None or self._spread[0] != step:
            generator = _generator(self.settings.seed, step, _STEP)
            self._spread = step, generator.permutation(self.settings.global_batch)
        return int(self._spread[1][index])

    def _weigh(self, clean: _Array, condition: _Array, addresses: Sequence[Address]) -> _Array:
        """1 for finite samples; the others are reported, set to zero and weigh 0."""
        finite = np.isfinite(clean).all((1, 2, 3)) & np.isfinite(condition).all((1, 2))
        weights = np.array(finite, dtype=np.float32)
        for index in np.flatnonzero(~finite).tolist():
            self._report(addresses[index])
            clean[index], condition[index] = 0, 0
        return weights

    def _report(self, address: Address) -> None:
        store = self._sources[address.source].store
        about = store.describe(self._order.split, address.row)
        name = f"{store.folder}, shard {about['shard']}, row {about['row']}"
        if not self.settings.skip_bad:
            raise DataError(
                f"{name} holds NaN or infinite numbers (slide {about.get('slide', '?')})",
                "make the store again with `pixcell-train latents`, or leave such samples out "
                "with --on-bad-data skip",
            )
        if address not in self._known_bad:
            self._known_bad.add(address)
            self._say(f"left out: {name} holds NaN or infinite numbers")

    def _noise(self, draw: _Draw, shape: tuple[int, ...]) -> _Array:
        return draw.generator.standard_normal(shape, dtype=np.float32)

    def _jitter(self, draw: _Draw, shape: tuple[int, ...]) -> _Array:
        deviation = np.float32(self.settings.condition_noise)
        if deviation == 0:
            return np.zeros(shape, dtype=np.float32)
        # A stream of its own, so that the noise on the latents stays the same without it.
        generator = _generator(self.settings.seed, draw.position, _JITTER)
        return deviation * generator.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True)
class _Draw:
    position: int
    row: int
    column: int
    turn: int
    dropped: bool
    timestep: int
    generator: np.random.Generator


def _generator(seed: int, number: int, purpose: int) -> np.random.Generator:
    key = np.array([seed, number], dtype=np.uint64)
    counter = np.array([0, 0, 0, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _turned(latents: _Array, grid: _Array, code: int, side: int) -> _Crop:
    """Latents (C, s, s) and embeddings (side * side, D), turned together."""
    tokens = turn_square(grid.reshape(side, side, -1), code, axes=(0, 1))
    return turn_square(latents, code, axes=(1, 2)), tokens.reshape(side**2, -1)


def turn_square(array: _Array, code: int, *, axes: tuple[int, int]) -> _Array:
    """One of the eight symmetries: ``code % 4`` quarter turns, then flipped from 4 on."""
    turned = np.rot90(array, code % 4, axes)
    return np.flip(turned, axes[1]) if code >= 4 else turned


def _tokens_per_side(stage: int, infos: Sequence[StoreInfo]) -> int:
    """Embeddings along a side of the stage's image, after checking that all stores fit it."""
    first, tokens = infos[0], stage // _TILE_PX
    for info in infos:
        same = ("latent_channels", "embedding_dim", "scaling_factor", "shift_factor")
        differing = [name for name in same if getattr(info, name) != getattr(first, name)]
        if differing:
            name = differing[0]
            raise SettingsError(
                f"the stores differ in {name}: {getattr(first, name)} and {getattr(info, name)}",
                "train on stores made with the same VAE and encoder",
            )
        if tokens > info.grid:
            raise SettingsError(
                f"stage {stage} needs regions of {stage} px; a store holds {info.region_px} px",
                f"make stores with `pixcell-train latents --region-px {stage}` or larger",
            )
    return tokens


def micro_batches(
    maker: BatchMaker, division: Division, rank: int, steps: range, *, pin: bool
) -> Iterator[Batch]:
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
            yield map_tensors(batch, Tensor.pin_memory) if pin else batch


def map_tensors(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """A batch with every tensor changed."""
    values = {field.name: change(getattr(batch, field.name)) for field in fields(batch)}
    return Batch(**values)
