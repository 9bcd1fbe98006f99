"""Pictures while training: what the averaged weights draw for some fixed conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from numpy.typing import NDArray
from torch import Tensor

from pixcell_share.nano.pictures import write_sheet
from pixcell_share.pixcell.model import PixCell
from pixcell_share.pixcell.sampler import SamplerSettings
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.pixcell.vae import LatentCodec, to_uint8
from pixcell_share.training.diffusion import BETA_END, BETA_START, STEPS
from pixcell_share.training.latents import Source, Split

_BATCH = 4


def build_scheduler(prediction: str) -> Any:
    """PixCell's sampler, DPM-Solver++ of order 2, on the noise schedule of the training.

    Args:
        prediction: ``epsilon`` or ``v_prediction``.
    """
    return DPMSolverMultistepScheduler(
        num_train_timesteps=STEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="linear",
        prediction_type=prediction,
    )


def build_transformer(
    config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> PixCellTransformer2DModel:
    """A model of its own from a config and a state dict; draws no random numbers."""
    with torch.device("meta"):
        model: PixCellTransformer2DModel = PixCellTransformer2DModel(**config)
    model.load_state_dict(dict(weights), assign=True)
    model.fill_tables()
    return model


def take_conditions(
    sources: Sequence[Source], tokens: int, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], Split]:
    """Evenly spaced held-out regions of the first store, of its training where none is held out.

    Returns:
        Latents (n, C, s, s) as the VAE gives them, embeddings (n, T, D), and the split.
    """
    store = sources[0].store
    split: Split = "holdout" if store.count("holdout") else "train"
    rows = np.unique(np.linspace(0, store.count(split) - 1, count).astype(np.int64))
    places = np.zeros((len(rows), 2), dtype=np.int64)
    found = store.read_crops(split, rows, places, tokens)
    good = found.finite
    return (
        found.latents[good].astype(np.float32),
        found.embeddings[good].astype(np.float32),
        split,
    )


class SampleGrid:
    """Writes ``samples/step-N.png``: real regions through the VAE, below them the samples.

    Args:
        folder: of the run.
        config: of the transformer.
        prediction: what it predicts.
        vae: on the device to compute on.
        latents: of the real regions, as the VAE gives them.
        embeddings: their conditions, (n, T, D).
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        prediction: str,
        vae: Any,
        latents: NDArray[np.float32],
        embeddings: NDArray[np.float32],
    ) -> None:
        self._folder = folder / "samples"
        self._config = config
        self._scheduler = build_scheduler(prediction)
        self._codec = LatentCodec(vae)
        self._latents, self._embeddings = latents, embeddings
        self._real: NDArray[np.uint8] | None = None

    def __call__(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Draw with ``weights``; each picture has a seed of its own, the same at every step.

        Raises:
            PixcellError: the weights give NaN or infinite numbers.
        """
        if self._real is None:
            self._real = self._decode()
        device = self._codec.vae.device
        model = build_transformer(self._config, weights).to(device).eval().requires_grad_(False)
        generator = PixCell(model, self._codec, self._scheduler)
        settings = SamplerSettings(batch_size=_BATCH)
        drawn = generator.generate(self._embeddings, range(len(self._embeddings)), settings)
        write_sheet(self._folder / f"step-{step:08d}.png", [self._real, np.stack(list(drawn))])

    @torch.inference_mode()
    def _decode(self) -> NDArray[np.uint8]:
        scaled = (torch.from_numpy(self._latents) - self._codec.shift) * self._codec.scale
        pictures: NDArray[np.uint8] = to_uint8(self._codec.decode(scaled)).cpu().numpy()
        return pictures
