"""The figures of the card: an exported folder against tiles of groups that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixcell_share.encoders import Encoder, load_encoder
from pixcell_share.nano.batches import to_images, to_tensor
from pixcell_share.nano.descriptor import describe
from pixcell_share.nano.fidelity import ClassProbe, colour_agreement, finds_group, psnr
from pixcell_share.nano.frechet import Features, Whitening, frechet_distance
from pixcell_share.nano.tiles import Images, TileSet
from pixcell_share.pixcell import PixCell, SamplerSettings


@dataclass(frozen=True)
class EvaluationSettings:
    """How much is drawn and compared."""

    count: int = 128
    """Held-out tiles that condition one synthetic tile each."""
    guidances: tuple[float, ...] = (1.25, 2.0)
    """Guidance scales to compare."""
    steps: int = 20
    """Solver steps."""
    batch: int = 16
    """Tiles at once."""
    encoder_directions: int = 48
    """Principal directions of the encoder that its Fréchet distance uses."""
    training_tiles: int = 1000
    """Training tiles that yardsticks and the class probe are fitted to."""


@dataclass(frozen=True)
class Evaluation:
    """Figures, and the pictures that belong to them."""

    figures: dict[str, Any]
    real: Images
    reconstructed: Images
    synthetic: dict[float, Images]
    """By guidance scale."""


class Evaluator:
    """Compares synthetic, reconstructed and real tiles."""

    def __init__(
        self,
        tiles: TileSet,
        weights: Path,
        settings: EvaluationSettings,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._tiles = tiles
        self._settings = settings
        self._device = device
        self._model = PixCell.from_pretrained(str(weights), device=device, dtype=dtype)
        self._encoder: Encoder = load_encoder("nano", weights=str(weights / "encoder"))
        fitted = spread(tiles, tiles.train, settings.training_tiles)
        self._fitted_groups = fitted
        embeddings = self._embed(tiles.lung[fitted])
        descriptors = self._describe(tiles.lung[fitted])
        self._probe = ClassProbe(embeddings, tiles.classes[fitted])
        self._encoder_space = Whitening.fit(embeddings, settings.encoder_directions)
        self._mean, self._deviation = descriptors.mean(0), descriptors.std(0) + 1e-6

    def run(self) -> Evaluation:
        """Draw, reconstruct, and compare with real tiles of held-out groups."""
        chosen = spread(self._tiles, self._tiles.held, self._settings.count)
        real = np.asarray(self._tiles.lung[chosen])
        reconstructed = self._reconstruct(real)
        synthetic = {scale: self._draw(real, scale) for scale in self._settings.guidances}
        figures: dict[str, Any] = {
            "tiles": len(chosen),
            "held_out_groups": len(np.unique(self._tiles.groups[chosen])),
            "steps": self._settings.steps,
            "vae_psnr_db": round(psnr(real, reconstructed), 2),
            "frechet": self._distances(chosen, real, reconstructed, synthetic),
            "fidelity": {
                "real": self._fidelity(chosen, real, real),
                "reconstructed": self._fidelity(chosen, reconstructed, real),
                **{
                    f"synthetic, guidance {scale:g}": self._fidelity(chosen, drawn, real)
                    for scale, drawn in synthetic.items()
                },
            },
        }
        return Evaluation(figures, real, reconstructed, synthetic)

    def _distances(
        self,
        chosen: NDArray[np.int64],
        real: Images,
        reconstructed: Images,
        synthetic: dict[float, Images],
    ) -> dict[str, dict[str, float]]:
        """Fréchet distances to the real held-out tiles, beside those of real tiles."""
        tiles, count = self._tiles, len(chosen)
        others = np.setdiff1d(tiles.held, chosen)
        names = np.unique(tiles.groups[chosen])
        half = np.isin(tiles.groups[chosen], names[::2])
        samples = {f"synthetic, guidance {scale:g}": drawn for scale, drawn in synthetic.items()}
        samples["reconstructed"] = reconstructed
        samples["real, training groups"] = tiles.lung[spread(tiles, tiles.train, count)]
        if len(others):
            samples["real, same groups"] = tiles.lung[spread(tiles, others, count)]
        distances = {name: self._pair(sample, real) for name, sample in samples.items()}
        distances["real, half of the groups against the other half"] = self._pair(
            real[half], real[~half]
        )
        return distances

    def _pair(self, first: Images, second: Images) -> dict[str, float]:
        descriptors = [
            (self._describe(images) - self._mean) / self._deviation for images in (first, second)
        ]
        embeddings = [self._encoder_space(self._embed(images)) for images in (first, second)]
        return {
            "descriptor": round(frechet_distance(*descriptors), 2),
            "encoder": round(frechet_distance(*embeddings), 2),
        }

    def _fidelity(
        self, chosen: NDArray[np.int64], images: Images, real: Images
    ) -> dict[str, float]:
        tiles = self._tiles
        embeddings = self._embed(images)
        gallery = np.setdiff1d(tiles.held, chosen)
        figures = colour_agreement(images, real)
        figures["class_probe"] = self._probe.accuracy(embeddings, tiles.classes[chosen])
        if len(gallery):
            gallery = spread(tiles, gallery, 4 * len(chosen))
            figures["finds_its_group"] = finds_group(
                embeddings,
                self._embed(tiles.lung[gallery]),
                tiles.groups[chosen],
                tiles.groups[gallery],
            )
        return {name: round(value, 3) for name, value in figures.items()}

    def _draw(self, real: Images, scale: float) -> Images:
        embeddings = self._embed(real).astype(np.float32)
        settings = SamplerSettings(
            steps=self._settings.steps, guidance_scale=scale, batch_size=self._settings.batch
        )
        return np.stack(list(self._model.generate(embeddings, range(len(real)), settings)))

    @torch.inference_mode()
    def _reconstruct(self, images: Images) -> Images:
        codec = self._model.codec
        parts = [
            to_images(codec.decode(codec.encode(to_tensor(part, self._device))))
            for part in _batches(images, self._settings.batch)
        ]
        return np.concatenate(parts)

    def _embed(self, images: Images) -> Features:
        parts = [self._encoder.embed(part) for part in _batches(images, self._settings.batch)]
        return np.concatenate(parts).astype(np.float64)

    @torch.inference_mode()
    def _describe(self, images: Images) -> Features:
        parts = [
            describe(to_tensor(part)).numpy() for part in _batches(images, self._settings.batch)
        ]
        return np.concatenate(parts).astype(np.float64)


def spread(tiles: TileSet, side: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` indices out of ``side``, taking turns between its groups; all if fewer."""
    groups = tiles.groups[side]
    turn = np.empty(len(side), dtype=np.int64)
    for name in np.unique(groups):
        members = np.flatnonzero(groups == name)
        turn[members] = np.arange(len(members))
    return np.sort(side[np.lexsort((groups, turn))[:count]])


def _batches(images: Images, size: int) -> Sequence[Images]:
    return [images[at : at + size] for at in range(0, len(images), size)]
