"""The generator and the encoder of a run, loaded when first needed and pinned to the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pixcell_share.encoders import Encoder, embed_grid, load_encoder
from pixcell_share.encoders.second import SecondEncoder, require_independent, second_encoder
from pixcell_share.pixcell import PixCell
from pixcell_share.weights import ModelIdentity
from site_agent.settings import SynthesisSettings


@dataclass(frozen=True)
class Embedder:
    """What the audit needs of an encoder; an `Encoder` is one."""

    name: str
    dim: int
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Models:
    """Both models of a run: loading takes seconds to minutes, and many runs need only one."""

    def __init__(self, settings: SynthesisSettings) -> None:
        self._settings = settings

    @cached_property
    def generator(self) -> PixCell:
        """PixCell.

        Raises:
            WeightsError: its weights cannot be used.
        """
        settings = self._settings
        return PixCell.from_pretrained(
            settings.model,
            vae=settings.vae,
            device=settings.torch_device,
            dtype=settings.torch_dtype,
        )

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that conditions the generator.

        Raises:
            WeightsMismatchError: the generator was not trained with its embeddings, or not for
                tiles of this size.
            WeightsError: its weights cannot be used.
        """
        settings = self._settings
        encoder = load_encoder(
            settings.encoder_name,
            weights=settings.weights,
            device=settings.torch_device,
            dtype=None if settings.dtype == "auto" else settings.torch_dtype,
            trust_remote_code=settings.trust_remote_code,
        )
        self.generator.require(tile_px=settings.tiling.tile_px, embedding_dim=encoder.dim)
        return encoder

    @cached_property
    def audit_encoder(self) -> Encoder:
        """The encoder of the audit.

        Raises:
            SettingsError: it is the one that conditions.
            WeightsError: its weights cannot be used.
        """
        settings = self._settings
        encoder = load_encoder(
            self._choice.name,
            weights=settings.audit_weights,
            device=settings.torch_device,
            dtype=None if settings.dtype == "auto" else settings.torch_dtype,
            trust_remote_code=settings.trust_remote_code,
        )
        require_independent(self.encoder, encoder)
        return encoder

    @property
    def audit_choice(self) -> str:
        """Which encoder audits, and how strong it is, in a sentence."""
        return self._choice.sentence

    @cached_property
    def _choice(self) -> SecondEncoder:
        settings = self._settings
        return second_encoder(
            settings.encoder_name,
            settings.audit_encoder,
            trust_remote_code=settings.trust_remote_code,
        )

    @property
    def conditioning_encoder(self) -> Embedder:
        """The encoder that conditions, giving one vector for each tile."""
        return Embedder(self.encoder.name, self.encoder.dim, self.embed_one)

    def in_full_precision(self) -> PixCell:
        """The generator in float32: a loss that is compared needs all its digits."""
        settings = self._settings
        return PixCell.from_pretrained(
            settings.model, vae=settings.vae, device=settings.torch_device, dtype=torch.float32
        )

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Condition of each image: (B, D) for one token, (B, T, D) for a grid of T."""
        tokens = self.generator.tokens
        if tokens == 1:
            return self.encoder.embed(images)
        return embed_grid(self.encoder, images, grid=round(tokens**0.5))

    def embed_one(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One vector (B, D) for each image, to compare tiles by."""
        return one_vector(self.embed(images))

    @property
    def identities(self) -> tuple[ModelIdentity, ...]:
        """Which weights the run used, and under which terms."""
        return (*self.generator.identities, self.encoder.identity)


def one_vector(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """(B, D) from (B, D) or (B, T, D): the mean over the grid of a large tile."""
    mean: NDArray[np.float32] = embeddings if embeddings.ndim == 2 else embeddings.mean(axis=1)
    return mean
