"""PixCell as one object: embeddings and seeds in, tiles out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pixcell_share.errors import WeightsMismatchError
from pixcell_share.pixcell.batch_size import cpu_batch_size, gpu_batch_size
from pixcell_share.pixcell.condition import check_embeddings
from pixcell_share.pixcell.device import resolve_device, resolve_dtype
from pixcell_share.pixcell.drawing import Batch, Drawing
from pixcell_share.pixcell.folders import find_folders
from pixcell_share.pixcell.identity import identify_adapter
from pixcell_share.pixcell.load import load_scheduler, load_transformer, load_vae
from pixcell_share.pixcell.lora import load_lora, merge_lora
from pixcell_share.pixcell.sampler import SamplerSettings
from pixcell_share.pixcell.seeds import check_seeds
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.pixcell.vae import LatentCodec
from pixcell_share.weights import ModelIdentity

_LARGE_PX = 1024


class PixCell:
    """A generator of tiles: transformer, VAE and scheduler. Made by `from_pretrained`.

    Attributes:
        transformer: predicts the noise from noisy latents and embeddings.
        codec: turns latents into pictures.
        identities: the generator's and the VAE's weights, and the LoRA's, for the bundle.
        guidance_scale: used where the settings do not say one.
    """

    def __init__(
        self,
        transformer: PixCellTransformer2DModel,
        codec: LatentCodec,
        scheduler: Any,
        *,
        identities: tuple[ModelIdentity, ...] = (),
        guidance_scale: float | None = None,
    ) -> None:
        if codec.channels != transformer.config.in_channels:
            raise WeightsMismatchError(
                f"the VAE has {codec.channels} latent channels, but the generator was made for "
                f"one with {transformer.config.in_channels}",
                "name the VAE that the generator was trained with (SD3.5's for PixCell) by --vae",
            )
        self.transformer = transformer
        self.codec = codec
        self.identities = identities
        self._scheduler = scheduler
        self._found_batch_size: int | None = None
        self.guidance_scale = (
            _paper_guidance(self.tile_px) if guidance_scale is None else guidance_scale
        )

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: str,
        *,
        vae: str | None = None,
        lora: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = torch.float32,
    ) -> PixCell:
        """Load a generator for sampling.

        Args:
            path_or_repo: ``nano`` (in the package), a diffusers folder with ``transformer/``,
                ``scheduler/`` and perhaps ``vae/``, or a Hub repository of that layout such as
                ``StonyBrook-CVLab/PixCell-256``.
            vae: a folder or repository with the VAE; by default the generator's own, else the
                one of ``stabilityai/stable-diffusion-3.5-large``.
            lora: file or folder of a LoRA for this generator; merged into its weights.
            device: where to compute.
            dtype: ``fp32``, ``bf16`` or ``fp16``, or the torch dtype.

        Raises:
            WeightsError: files are missing, gated, damaged, or of another model.
            SettingsError: no such device or dtype.
        """
        target, kind = resolve_device(device), resolve_dtype(dtype)
        folders = find_folders(path_or_repo, vae)
        transformer = load_transformer(folders.root / "transformer")
        identities = folders.identities
        if lora is not None:
            load_lora(transformer, lora)
            merge_lora(transformer)
            identities = (*identities, identify_adapter(lora))
        codec = LatentCodec(load_vae(folders.vae))
        scheduler = load_scheduler(folders.root / "scheduler")
        model = cls(
            transformer,
            codec,
            scheduler,
            identities=identities,
            guidance_scale=folders.guidance_scale,
        )
        return model._to(target, kind)

    @property
    def tile_px(self) -> int:
        """Pixels along one side of a generated tile."""
        return int(self.transformer.config.sample_size * self.codec.factor)

    @property
    def tokens(self) -> int:
        """Embeddings of one image, a square row-major grid over it: 1 at 256 px, 16 at 1024."""
        return int(self.transformer.config.caption_num_tokens)

    @property
    def embedding_dim(self) -> int:
        """Channels of an embedding."""
        return int(self.transformer.config.caption_channels)

    def new_scheduler(self) -> Any:
        """A scheduler of one's own: solvers keep a state, and two runs must not share one."""
        return type(self._scheduler).from_config(self._scheduler.config)

    def require(self, *, tile_px: int, embedding_dim: int) -> None:
        """Refuse, before any work, tiles or an encoder that this model was not made for.

        Raises:
            WeightsMismatchError: another tile size or embedding dimension.
        """
        if (tile_px, embedding_dim) != (self.tile_px, self.embedding_dim):
            raise WeightsMismatchError(
                f"the generator was made for {self.tile_px} px tiles and embeddings of "
                f"{self.embedding_dim} channels, not {tile_px} px and {embedding_dim}",
                "choose the tile size and the encoder that the generator was trained with",
            )

    def generate(
        self,
        embeddings: npt.NDArray[np.floating[Any]],
        seeds: Sequence[int],
        settings: SamplerSettings | None = None,
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Draw one tile for each embedding, lazily, in batches of consecutive embeddings.

        The inputs are checked at once; a batch is computed when its first tile is asked for (on a
        GPU the next ones are begun then, too). Closing the iterator early stops all work.

        Args:
            embeddings: ``(N, T, D)``, or ``(N, D)`` where the model takes one embedding.
            seeds: one for each tile, as `tile_seed` gives.
            settings: by default those of the paper.

        Returns:
            ``N`` tiles ``uint8 (tile_px, tile_px, 3)``, in the order of the embeddings.

        Raises:
            SettingsError: the seeds do not fit, or an embedding is not finite.
            WeightsMismatchError: the embeddings are not what this model was made for.
            PixcellError: while iterating, if the arithmetic overflows in the chosen dtype.
        """
        chosen = settings or SamplerSettings()
        batch = self.batch(embeddings, seeds)
        return _tiles(self.draw(_slices(batch, self.batch_size(chosen)), chosen))

    def batch(self, embeddings: npt.NDArray[np.floating[Any]], seeds: Sequence[int]) -> Batch:
        """Embeddings and seeds of some tiles, checked as `generate` does."""
        checked = check_embeddings(embeddings, self.tokens, self.embedding_dim, self.tile_px)
        check_seeds(seeds, len(checked))
        return Batch(checked, seeds)

    def draw(
        self,
        batches: Iterable[Batch],
        settings: SamplerSettings | None = None,
        *,
        overlap: bool | None = None,
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Draw batches as they are given, lazily: what `generate` does, without a pause between.

        Args:
            batches: from `batch`, each at most ``batch_size(settings)`` long.
            settings: by default those of the paper.
            overlap: let noise, denoising and decoding run side by side; by default on a GPU.

        Returns:
            for each batch ``uint8 (B, tile_px, tile_px, 3)``.
        """
        chosen = settings or SamplerSettings()
        scale = chosen.guidance_scale
        drawing = Drawing(
            self.transformer,
            self.codec,
            self.new_scheduler,
            guidance_scale=self.guidance_scale if scale is None else scale,
            batch_size=self.batch_size(chosen),
            settings=chosen,
            overlap=overlap,
        )
        return drawing(batches)

    def batch_size(self, settings: SamplerSettings) -> int:
        """Tiles drawn together: as the settings say, else found for this device.

        Raises:
            PixcellError: not even one tile fits into the GPU's memory.
        """
        if settings.batch_size is not None:
            return settings.batch_size
        if self._found_batch_size is None:
            config, device = self.transformer.config, self.transformer.device
            patches = int(config.sample_size // config.patch_size) ** 2
            self._found_batch_size = (
                gpu_batch_size(patches, self._try, device)
                if device.type == "cuda"
                else cpu_batch_size(patches)
            )
        return self._found_batch_size

    def _try(self, count: int) -> None:
        """Draw ``count`` tiles in one step, for nothing."""
        empty = np.zeros((count, self.tokens, self.embedding_dim), np.float32)
        settings = SamplerSettings(steps=1, guidance_scale=2.0, batch_size=count)
        for _ in self.draw([Batch(empty, range(count))], settings, overlap=False):
            pass

    def _to(self, device: torch.device, dtype: torch.dtype) -> PixCell:
        """Move the parts; a VAE that asks for it stays float32 in place of float16."""
        vae = self.codec.vae
        upcast = dtype == torch.float16 and bool(vae.config.force_upcast)
        parts = ((vae, torch.float32 if upcast else dtype), (self.transformer, dtype))
        for part, kind in parts:
            # diffusers' own `to` warns about float32 modules, of which these classes have none.
            nn.Module.to(part, device, kind).eval().requires_grad_(False)
        # The layout that convolutions prefer: a fifth to a third off the time of decoding on a CPU.
        vae.to(memory_format=torch.channels_last)
        return self


def _paper_guidance(tile_px: int) -> float:
    """The paper's guidance scale: 2.0 at 256 px, 1.2 at 1024 px."""
    return 1.2 if tile_px >= _LARGE_PX else 2.0


def _slices(whole: Batch, size: int) -> Iterator[Batch]:
    """Batches of ``size`` consecutive tiles; the last may be smaller."""
    for start in range(0, len(whole.seeds), size):
        part = slice(start, start + size)
        yield Batch(whole.embeddings[part], whole.seeds[part])


def _tiles(batches: Iterator[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    for batch in batches:
        yield from batch
