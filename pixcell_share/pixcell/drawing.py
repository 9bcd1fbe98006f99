"""From batches of embeddings and seeds to tiles: noise, denoising and decoding, side by side.

On a GPU the three stages have a thread and a stream each: while one batch is decoded and copied
back, the next is denoised, and the noise of the one after it is drawn and copied over. On a CPU
one stage already uses all cores, so they take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pixcell_share.errors import PixcellError
from pixcell_share.pixcell.device import copied, out_of_memory
from pixcell_share.pixcell.sampler import SamplerSettings, denoise
from pixcell_share.pixcell.seeds import tile_noise
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.pixcell.vae import LatentCodec, to_uint8
from pixcell_share.prefetch import prefetch

T = TypeVar("T")
S = TypeVar("S")

_AHEAD = 1
"""Batches that wait between two stages."""


@dataclass(frozen=True)
class Batch:
    """Tiles that are drawn together."""

    embeddings: npt.NDArray[np.floating[Any]]
    """(B, T, D), checked."""
    seeds: Sequence[int]
    """B of them, checked."""


@dataclass(frozen=True)
class _Passed:
    """What one stage hands to the next: tensors, and when they are ready on the GPU."""

    tensors: tuple[Tensor, ...]
    ready: torch.cuda.Event | None


class Drawing:
    """One way of drawing tiles with one model.

    Args:
        transformer: the model.
        codec: its VAE.
        new_scheduler: makes a scheduler for each batch.
        guidance_scale: ``g`` in ``u + g (c - u)``.
        batch_size: of a whole batch; the only ones that compiled code is used for.
        settings: the rest.
        overlap: let the stages run side by side; by default on a GPU.
    """

    def __init__(
        self,
        transformer: PixCellTransformer2DModel,
        codec: LatentCodec,
        new_scheduler: Callable[[], Any],
        *,
        guidance_scale: float,
        batch_size: int,
        settings: SamplerSettings,
        overlap: bool | None = None,
    ) -> None:
        self._transformer = transformer
        self._codec = codec
        self._new_scheduler = new_scheduler
        self._guidance_scale = guidance_scale
        self._batch_size = batch_size
        self._settings = settings
        on_gpu = transformer.device.type == "cuda"
        self._overlap = on_gpu if overlap is None else overlap
        self._drawn = 0
        streams = [_stream(transformer.device) if self._overlap else None for _ in range(3)]
        self._lanes = dict(zip(("noise", "denoise", "decode"), streams, strict=True))

    def __call__(self, batches: Iterable[Batch]) -> Iterator[npt.NDArray[np.uint8]]:
        """Draw batches in their order, lazily; nothing runs before the first is asked for.

        Closing the iterator early stops the threads; an error in one is raised here.

        Returns:
            for each batch ``uint8 (B, tile_px, tile_px, 3)``.

        Raises:
            PixcellError: the arithmetic overflows in the dtype, or memory runs out.
        """
        noise = self._stage(self._noise, batches)
        return self._stage(self._decode, self._stage(self._denoise, noise))

    def _stage(self, work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        done = _each(work, items)
        return prefetch(done, _AHEAD) if self._overlap else done

    @torch.inference_mode()
    def _noise(self, batch: Batch) -> _Passed:
        config = self._transformer.config
        side = config.sample_size
        noise = tile_noise(batch.seeds, (config.in_channels, side, side))
        rows = np.ascontiguousarray(batch.embeddings, dtype=np.float32)
        with self._lane("noise") as lane:
            device = self._transformer.device
            return _passed(lane, copied(noise, device), copied(torch.from_numpy(rows), device))

    @torch.inference_mode()
    def _denoise(self, given: _Passed) -> _Passed:
        settings = self._settings
        noise, embeddings = given.tensors
        with out_of_memory(f"a batch of {len(noise)} tiles"), self._lane("denoise", given) as lane:
            latents = denoise(
                self._transformer,
                self._new_scheduler(),
                noise,
                embeddings,
                steps=settings.steps,
                guidance_scale=self._guidance_scale,
                guidance_interval=settings.guidance_interval,
                block_cache=settings.block_cache,
                compiled=settings.compile and len(noise) == self._batch_size,
            )
            return _passed(lane, latents)

    @torch.inference_mode()
    def _decode(self, given: _Passed) -> npt.NDArray[np.uint8]:
        (latents,) = given.tensors
        with out_of_memory(f"a batch of {len(latents)} tiles"), self._lane("decode", given):
            pixels = self._codec.decode(latents)
            finite = pixels.isfinite().flatten(1).all(dim=1)
            images = _to_host(to_uint8(pixels))
            self._check(finite.tolist())
        self._drawn += len(images)
        return images

    def _check(self, finite: list[bool]) -> None:
        if not all(finite):
            raise PixcellError(
                f"tile {self._drawn + finite.index(False)} came out as NaN or infinite numbers "
                f"in {self._transformer.dtype}",
                "use --dtype bf16 or fp32; if it is fp32 already, get the weights again",
            )

    @contextmanager
    def _lane(self, name: str, given: _Passed | None = None) -> Iterator[torch.cuda.Stream | None]:
        """Work on this stage's stream, after what is given is ready."""
        stream = self._lanes[name]
        if stream is None:
            yield None
            return
        with torch.cuda.stream(stream):
            if given is not None and given.ready is not None:
                stream.wait_event(given.ready)
                for tensor in given.tensors:
                    tensor.record_stream(stream)  # its memory is not reused before we are done
            yield stream


def _each(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """``map`` that closes ``items`` when it is closed."""
    try:
        for item in items:
            yield work(item)
    finally:
        if isinstance(items, Generator):
            items.close()


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def _passed(stream: torch.cuda.Stream | None, *tensors: Tensor) -> _Passed:
    return _Passed(tensors, stream.record_event() if stream is not None else None)


def _to_host(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor as an array; from a GPU through pinned memory, which is given back at once."""
    if tensor.device.type != "cuda":
        return tensor.cpu().numpy()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    pinned.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return pinned.numpy().copy()
